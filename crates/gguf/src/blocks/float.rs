//! Plain floats: f32, f16 and bf16 as tensors hold them, and the 8-bit and 4-bit floats of Hugging Face checkpoints and
//! of stored rows.

use half::slice::HalfFloatSliceExt;

/// The f32 equal to the IEEE half `bits`; exact, subnormals, infinities and NaN included.
///
/// All three cases are computed and two selects pick one, so loops over this become vector code on any machine.
#[inline]
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff) << 13; // exponent and fraction where f32 has them
    let normal = magnitude + (112 << 23); // from bias 15 to bias 127
    let special = normal + (112 << 23); // an exponent of 31 becomes 255
    // With the exponent of 2^-14 the fraction f reads 2^-14 (1 + f); what is left without the 1 is a subnormal's value.
    const LEAST_NORMAL: u32 = 113 << 23;
    let subnormal = (f32::from_bits(magnitude + LEAST_NORMAL) - f32::from_bits(LEAST_NORMAL)).to_bits();
    let finite = if bits & 0x7c00 == 0 { subnormal } else { normal };
    let magnitude = if bits & 0x7c00 == 0x7c00 { special } else { finite };
    f32::from_bits(sign | magnitude)
}

/// The f32 whose upper half is `bits`.
#[inline]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The f32 equal to an FP8 number: sign, 4 exponent bits with bias 7, 3 fraction bits; no infinities, 0x7f and 0xff are
/// NaN (the "fn" kind of E4M3).
#[inline]
pub const fn e4m3fn_to_f32(bits: u8) -> f32 {
    let sign = (bits as u32 & 0x80) << 24;
    let exponent = (bits as u32 >> 3) & 15;
    let fraction = bits as u32 & 7;
    let magnitude = if bits & 0x7f == 0x7f {
        f32::NAN
    } else if exponent == 0 {
        fraction as f32 / 512.0 // 2^-6 (fraction / 8)
    } else {
        f32::from_bits((exponent + 120) << 23 | fraction << 20)
    };
    f32::from_bits(sign | magnitude.to_bits())
}

/// [`e4m3fn_to_f32`] of every byte.
pub static E4M3FN: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = e4m3fn_to_f32(i as u8);
        i += 1;
    }
    table
};

/// The values of FP4 numbers: sign, 2 exponent bits with bias 1, 1 fraction bit; neither infinities nor NaN (E2M1).
pub const E2M1: [f32; 16] = [0., 0.5, 1., 1.5, 2., 3., 4., 6., -0., -0.5, -1., -1.5, -2., -3., -4., -6.];

/// The power of two that an E8M0 scale stands for: 2^(bits - 127), from 2^-127 to 2^127; 255 is NaN.
#[inline]
pub const fn e8m0_to_f32(bits: u8) -> f32 {
    match bits {
        0 => f32::from_bits(1 << 22), // 2^-127, a subnormal
        255 => f32::NAN,
        exponent => f32::from_bits((exponent as u32) << 23),
    }
}

pub(super) fn decode_f32(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out.iter_mut().zip(bytes.as_chunks().0) {
        *x = f32::from_le_bytes(*b);
    }
}

pub(super) fn decode_f16(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out.iter_mut().zip(bytes.as_chunks().0) {
        *x = f16_to_f32(u16::from_le_bytes(*b));
    }
}

pub(super) fn decode_bf16(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out.iter_mut().zip(bytes.as_chunks().0) {
        *x = bf16_to_f32(u16::from_le_bytes(*b));
    }
}

pub(super) fn encode_f32(x: &[f32], out: &mut Vec<u8>) {
    out.extend(x.iter().flat_map(|x| x.to_le_bytes()));
}

/// Rounds to nearest, ties to even; NaN stays NaN.
pub(super) fn encode_f16(x: &[f32], out: &mut Vec<u8>) {
    let mut halves = [half::f16::ZERO; 256]; // slices are converted with the machine's instructions
    for x in x.chunks(halves.len()) {
        let halves = &mut halves[..x.len()];
        halves.convert_from_f32_slice(x);
        out.extend(halves.iter().flat_map(|h| h.to_le_bytes()));
    }
}

