//! Q2_K: 256 elements in 84 bytes: `s[16]`, `q[64]`, `d` (f16), `dmin` (f16).
//!
//! Each 16 elements have a 4-bit scale (low nibble of `s`) and a 4-bit minimum (high nibble). Each 32 bytes of `q` hold
//! 128 elements: bits 0-1 of the 32 bytes are elements 0 to 31, bits 2-3 are 32 to 63, and so on.
//! x = d scale q - dmin min.

use super::f16_at;

/// Elements in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 84;

/// A block's numbers as integers: x\[i\] = d scales\[i / 16\] quants\[i\] - dmin mins\[i / 16\].
#[derive(Clone, Debug, PartialEq)]
pub struct Unpacked {
    /// Scale of the scales.
    pub d: f32,
    /// Scale of the minimums.
    pub dmin: f32,
    /// Scale of each 16 elements, 0 to 15.
    pub scales: [u8; 16],
    /// Minimum of each 16 elements, 0 to 15.
    pub mins: [u8; 16],
    /// In element order, 0 to 3.
    pub quants: [u8; BLOCK_LEN],
}

/// Unpacks a block.
#[inline]
pub fn unpack(block: &[u8; BLOCK_BYTES]) -> Unpacked {
    let s: &[u8; 16] = block.first_chunk().expect("84 bytes start with 16");
    let mut quants = [0; BLOCK_LEN];
    for (half, packed) in quants.chunks_exact_mut(128).zip(block[16..80].chunks_exact(32)) {
        for (pair, quarter) in half.chunks_exact_mut(32).enumerate() {
            for (q, &byte) in quarter.iter_mut().zip(packed) {
                *q = byte >> (2 * pair) & 3;
            }
        }
    }
    Unpacked {
        d: f16_at(block, 80),
        dmin: f16_at(block, 82),
        scales: s.map(|s| s & 15),
        mins: s.map(|s| s >> 4),
        quants,
    }
}

/// Decodes a block.
#[inline]
pub fn decode_block(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let b = unpack(block);
    for (j, (x, q)) in out.chunks_exact_mut(16).zip(b.quants.chunks_exact(16)).enumerate() {
        let (scale, min) = (b.d * f32::from(b.scales[j]), b.dmin * f32::from(b.mins[j]));
        for (x, &q) in x.iter_mut().zip(q) {
            *x = scale * f32::from(q) - min;
        }
    }
}
