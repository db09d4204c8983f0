//! How many experts steps use, for measurements.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ds4_model::{Ops, Seen, Tap};

/// Experts that steps used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpertsUsed {
    /// Layers computed, in all steps.
    pub layers: u64,
    /// Distinct experts of each of these, added up.
    pub distinct: u64,
}

/// Counts that grow while others look at them.
#[derive(Default)]
pub(crate) struct Counts {
    layers: AtomicU64,
    distinct: AtomicU64,
}

impl Counts {
    pub(crate) fn read(&self) -> ExpertsUsed {
        ExpertsUsed { layers: self.layers.load(Relaxed), distinct: self.distinct.load(Relaxed) }
    }
}

/// Looks at the router's choices.
pub(crate) struct Counter {
    counts: Arc<Counts>,
}

impl Counter {
    pub(crate) fn new(counts: Arc<Counts>) -> Self {
        Self { counts }
    }
}

impl<B: Ops> Tap<B> for Counter {
    fn see(&mut self, ops: &mut B, _: usize, seen: Seen<'_, B>) {
        if let Seen::Chosen(picks, _) = seen {
            let mut experts = ops.read_picks(picks);
            experts.sort_unstable();
            experts.dedup();
            self.counts.layers.fetch_add(1, Relaxed);
            self.counts.distinct.fetch_add(experts.len() as u64, Relaxed);
        }
    }
}
