//! Products in plain code: the truth that the other families are tested against.

pub(crate) mod float;
pub(crate) mod indexer;
pub(crate) mod iq2_xxs;
pub(crate) mod limits;
pub(crate) mod q2_k;
pub(crate) mod q4_k;
pub(crate) mod q8_0;

use super::products::{Activation, SUPER, fold4};

/// Integers of one block of 256 columns.
pub(crate) struct BlockSums {
    pub(crate) d: f32,
    pub(crate) dmin: f32,
    /// Σ scale·w·q
    pub(crate) products: i32,
    /// Σ min·q; none in IQ2_XXS
    pub(crate) mins: Option<i32>,
}

/// One row: `sums(block, q, sums of q by 16)` of each block, then the lanes. `unit` is what the activation's scale counts.
#[inline(always)]
pub(crate) fn super_row<const N: usize>(
    row: &[u8],
    x: Activation<'_>,
    unit: f32,
    sums: impl Fn(&[u8; N], &[i8; SUPER], &[i16; SUPER / 16]) -> BlockSums,
) -> f32 {
    let mut lanes = [0.0f32; 4];
    let (q, by_16) = (x.q.as_chunks().0, x.sums.as_chunks().0);
    for (u, block) in row.as_chunks::<N>().0.iter().enumerate() {
        let (s, dx, lane) = (sums(block, &q[u], &by_16[u]), x.d[u], &mut lanes[u % 4]);
        *lane = (s.products as f32).mul_add(s.d * (dx * unit), *lane);
        if let Some(mins) = s.mins {
            *lane = (mins as f32).mul_add(-(s.dmin * dx), *lane);
        }
    }
    fold4(lanes)
}

#[inline(always)]
fn dot(w: &[u8], q: &[i8]) -> i32 {
    w.iter().zip(q).map(|(w, q)| i32::from(*w) * i32::from(*q)).sum()
}
