//! Ids to text while they are being generated.

use crate::Tokenizer;

/// Decodes one id at a time and returns only whole characters.
///
/// A token may end inside a character; its bytes are held back until the rest arrives. Bytes that cannot become a
/// character are replaced by U+FFFD as [`String::from_utf8_lossy`] would, so that everything returned, put together, is
/// [`Tokenizer::decode`] of all ids.
#[derive(Debug)]
pub struct StreamDecoder<'t> {
    tokenizer: &'t Tokenizer,
    /// The beginning of a character, at most three bytes.
    held: Vec<u8>,
}

impl<'t> StreamDecoder<'t> {
    /// A decoder at the start of a text.
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, held: Vec::new() }
    }

    /// The text that `id` completes; empty while a character is incomplete.
    ///
    /// An id that the vocabulary lacks is U+FFFD, as in [`Tokenizer::decode`].
    pub fn push(&mut self, id: u32) -> String {
        self.held.extend_from_slice(self.tokenizer.bytes_or_replacement(id));
        let tail = self.held.utf8_chunks().last().map_or(0, |chunk| incomplete(chunk.invalid()));
        let whole = self.held.len() - tail;
        let text = String::from_utf8_lossy(&self.held[..whole]).into_owned();
        self.held.drain(..whole);
        text
    }

    /// The rest of the text: U+FFFD if it ended inside a character, else nothing.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.held).into_owned()
    }
}

/// How many bytes wait for more, given the invalid bytes at the end of the text.
fn incomplete(invalid: &[u8]) -> usize {
    match std::str::from_utf8(invalid) {
        Err(error) if error.error_len().is_none() => invalid.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use crate::{StreamDecoder, sample};
    use proptest::prelude::*;

    #[test]
    fn a_character_arrives_whole() {
        let tokenizer = sample::tokenizer();
        let ids = tokenizer.encode("é🙂");
        assert_eq!(ids.len(), 6, "the sample vocabulary has no merges for them");
        let mut decoder = StreamDecoder::new(&tokenizer);
        let pushes: Vec<_> = ids.iter().map(|&id| decoder.push(id)).collect();
        assert_eq!(pushes, ["", "é", "", "", "", "🙂"]);
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn a_broken_character_is_replaced_once_it_cannot_be_completed() {
        let tokenizer = sample::tokenizer();
        let byte = |b| sample::byte_id(&tokenizer, b);
        let mut decoder = StreamDecoder::new(&tokenizer);
        assert_eq!(decoder.push(byte(0xF0)), "");
        assert_eq!(decoder.push(byte(0x9F)), "");
        assert_eq!(decoder.push(byte(b'a')), "\u{FFFD}a");
        assert_eq!(decoder.push(byte(0xC3)), "");
        assert_eq!(decoder.push(tokenizer.eos()), "\u{FFFD}<｜end▁of▁sentence｜>");
        assert_eq!(decoder.push(byte(0xE4)), "");
        assert_eq!(decoder.finish(), "\u{FFFD}");
    }

    proptest! {
        #[test]
        fn pushes_and_finish_are_the_lossy_text(ids in prop::collection::vec(0u32..320, 0..60)) {
            let tokenizer = sample::tokenizer();
            let mut decoder = StreamDecoder::new(&tokenizer);
            let mut text: String = ids.iter().map(|&id| decoder.push(id)).collect();
            text += &decoder.finish();
            prop_assert_eq!(&text, &tokenizer.decode(&ids));
            prop_assert_eq!(text, String::from_utf8_lossy(&tokenizer.decode_bytes(&ids)).into_owned());
        }
    }
}
