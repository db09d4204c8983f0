//! Any bytes as a GGUF file: opening never panics, and what opens can be decoded.
#![no_main]

use ds4_gguf::{File, blocks};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = File::from_bytes("fuzz", bytes.to_vec()) else { return };
    for tensor in file.tensors().iter().filter(|t| t.format.is_decodable()) {
        let rows = tensor.rows().min(4);
        let mut out = vec![0.0; (tensor.cols() * rows) as usize];
        let len = (tensor.len / tensor.rows() * rows) as usize;
        blocks::decode(tensor.format, &file.bytes(tensor)[..len], &mut out).expect("the reader checked the shape");
    }
});
