//! Any ids decode, streamed or at once, to the same text; any text survives encoding.

#![no_main]

use std::sync::LazyLock;

use ds4_engine::Model;
use ds4_tokenizer::{StreamDecoder, Tokenizer};
use libfuzzer_sys::fuzz_target;

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../mini/v4-mini.gguf");
    Model::open(path.as_ref()).expect("the built-in model").tokenizer
});

fuzz_target!(|data: &[u8]| {
    let ids: Vec<u32> = data.as_chunks::<2>().0.iter().map(|b| u32::from(u16::from_le_bytes(*b)) % 1100).collect();
    let mut decoder = StreamDecoder::new(&TOKENIZER);
    let mut streamed: String = ids.iter().map(|id| decoder.push(*id)).collect();
    streamed += &decoder.finish();
    assert_eq!(streamed, TOKENIZER.decode(&ids));

    let text = String::from_utf8_lossy(data);
    assert_eq!(TOKENIZER.decode(&TOKENIZER.encode(&text)), text);
    let inert = TOKENIZER.encode_inert(&text);
    assert!(inert.iter().all(|id| !TOKENIZER.is_added(*id)));
    assert_eq!(TOKENIZER.decode(&inert), text);
});
