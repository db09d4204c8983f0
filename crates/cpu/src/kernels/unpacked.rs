//! Rows of 256-column blocks unpacked once for many tokens, where a family has nothing better.

use ds4_gguf::Format;
use ds4_gguf::blocks::{iq2_xxs, q2_k, q4_k};

use super::products::{Activation, SUPER, fold4};

/// Columns that share a multiplier in [`SuperRow`].
const SUB: usize = 16;

/// A Q4_K, Q2_K or IQ2_XXS row unpacked to integers, once for all the tokens it meets.
#[derive(Default)]
pub struct SuperRow {
    /// `[cols]`
    quants: Vec<i8>,
    /// `[cols / 16]` multiplier of the integer dot product
    scales: Vec<u8>,
    /// `[cols / 16]` multiplier of the activations' sum; empty for IQ2_XXS
    mins: Vec<u8>,
    /// `[cols / 256]`
    d: Vec<f32>,
    /// `[cols / 256]`
    dmin: Vec<f32>,
    /// What the activation's scale is multiplied by: IQ2_XXS counts in eighths.
    unit: f32,
}

impl SuperRow {
    /// Unpacks a stored row. `format` is one of the three.
    pub fn unpack(&mut self, format: Format, row: &[u8]) {
        for v in [&mut self.scales, &mut self.mins] {
            v.clear();
        }
        self.quants.clear();
        self.d.clear();
        self.dmin.clear();
        self.unit = if format == Format::IQ2_XXS { 0.125 } else { 1.0 };
        match format {
            Format::Q4_K => row.as_chunks().0.iter().for_each(|b| self.push_q4_k(&q4_k::unpack(b))),
            Format::Q2_K => row.as_chunks().0.iter().for_each(|b| self.push_q2_k(&q2_k::unpack(b))),
            Format::IQ2_XXS => row.as_chunks().0.iter().for_each(|b| self.push_iq2_xxs(&iq2_xxs::unpack(b))),
            _ => unreachable!("{} has no blocks of 256", format.name()),
        }
    }

    fn push_q4_k(&mut self, b: &q4_k::Unpacked) {
        self.quants.extend(b.quants.iter().map(|&q| q as i8));
        self.scales.extend(b.scales.iter().flat_map(|&s| [s; 2]));
        self.mins.extend(b.mins.iter().flat_map(|&m| [m; 2]));
        self.d.push(b.d);
        self.dmin.push(b.dmin);
    }

    fn push_q2_k(&mut self, b: &q2_k::Unpacked) {
        self.quants.extend(b.quants.iter().map(|&q| q as i8));
        self.scales.extend(b.scales);
        self.mins.extend(b.mins);
        self.d.push(b.d);
        self.dmin.push(b.dmin);
    }

    fn push_iq2_xxs(&mut self, b: &iq2_xxs::Unpacked) {
        self.quants.extend(b.quants);
        self.scales.extend(b.scales.iter().flat_map(|&k| [2 * k + 1; 2]));
        self.d.push(b.d);
    }

    /// The row times one token's activations.
    pub fn dot(&self, x: Activation<'_>) -> f32 {
        super_dot(self, x.q, x.d, x.sums)
    }
}

#[inline(always)]
fn dot_i8(w: &[i8], q: &[i8]) -> i32 {
    let mut s = 0;
    for (w, q) in w.iter().zip(q) {
        s += i32::from(*w) * i32::from(*q);
    }
    s
}

kernel! {
fn super_dot(row: &SuperRow, q: &[i8], d: &[f32], sums: &[i16]) -> f32 {
    let mut lanes = [0.0f32; 4];
    for (u, dx) in d.iter().enumerate() {
        let subs = u * SUPER / SUB..(u + 1) * SUPER / SUB;
        let columns = u * SUPER..(u + 1) * SUPER;
        let quants = row.quants[columns.clone()].as_chunks::<SUB>().0;
        let mut s1 = 0i32;
        for ((w, q), scale) in quants.iter().zip(q[columns].as_chunks::<SUB>().0).zip(&row.scales[subs.clone()]) {
            s1 += *scale as i32 * dot_i8(w, q);
        }
        let lane = &mut lanes[u % 4];
        *lane = (s1 as f32).mul_add(row.d[u] * (dx * row.unit), *lane);
        if !row.mins.is_empty() {
            let mut s2 = 0;
            for (m, s) in row.mins[subs.clone()].iter().zip(&sums[subs]) {
                s2 += i32::from(*m) * i32::from(*s);
            }
            *lane = (s2 as f32).mul_add(-(row.dmin[u] * dx), *lane);
        }
    }
    fold4(lanes)
}
}
