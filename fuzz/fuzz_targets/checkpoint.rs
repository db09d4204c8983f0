//! Any bytes as the header of a safetensors file, or as the index of a sharded checkpoint: neither panics, and what a
//! header describes lies one after the other.
#![no_main]

use ds4_lab::convert::{parse_header, parse_index};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((mut tensors, data)) = parse_header(bytes) {
        tensors.sort_by_key(|t| t.start);
        let mut end = 0;
        for tensor in &tensors {
            assert!(tensor.start >= end || tensor.shape.contains(&0));
            let bits = tensor.shape.iter().fold(tensor.dtype.bitsize() as u64, |n, d| n * *d as u64);
            end = end.max(tensor.start + bits / 8);
        }
        assert_eq!(end, data);
    }
    if let Ok(map) = parse_index(bytes) {
        assert!(map.values().all(|file| !file.contains('/') && file != ".."));
    }
});
