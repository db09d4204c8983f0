//! Text to token ids and back, exactly as DeepSeek V4 was trained.
//!
//! Encoding goes through three steps, one file each:
//!
//! 1. **added tokens** (`tokenizer.rs`): `<｜User｜>`, `<think>`, `｜DSML｜` and 1,280 more are literal strings with ids of
//!    their own. The caller decides which of them count: all ([`Tokenizer::encode`], what Hugging Face does), none
//!    ([`Tokenizer::encode_inert`], for text that somebody else wrote), or exactly those at given places
//!    ([`Tokenizer::encode_marked`], for a rendered conversation).
//! 2. **pieces** (`split.rs`): the text between them is cut into numbers, runs of CJK, words, punctuation and white space.
//! 3. **byte-level BPE** (the `tokenizers` crate): each piece's bytes are merged, lowest rank first.
//!
//! [`Vocabulary`] holds the lists a GGUF stores under `tokenizer.ggml.*`; [`Vocabulary::from_hf_json`] makes the same from a
//! `tokenizer.json`. [`StreamDecoder`] turns ids back into text while they are being generated.
//!
//! Invariants: decoding what was encoded gives the same text; inert text never yields an added token; nothing a caller
//! passes in makes this crate panic.

mod alphabet;
mod error;
mod hf_json;
#[cfg(test)]
mod sample;
mod split;
mod stream;
mod tokenizer;
mod vocabulary;

pub use error::Error;
pub use stream::StreamDecoder;
pub use tokenizer::Tokenizer;
pub use vocabulary::{TokenType, Vocabulary};
