//! Any bytes as a segment of the cache, or as its beginning: neither panics, and what is taken is written back the same.
#![no_main]

use ds4_kv::{Header, Segment, SegmentName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = Segment::decode(bytes);
    if let Ok(header) = Header::decode(bytes) {
        assert!(header.tokens.len() <= Segment::MOST_TOKENS && header.end() >= header.tokens.len());
        assert!(whole.is_err() || header.file_bytes() == bytes.len() as u64);
    }
    if let Ok(segment) = whole {
        assert_eq!(segment.encode().as_deref(), Ok(bytes));
    }
    if let Some(name) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<SegmentName>().ok()) {
        assert_eq!(name.to_string().as_bytes(), bytes);
    }
    // Most inputs end at the first checksum: this one is right.
    Segment::decode(&sealed(bytes)).ok().inspect(|segment| assert!(segment.encode().is_ok()));
});

/// The same bytes with a header whose beginning and checksum are right.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let tokens = usize::from(bytes.first().copied().unwrap_or(0)) + 1;
    let hashed = 40 + 4 * tokens + 36 * (tokens / 128 + 1);
    let mut sealed = [b"ds4 seg\n", &1u32.to_le_bytes()[..], &(tokens as u32).to_le_bytes()].concat();
    sealed.extend_from_slice(bytes.get(1..).unwrap_or_default());
    let payload = sealed.split_off(sealed.len().min(hashed));
    sealed.resize(hashed, 0);
    let hash = blake3::hash(&sealed);
    [&sealed, &hash.as_bytes()[..], &payload].concat()
}
