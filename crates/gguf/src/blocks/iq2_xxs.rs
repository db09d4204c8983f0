//! IQ2_XXS: 256 elements in 66 bytes: `d` (f16), then 8 bytes for each 32 elements.
//!
//! The first four of those bytes name a line of the grid for each eight elements. The other four are a u32: four 7-bit
//! sign codes from bit 0, and the scale `k` in the top four bits. The signs of eight elements always have an even
//! number of minuses, so the eighth is the parity of the seven stored. x = d (0.5 + k) 0.25 grid sign.

pub use super::iq2_grid::GRID;

use super::f16_at;

/// Elements in a block.
pub const BLOCK_LEN: usize = 256;
/// Bytes in a block.
pub const BLOCK_BYTES: usize = 66;

/// A block's numbers as integers: x\[i\] = d (0.5 + scales\[i / 32\]) 0.25 quants\[i\].
#[derive(Clone, Debug, PartialEq)]
pub struct Unpacked {
    /// Scale of the block.
    pub d: f32,
    /// k of each 32 elements, 0 to 15.
    pub scales: [u8; 8],
    /// Grid values with their signs, in element order: ±8, ±25 or ±43.
    pub quants: [i8; BLOCK_LEN],
}

/// The signs of eight elements from their 7-bit `code`: bit i set means that element i is negative.
#[inline]
pub const fn sign_mask(code: u8) -> u8 {
    let parity = (code.count_ones() & 1) as u8;
    code | parity << 7
}

/// [`sign_mask`] of every code, each bit widened to a byte of ones.
pub static SIGNS: [u64; 128] = {
    let mut signs = [0; 128];
    let mut code = 0;
    while code < 128 {
        let mask = sign_mask(code as u8);
        let mut i = 0;
        while i < 8 {
            signs[code] |= ((mask >> i & 1) as u64 * 255) << (8 * i);
            i += 1;
        }
        code += 1;
    }
    signs
};

/// Negates the bytes of `values` under `signs`, all eight at once: ~v + 1 carries into no other byte, as no v is zero.
#[inline]
fn negate(values: u64, signs: u64) -> u64 {
    (values ^ signs) + (signs & 0x0101_0101_0101_0101)
}

/// Unpacks a block.
#[inline]
pub fn unpack(block: &[u8; BLOCK_BYTES]) -> Unpacked {
    let mut scales = [0; 8];
    let mut quants = [0u8; BLOCK_LEN];
    let groups = block[2..].as_chunks::<8>().0;
    for ((out, k), group) in quants.as_chunks_mut::<32>().0.iter_mut().zip(&mut scales).zip(groups) {
        let [lines @ .., s0, s1, s2, s3] = *group;
        let lines: [u8; 4] = lines;
        let signs = u32::from_le_bytes([s0, s1, s2, s3]);
        *k = (signs >> 28) as u8;
        for (j, (eight, line)) in out.as_chunks_mut::<8>().0.iter_mut().zip(lines).enumerate() {
            let code = (signs >> (7 * j) & 127) as usize;
            *eight = negate(GRID[usize::from(line)], SIGNS[code]).to_le_bytes();
        }
    }
    Unpacked { d: f16_at(block, 0), scales, quants: bytemuck::cast(quants) }
}

/// Decodes a block.
#[inline]
pub fn decode_block(block: &[u8; BLOCK_BYTES], out: &mut [f32; BLOCK_LEN]) {
    let b = unpack(block);
    for (j, (x, q)) in out.chunks_exact_mut(32).zip(b.quants.chunks_exact(32)).enumerate() {
        let scale = b.d * (0.5 + f32::from(b.scales[j])) * 0.25;
        for (x, &q) in x.iter_mut().zip(q) {
            *x = scale * f32::from(q);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_even() {
        assert_eq!(sign_mask(0), 0);
        assert_eq!(sign_mask(0b1), 0b1000_0001);
        assert_eq!(sign_mask(0b11), 0b11);
        assert!((0..128).all(|code| sign_mask(code).count_ones().is_multiple_of(2)));
    }

    #[test]
    fn the_grid_has_three_values() {
        assert!(GRID.iter().flat_map(|line| line.to_le_bytes()).all(|v| matches!(v, 8 | 25 | 43)));
    }
}
