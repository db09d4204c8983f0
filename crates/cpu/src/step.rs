//! What the operations on a step's tokens share.

use std::sync::Mutex;

use ds4_model::Batch;

use crate::attend::AttendScratch;
use crate::pool::Pool;

/// (sin, cos) of each channel pair.
pub(crate) type Angles = Vec<(f32, f32)>;

/// The tokens of a step, and the machine.
pub(crate) struct Step<'a> {
    pub(crate) pool: &'a mut Pool,
    pub(crate) scratch: &'a [Mutex<AttendScratch>],
    pub(crate) batch: &'a Batch,
    /// Rotation of each token in the layer's table, `[T][pairs]`
    pub(crate) angles: &'a Angles,
}

/// Compressed rows that the token at `position` sees.
pub(crate) fn visible(position: u32, ratio: usize) -> usize {
    (position as usize + 1) / ratio
}
