//! Q4_K: 256 elements in 144 bytes: `d` (f16), `dmin` (f16), `s[12]`, `q[128]`.
//!
//! Eight sub-blocks of 32 elements, each with a 6-bit scale and a 6-bit minimum packed in `s`. Each 32 bytes of `q`
//! hold two sub-blocks: the low nibbles are the first, the high nibbles the second. x = d scale q - dmin min.

use super::f16_at;

/// Elements in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 144;

/// A block's numbers as integers: x\[i\] = d scales\[i / 32\] quants\[i\] - dmin mins\[i / 32\].
#[derive(Clone, Debug, PartialEq)]
pub struct Unpacked {
    /// Scale of the scales.
    pub d: f32,
    /// Scale of the minimums.
    pub dmin: f32,
    /// Scale of each 32 elements, 0 to 63.
    pub scales: [u8; 8],
    /// Minimum of each 32 elements, 0 to 63.
    pub mins: [u8; 8],
    /// In element order, 0 to 15.
    pub quants: [u8; BLOCK_LEN],
}

/// Unpacks a block.
#[inline]
pub fn unpack(block: &[u8; BLOCK_BYTES]) -> Unpacked {
    let (scales, mins) = scales_and_mins(block);
    let mut quants = [0; BLOCK_LEN];
    for (pair, packed) in quants.chunks_exact_mut(64).zip(block[16..].chunks_exact(32)) {
        for (i, &byte) in packed.iter().enumerate() {
            pair[i] = byte & 15;
            pair[32 + i] = byte >> 4;
        }
    }
    Unpacked { d: f16_at(block, 0), dmin: f16_at(block, 2), scales, mins, quants }
}

/// The 6-bit scales and minimums. Those of sub-blocks 0 to 3 are the low six bits of `s[0..4]` and `s[4..8]`; those of
/// 4 to 7 have their low four bits in the nibbles of `s[8..12]` and their upper two in the top bits of `s[0..8]`.
#[inline(always)]
pub fn scales_and_mins(block: &[u8; BLOCK_BYTES]) -> ([u8; 8], [u8; 8]) {
    // Four bytes at a time.
    let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let (s, m, low) = (word(4), word(8), word(12));
    let join = |first: u32, second: u32| (u64::from(first) | u64::from(second) << 32).to_le_bytes();
    let upper = |s: u32| s >> 2 & 0x3030_3030;
    (join(s & 0x3F3F_3F3F, low & 0x0F0F_0F0F | upper(s)), join(m & 0x3F3F_3F3F, low >> 4 & 0x0F0F_0F0F | upper(m)))
}

/// Decodes a block.
#[inline]
pub fn decode_block(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let b = unpack(block);
    for (j, (x, q)) in out.chunks_exact_mut(32).zip(b.quants.chunks_exact(32)).enumerate() {
        let (scale, min) = (b.d * f32::from(b.scales[j]), b.dmin * f32::from(b.mins[j]));
        for (x, &q) in x.iter_mut().zip(q) {
            *x = scale * f32::from(q) - min;
        }
    }
}
