//! Q8_0: 32 elements in 34 bytes: `d` (f16), `q[32]` (i8). x = d q.

use super::{f16_at, f16_to_f32};

/// Elements in a block.
pub const BLOCK_LEN: usize = 32;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 34;

/// The block's scale, exactly.
#[inline]
pub fn scale(block: &[u8; BLOCK_BYTES]) -> f32 {
    f16_at(block, 0)
}

/// The block's quants in element order.
#[inline]
pub fn quants(block: &[u8; BLOCK_BYTES]) -> &[i8; BLOCK_LEN] {
    bytemuck::cast_ref(block.last_chunk::<BLOCK_LEN>().expect("34 bytes end in 32"))
}

/// Decodes a block.
#[inline]
pub fn decode_block(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let d = scale(block);
    for (x, &q) in out.iter_mut().zip(quants(block)) {
        *x = d * f32::from(q);
    }
}

/// Encodes a block as ggml does: d = amax / 127 in f32, q = x (1 / d) rounded half away from zero, d stored as f16.
/// `None` if a value is not finite or the scale is above the largest f16.
pub fn encode_block(x: &[f32; BLOCK_LEN]) -> Option<[u8; BLOCK_BYTES]> {
    // Magnitudes compare like their bits; a NaN's are above those of infinity.
    let amax = x.iter().fold(0, |m, x| m.max((x.to_bits() & 0x7fff_ffff) as i32));
    let d = f32::from_bits(amax as u32) / 127.0;
    let stored = half::f16::from_f32(d).to_bits();
    if !f16_to_f32(stored).is_finite() {
        return None;
    }
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    let mut block = [0; BLOCK_BYTES];
    block[..2].copy_from_slice(&stored.to_le_bytes());
    for (q, &x) in block[2..].iter_mut().zip(x) {
        // The clamp matters only where d is so small that 1 / d overflows; -128 would break kernels that take |q|.
        *q = round_half_away((x * inverse).clamp(-127.0, 127.0)) as i8 as u8;
    }
    Some(block)
}

/// The nearest whole number of |x| <= 127, halves away from zero; 0 for NaN. Unlike `f32::round` and casts to integers
/// it becomes vector code on any machine.
#[inline]
fn round_half_away(x: f32) -> i32 {
    // Around 1.5 2^23 floats are whole numbers: the sum is rounded to the nearest one, halves to even.
    const WHOLE: f32 = 12_582_912.0;
    let x = if x.is_nan() { 0.0 } else { x };
    let sum = x + WHOLE;
    let rest = x - (sum - WHOLE); // exact
    let even = sum.to_bits() as i32 - WHOLE.to_bits() as i32;
    even + i32::from((rest == 0.5) & (x > 0.0)) - i32::from((rest == -0.5) & (x < 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_integers_up_to_127_is_kept() {
        let x: [f32; 32] = std::array::from_fn(|i| i as f32 * 4.0 - 127.0 + (i == 31) as u8 as f32 * 3.0);
        let block = encode_block(&x).unwrap();
        assert_eq!(scale(&block), 1.0);
        let mut out = [0.0; 32];
        decode_block(&block, &mut out);
        assert_eq!(out, x);
    }

    #[test]
    fn halves_round_away_from_zero() {
        let mut x = [0.0; 32];
        x[..5].copy_from_slice(&[127.0, 0.5, 1.5, -0.5, -2.5]);
        assert_eq!(quants(&encode_block(&x).unwrap())[..5], [127, 1, 2, -1, -3]);
    }

    #[test]
    fn rounding_is_that_of_the_standard_library() {
        let halves = (-253..=253).map(|i| i as f32 / 2.0);
        for x in halves.flat_map(|x| [x, x.next_up(), x.next_down()]).chain([f32::NAN, 1e-40, -0.0, 127.0, -127.0]) {
            assert_eq!(round_half_away(x), x.round() as i32, "{x}");
        }
    }

    #[test]
    fn zeros_and_the_tiniest_values_encode() {
        assert_eq!(encode_block(&[0.0; 32]), Some([0; BLOCK_BYTES]));
        let mut x = [0.0; 32];
        (x[0], x[1]) = (1e-44, -1e-44);
        let block = encode_block(&x).unwrap();
        assert_eq!(scale(&block), 0.0);
        assert!(quants(&block).iter().all(|&q| q != -128));
    }
}
