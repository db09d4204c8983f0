//! Block formats: how tensor payloads become numbers and back.
//!
//! Decoding has one right answer. In every quantised format here the products of scales and quants fit in the 24 bits
//! of an `f32` and are exact, and at most one subtraction rounds, so neither the order of the factors nor a fused
//! multiply-add can change a bit.

pub mod float;
pub mod iq2_xxs;
pub mod q2_k;
pub mod q4_k;
pub mod q8_0;

mod iq2_grid;

pub use float::f16_to_f32;

use crate::{Error, Format};

/// Decodes whole blocks (so also whole rows) into `out`.
///
/// # Errors
/// A format that is not decodable; an `out` that is not whole blocks; `bytes` of another length than `out` needs.
pub fn decode(format: Format, bytes: &[u8], out: &mut [f32]) -> Result<(), Error> {
    if !format.is_decodable() {
        return Err(refuse(format, "cannot be decoded"));
    }
    match format.row_bytes(out.len() as u64) {
        None => {
            let problem = format!("{} elements are not whole blocks of {}", out.len(), format.block_len());
            return Err(refuse(format, problem));
        }
        Some(expected) if expected != bytes.len() as u64 => {
            let problem = format!("expected {expected} bytes for {} elements, found {}", out.len(), bytes.len());
            return Err(refuse(format, problem));
        }
        Some(_) => {}
    }
    match format {
        Format::F32 => float::decode_f32(bytes, out),
        Format::F16 => float::decode_f16(bytes, out),
        Format::BF16 => float::decode_bf16(bytes, out),
        Format::Q8_0 => each_block(bytes, out, q8_0::decode_block),
        Format::Q4_K => each_block(bytes, out, q4_k::decode_block),
        Format::Q2_K => each_block(bytes, out, q2_k::decode_block),
        Format::IQ2_XXS => each_block(bytes, out, iq2_xxs::decode_block),
        Format::I32 | Format::Other(_) => unreachable!("refused above"),
    }
    Ok(())
}

/// Encodes whole blocks, appending them to `out`.
///
/// # Errors
/// A format other than F32, F16, BF16 and Q8_0; an `x` that is not whole blocks; a value that Q8_0 cannot hold (not
/// finite, or a block's scale above the largest f16). `out` is as before then.
pub fn encode(format: Format, x: &[f32], out: &mut Vec<u8>) -> Result<(), Error> {
    match format {
        Format::F32 => float::encode_f32(x, out),
        Format::F16 => float::encode_f16(x, out),
        Format::BF16 => float::encode_bf16(x, out),
        Format::Q8_0 => return encode_q8_0(x, out),
        _ => return Err(refuse(format, "cannot be encoded")),
    }
    Ok(())
}

fn encode_q8_0(x: &[f32], out: &mut Vec<u8>) -> Result<(), Error> {
    let (blocks, []) = x.as_chunks() else {
        let problem = format!("{} elements are not whole blocks of {}", x.len(), q8_0::BLOCK_LEN);
        return Err(refuse(Format::Q8_0, problem));
    };
    let start = out.len();
    out.reserve(blocks.len() * q8_0::BLOCK_BYTES);
    for (i, block) in blocks.iter().enumerate() {
        let Some(bytes) = q8_0::encode_block(block) else {
            out.truncate(start);
            return Err(refuse(Format::Q8_0, format!("block {i} holds a value that is not finite or too large")));
        };
        out.extend_from_slice(&bytes);
    }
    Ok(())
}

fn each_block<const N: usize, const L: usize>(bytes: &[u8], out: &mut [f32], decode: fn(&[u8; N], &mut [f32; L])) {
    for (block, x) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        decode(block, x);
    }
}

fn refuse(format: Format, problem: impl Into<String>) -> Error {
    Error::Blocks { format, problem: problem.into() }
}

/// The f16 at byte `at` of a block.
fn f16_at(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_lengths_and_formats_are_refused() {
        let mut out = [0.0; 256];
        for (format, bytes, len, text) in [
            (Format::Q4_K, 143, 256, "Q4_K: expected 144 bytes for 256 elements, found 143"),
            (Format::Q4_K, 144, 255, "Q4_K: 255 elements are not whole blocks of 256"),
            (Format::F16, 6, 2, "F16: expected 4 bytes for 2 elements, found 6"),
            (Format::I32, 4, 1, "I32: cannot be decoded"),
            (Format::Other(14), 210, 256, "Q6_K: cannot be decoded"),
            (Format::Other(99), 0, 0, "type 99: cannot be decoded"),
        ] {
            assert_eq!(decode(format, &vec![0; bytes], &mut out[..len]).unwrap_err().to_string(), text);
        }
        for (format, len, text) in [
            (Format::Q2_K, 256, "Q2_K: cannot be encoded"),
            (Format::Q8_0, 31, "Q8_0: 31 elements are not whole blocks of 32"),
        ] {
            assert_eq!(encode(format, &out[..len], &mut Vec::new()).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn q8_0_refuses_what_it_cannot_hold_and_leaves_no_half_row() {
        let mut out = vec![7];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            let mut x = [1.0; 64];
            x[40] = bad;
            let error = encode(Format::Q8_0, &x, &mut out).unwrap_err();
            assert_eq!(error.to_string(), "Q8_0: block 1 holds a value that is not finite or too large");
            assert_eq!(out, [7]);
        }
    }
}
