//! Products of weight rows with activations (docs/numerics.md 1 and 3).

use ds4_gguf::Format;
use ds4_gguf::blocks::{f16_to_f32, float::bf16_to_f32, iq2_xxs, q2_k, q4_k, q8_0};

use super::math::{self, LANES, fold};

kernel! {
/// Dot product of f32 rows.
pub fn f32_row(row: &[f32], x: &[f32]) -> f32 {
    math::dot(row, x)
}
}

kernel! {
/// Dot product of a stored F32, F16 or BF16 row with `x`.
pub fn float_row(format: Format, row: &[u8], x: &[f32]) -> f32 {
    match format {
        Format::F16 => widened::<2>(row, x, |b| f16_to_f32(u16::from_le_bytes(b))),
        Format::BF16 => widened::<2>(row, x, |b| bf16_to_f32(u16::from_le_bytes(b))),
        _ => widened::<4>(row, x, f32::from_le_bytes),
    }
}
}

/// A dot product that widens its row 16 elements at a time.
#[inline(always)]
fn widened<const N: usize>(row: &[u8], x: &[f32], widen: impl Fn([u8; N]) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let row = row.as_chunks::<N>().0;
    let (whole, rest) = row.as_chunks::<LANES>();
    let (x_whole, x_rest) = x.as_chunks::<LANES>();
    for (row, x) in whole.iter().zip(x_whole) {
        for j in 0..LANES {
            lanes[j] = widen(row[j]).mul_add(x[j], lanes[j]);
        }
    }
    for (j, (w, x)) in rest.iter().zip(x_rest).enumerate() {
        lanes[j] = widen(*w).mul_add(*x, lanes[j]);
    }
    fold(lanes)
}

/// Four lanes of whole blocks.
#[inline(always)]
fn fold4(l: [f32; 4]) -> f32 {
    (l[0] + l[2]) + (l[1] + l[3])
}

#[inline(always)]
fn dot_i8(w: &[i8], q: &[i8]) -> i32 {
    w.iter().zip(q).map(|(w, q)| *w as i32 * *q as i32).sum()
}

kernel! {
/// A stored Q8_0 row times 8-bit activations; `d` one scale per 32 columns.
pub fn q8_0_row(row: &[u8], q: &[i8], d: &[f32]) -> f32 {
    let blocks = row.as_chunks::<{ q8_0::BLOCK_BYTES }>().0;
    let q = q.as_chunks::<{ q8_0::BLOCK_LEN }>().0;
    let mut lanes = [0.0f32; 4];
    for ((block, q), d) in blocks.chunks(4).zip(q.chunks(4)).zip(d.chunks(4)) {
        for (lane, ((block, q), d)) in lanes.iter_mut().zip(block.iter().zip(q).zip(d)) {
            *lane = (dot_i8(q8_0::quants(block), q) as f32).mul_add(q8_0::scale(block) * d, *lane);
        }
    }
    fold4(lanes)
}
}

/// Columns that share an activation scale and a row's `d` in the formats of 256-column blocks.
pub const SUPER: usize = 256;
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

    /// The row times 8-bit activations: `d` per 256 columns, `sums` of `q` per 16.
    pub fn dot(&self, q: &[i8], d: &[f32], sums: &[i16]) -> f32 {
        super_dot(self, q, d, sums)
    }
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
            let s2: i32 = row.mins[subs.clone()].iter().zip(&sums[subs]).map(|(m, s)| *m as i32 * *s as i32).sum();
            *lane = (s2 as f32).mul_add(-(row.dmin[u] * dx), *lane);
        }
    }
    fold4(lanes)
}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::activations::{quantise, sums_of_16};
    use ds4_gguf::blocks;

    /// Pseudo-random bytes with small, finite block scales.
    fn random_row(format: Format, cols: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut row: Vec<u8> = (0..cols / format.block_len() * format.block_bytes())
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        let scale = half::f16::from_f32(0.01).to_le_bytes();
        for block in row.chunks_mut(format.block_bytes()) {
            let at: &[usize] = match format {
                Format::Q2_K => &[80, 82],
                Format::Q4_K => &[0, 2],
                _ => &[0],
            };
            at.iter().for_each(|&at| block[at..at + 2].copy_from_slice(&scale));
        }
        row
    }

    #[test]
    fn integer_products_are_the_decoded_products() {
        for (i, format) in [Format::Q8_0, Format::Q4_K, Format::Q2_K, Format::IQ2_XXS].into_iter().enumerate() {
            let cols = 1280;
            let row = random_row(format, cols, i as u64);
            let x: Vec<f32> = (0..cols).map(|i| ((i * 31) % 255) as f32 - 127.0).collect();
            let block = if format == Format::Q8_0 { 32 } else { SUPER };
            let (mut q, mut d) = (vec![0; cols], vec![0.0; cols / block]);
            quantise(&x, block, &mut q, &mut d);
            let mut sums = vec![0; cols / 16];
            sums_of_16(&q, &mut sums);

            let got = match format {
                Format::Q8_0 => q8_0_row(&row, &q, &d),
                _ => {
                    let mut unpacked = SuperRow::default();
                    unpacked.unpack(format, &row);
                    unpacked.dot(&q, &d, &sums)
                }
            };

            let mut w = vec![0.0; cols];
            blocks::decode(format, &row, &mut w).unwrap();
            let product = |i: usize| w[i] as f64 * q[i] as f64 * d[i / block] as f64;
            let want: f64 = (0..cols).map(product).sum();
            let size: f64 = (0..cols).map(|i| product(i).abs()).sum();
            assert!((got as f64 - want).abs() <= 1e-6 * size, "{}: {got} instead of {want}", format.name());
        }
    }

    #[test]
    fn float_rows_of_any_length_equal_their_widened_form() {
        for cols in [1, 15, 16, 17, 64, 100] {
            let x: Vec<f32> = (0..cols).map(|i| (i as f32 * 0.7).sin()).collect();
            for format in [Format::F32, Format::F16, Format::BF16] {
                let mut row = Vec::new();
                let values: Vec<f32> = (0..cols).map(|i| (i as f32 * 0.3).cos()).collect();
                blocks::encode(format, &values, &mut row).unwrap();
                let mut wide = vec![0.0; cols];
                blocks::decode(format, &row, &mut wide).unwrap();
                assert_eq!(float_row(format, &row, &x).to_bits(), f32_row(&wide, &x).to_bits());
            }
        }
    }
}
