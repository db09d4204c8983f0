//! Any bytes as a saved turn are refused, or are exactly what would be written.

#![no_main]

use ds4_dialog::Saved;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for bytes in [data.to_vec(), Saved::seal(data.to_vec())] {
        if let Some(saved) = Saved::from_bytes(&bytes) {
            assert_eq!(saved.to_bytes(), bytes);
        }
    }
});
