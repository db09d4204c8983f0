//! Stored rows: FP8 key/value rows and FP4 indexer rows (docs/numerics.md 7).

use ds4_gguf::blocks::float::{E2M1, E4M3FN, e8m0_to_f32};
use ds4_model::RowLayout;
use half::f16;

/// Columns that share a scale in an indexer row.
pub const FP4_BLOCK: usize = 32;
/// Scale byte of a block that held a NaN or infinity.
const BROKEN: u8 = 255;
/// Twice the value of each e2m1 code.
pub(super) const FP4_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Stores `x` as a row.
pub fn encode(layout: RowLayout, x: &[f32], row: &mut [u8]) {
    match layout {
        RowLayout::F32 { .. } => {
            for (bytes, x) in row.as_chunks_mut::<4>().0.iter_mut().zip(x) {
                *bytes = x.to_le_bytes();
            }
        }
        RowLayout::Fp8 { nope, block, .. } => encode_fp8(x, nope, block, row),
        RowLayout::Fp4 { width } => encode_fp4(x, width, row),
    }
}

kernel! {
/// Reads a row back.
pub fn decode(layout: RowLayout, row: &[u8], x: &mut [f32]) {
    match layout {
        RowLayout::F32 { .. } => {
            for (x, bytes) in x.iter_mut().zip(row.as_chunks::<4>().0) {
                *x = f32::from_le_bytes(*bytes);
            }
        }
        RowLayout::Fp8 { nope, block, .. } => decode_fp8(row, nope, block, x),
        RowLayout::Fp4 { width } => decode_fp4(row, width, x),
    }
}
}

fn encode_fp8(x: &[f32], nope: usize, block: usize, row: &mut [u8]) {
    let (codes, rest) = row.split_at_mut(nope);
    let (scales, rope) = rest.split_at_mut(nope / block);
    for ((x, codes), scale) in x.chunks(block).zip(codes.chunks_mut(block)).zip(scales) {
        *scale = scale_byte(x, 1e-4, 448.0);
        let r = inverse_scale(*scale);
        for (code, x) in codes.iter_mut().zip(x) {
            *code = fp8_code((x * r).clamp(-448.0, 448.0));
        }
    }
    for (bytes, x) in rope.as_chunks_mut::<2>().0.iter_mut().zip(&x[nope..]) {
        *bytes = f16::from_f32(x.clamp(-65504.0, 65504.0)).to_le_bytes();
    }
}

#[inline(always)]
fn decode_fp8(row: &[u8], nope: usize, block: usize, x: &mut [f32]) {
    let (codes, rest) = row.split_at(nope);
    let (scales, rope) = rest.split_at(nope / block);
    let (x, x_rope) = x.split_at_mut(nope);
    for ((x, codes), scale) in x.chunks_mut(block).zip(codes.chunks(block)).zip(scales) {
        let scale = e8m0_to_f32(*scale);
        for (x, code) in x.iter_mut().zip(codes) {
            *x = E4M3FN[*code as usize] * scale;
        }
    }
    for (x, bytes) in x_rope.iter_mut().zip(rope.as_chunks::<2>().0) {
        *x = ds4_gguf::blocks::f16_to_f32(u16::from_le_bytes(*bytes));
    }
}

fn encode_fp4(x: &[f32], width: usize, row: &mut [u8]) {
    let (codes, scales) = row.split_at_mut(width / 2);
    for ((x, codes), scale) in x.chunks(FP4_BLOCK).zip(codes.chunks_mut(FP4_BLOCK / 2)).zip(scales) {
        *scale = scale_byte(x, 6.0 * f32::MIN_POSITIVE, 6.0);
        let r = inverse_scale(*scale);
        for (byte, pair) in codes.iter_mut().zip(x.as_chunks::<2>().0) {
            *byte = fp4_code(pair[0] * r) | (fp4_code(pair[1] * r) << 4);
        }
    }
}

#[inline(always)]
fn decode_fp4(row: &[u8], width: usize, x: &mut [f32]) {
    for (b, x) in x[..width].chunks_mut(FP4_BLOCK).enumerate() {
        let scale = e8m0_to_f32(row[width / 2 + b]);
        for (pair, byte) in x.as_chunks_mut::<2>().0.iter_mut().zip(&row[b * FP4_BLOCK / 2..]) {
            *pair = [byte & 15, byte >> 4].map(|code| E2M1[code as usize] * scale);
        }
    }
}

/// Block `b` of an indexer row: twice its values as integers, and half its scale.
#[inline(always)]
pub fn fp4_block(row: &[u8], width: usize, b: usize, doubled: &mut [i8; FP4_BLOCK]) -> f32 {
    let bytes = &row[b * FP4_BLOCK / 2..][..FP4_BLOCK / 2];
    for (pair, byte) in doubled.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [FP4_DOUBLED[(byte & 15) as usize], FP4_DOUBLED[(byte >> 4) as usize]];
    }
    0.5 * e8m0_to_f32(row[width / 2 + b])
}