/// Rounds to nearest, ties to even; NaN stays NaN.
pub(super) fn encode_bf16(x: &[f32], out: &mut Vec<u8>) {
    out.extend(x.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Format, blocks};

    #[test]
    fn every_half_is_exact() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (f16_to_f32(bits), half::f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:#06x}");
            assert_eq!(bf16_to_f32(bits).to_bits(), u32::from(bits) << 16);
        }
    }

    #[test]
    fn every_number_of_16_bits_survives_decode_and_encode() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for format in [Format::F16, Format::BF16] {
            let mut x = vec![0.0; 1 << 16];
            let mut back = Vec::new();
            blocks::decode(format, &bytes, &mut x).unwrap();
            blocks::encode(format, &x, &mut back).unwrap();
            for (i, (a, b)) in bytes.as_chunks::<2>().0.iter().zip(back.as_chunks::<2>().0).enumerate() {
                let mut again = [0.0];
                blocks::decode(format, b, &mut again).unwrap();
                assert!(a == b || x[i].is_nan() && again[0].is_nan(), "{format} {i:#06x}");
            }
        }
    }

    #[test]
    fn encoding_rounds_to_nearest_even() {
        let encode = |format, x: f32| {
            let mut out = Vec::new();
            blocks::encode(format, &[x], &mut out).unwrap();
            u16::from_le_bytes(out.try_into().unwrap())
        };
        // 1 + n 2^-11 lies half way between neighbours for odd n.
        assert_eq!(encode(Format::F16, 1.0 + 1.0 / 2048.0), 0x3c00);
        assert_eq!(encode(Format::F16, 1.0 + 3.0 / 2048.0), 0x3c02);
        assert_eq!(encode(Format::F16, 65519.0), 0x7bff, "the largest half");
        assert_eq!(encode(Format::F16, 65520.0), 0x7c00, "infinity");
        assert_eq!(encode(Format::F16, 2f32.powi(-25)), 0, "half of the least subnormal");
        assert_eq!(encode(Format::F16, 1.5 * 2f32.powi(-24)), 2);
        assert_eq!(encode(Format::BF16, 1.0 + 1.0 / 256.0), 0x3f80);
        assert_eq!(encode(Format::BF16, 1.0 + 3.0 / 256.0), 0x3f82);
        assert_eq!(encode(Format::BF16, f32::MAX), 0x7f80, "infinity");
        assert!(f16_to_f32(encode(Format::F16, f32::from_bits(0x7f80_0001))).is_nan());
        assert!(bf16_to_f32(encode(Format::BF16, f32::from_bits(0x7f80_0001))).is_nan());
    }

    #[test]
    fn f32_is_copied() {
        let bits = [0u32, 1, 0x8000_0000, 0x7fc0_1234, 0x3f80_0000];
        let mut out = Vec::new();
        blocks::encode(Format::F32, &bits.map(f32::from_bits), &mut out).unwrap();
        let mut back = [0.0; 5];
        blocks::decode(Format::F32, &out, &mut back).unwrap();
        assert_eq!(back.map(f32::to_bits), bits);
    }

    #[test]
    fn eight_bit_floats_at_their_corners() {
        assert_eq!([0x00, 0x01, 0x08, 0x38, 0x7e].map(e4m3fn_to_f32), [0.0, 1.0 / 512.0, 1.0 / 64.0, 1.0, 448.0]);
        assert_eq!(e4m3fn_to_f32(0x80).to_bits(), (-0f32).to_bits());
        assert!(e4m3fn_to_f32(0xff).is_nan());
        assert_eq!([0, 1, 127, 254].map(e8m0_to_f32), [-127, -126, 0, 127].map(|e| 2f32.powi(e)));
        assert!(e8m0_to_f32(255).is_nan());
    }

    #[test]
    fn four_bit_floats_follow_their_definition() {
        for code in 0..16u8 {
            let (exponent, fraction) = (i32::from(code >> 1 & 3), f32::from(code & 1));
            let magnitude =
                if exponent == 0 { fraction / 2.0 } else { (1.0 + fraction / 2.0) * 2f32.powi(exponent - 1) };
            let value = if code & 8 == 0 { magnitude } else { -magnitude };
            assert_eq!(E2M1[usize::from(code)].to_bits(), value.to_bits(), "{code}");
        }
    }
}