/// Biased exponent of 2^ceil(log2(max(amax, floor) / largest)).
fn scale_byte(x: &[f32], floor: f32, largest: f32) -> u8 {
    let amax = f32::from_bits(x.iter().map(|x| x.to_bits() & 0x7FFF_FFFF).fold(0, u32::max));
    if !amax.is_finite() {
        return BROKEN;
    }
    let bits = (amax.max(floor) * (1.0 / largest)).to_bits();
    (bits >> 23) as u8 + u8::from(bits & 0x7F_FFFF != 0)
}

/// 1 / scale, a power of two; zero for a broken block.
fn inverse_scale(byte: u8) -> f32 {
    match byte {
        BROKEN => 0.0,
        254 => f32::from_bits(0x0040_0000),
        _ => f32::from_bits((254 - byte as u32) << 23),
    }
}

/// The nearest e4m3 code of |v| <= 448, ties to the even code; NaN gives zero (its block is broken anyway).
fn fp8_code(v: f32) -> u8 {
    if v.is_nan() {
        return 0;
    }
    let sign = ((v.to_bits() >> 24) & 0x80) as u8;
    let magnitude = v.abs();
    if magnitude < 0.015_625 {
        // Below 2^-6 codes count steps of 2^-9; 8 is the first normal code.
        return sign | (magnitude * 512.0).round_ties_even() as u8;
    }
    // Keep three mantissa bits; a carry runs into the exponent. Then move the bias from 127 to 7.
    let bits = magnitude.to_bits();
    let rounded = bits + 0x7_FFFF + ((bits >> 20) & 1);
    sign | ((rounded >> 20) - (120 << 3)) as u8
}

/// The nearest e2m1 code, clamped to ±6, ties to the even code.
fn fp4_code(v: f32) -> u8 {
    let sign = ((v.to_bits() >> 28) & 8) as u8;
    let m = v.abs();
    // Ties go to the even code: upwards from odd codes, hence >= at every other boundary.
    let code = (m > 0.25) as u8
        + (m >= 0.75) as u8
        + (m > 1.25) as u8
        + (m >= 1.75) as u8
        + (m > 2.5) as u8
        + (m >= 3.5) as u8
        + (m > 5.0) as u8;
    sign | code
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: RowLayout = RowLayout::Fp8 { nope: 64, block: 64, rope: 2 };

    fn through(layout: RowLayout, x: &[f32]) -> Vec<f32> {
        let mut row = vec![0; layout.bytes()];
        let mut y = vec![0.0; x.len()];
        encode(layout, x, &mut row);
        decode(layout, &row, &mut y);
        y
    }

    #[test]
    fn every_code_survives_its_own_rounding() {
        for code in (0..=255u8).filter(|c| c & 0x7F != 0x7F) {
            assert_eq!(fp8_code(E4M3FN[code as usize]), code);
        }
        for code in 0..16u8 {
            assert_eq!(
                FP4_DOUBLED[fp4_code(FP4_DOUBLED[code as usize] as f32 / 2.0) as usize],
                FP4_DOUBLED[code as usize]
            );
        }
    }

    #[test]
    fn halfway_values_go_to_the_even_code() {
        for code in 0..0x7E {
            let half = (E4M3FN[code] + E4M3FN[code + 1]) / 2.0;
            assert_eq!(fp8_code(half) as usize, if code % 2 == 0 { code } else { code + 1 });
            assert_eq!(fp8_code(half.next_down()) as usize, code);
            assert_eq!(fp8_code(half.next_up()) as usize, code + 1);
        }
        for code in 0..7 {
            let half = (FP4_DOUBLED[code] + FP4_DOUBLED[code + 1]) as f32 / 4.0;
            assert_eq!(fp4_code(half) as usize, if code % 2 == 0 { code } else { code + 1 });
        }
    }

    #[test]
    fn reading_a_stored_row_and_storing_it_again_changes_nothing() {
        let x: Vec<f32> = (0..66).map(|i| ((i * 37) % 101) as f32 * 0.173 - 8.0).collect();
        let once = through(ROW, &x);
        assert_eq!(through(ROW, &once), once);
        let once = through(RowLayout::Fp4 { width: 64 }, &x[..64]);
        assert_eq!(through(RowLayout::Fp4 { width: 64 }, &once), once);
    }

    #[test]
    fn a_broken_value_breaks_its_block_only() {
        let mut x = vec![1.0; 64];
        x[40] = f32::INFINITY;
        let y = through(RowLayout::Fp4 { width: 64 }, &x);
        assert!(y[..32].iter().all(|y| *y == 1.0) && y[32..].iter().all(|y| y.is_nan()));
        x.extend([f32::NAN, 1e9]);
        let y = through(ROW, &x);
        assert!(y[..65].iter().all(|y| y.is_nan()));
        assert_eq!(y[65], 65504.0);
    }

    #[test]
    fn extreme_magnitudes_keep_a_usable_scale() {
        for magnitude in [0.0, f32::MIN_POSITIVE, 1e-30, 1e30, 2e38] {
            let y = through(RowLayout::Fp4 { width: 32 }, &[magnitude; 32]);
            assert!(y[0].is_finite() && (y[0] - magnitude).abs() <= magnitude / 4.0, "{magnitude} became {}", y[0]);
        }
    }
}
