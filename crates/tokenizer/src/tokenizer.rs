//! Encoding, decoding, and what is known about single tokens.

use crate::split::Splitter;
use crate::{Error, TokenType, Vocabulary, alphabet};
use aho_corasick::{AhoCorasick, MatchKind};
use std::ops::Range;
use tokenizers::Model as _;
use tokenizers::models::bpe::BPE;

/// What an id outside the vocabulary decodes to: U+FFFD.
const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();

/// Longest piece that is merged as one. Merging takes some 110 bytes for each of its bytes, and text can be one piece of any
/// length; no text that people write comes near this.
const MAX_PIECE: usize = 1 << 20;

/// Heap bytes of the splitter's automata, measured; does not depend on the vocabulary.
const SPLITTER_MEMORY: u64 = 600 << 10;

/// Text to ids and back.
pub struct Tokenizer {
    bpe: BPE,
    splitter: Splitter,
    /// Finds added tokens; pattern `i` is token `added[i]`.
    automaton: AhoCorasick,
    /// Ids of the added tokens, ascending.
    added: Vec<u32>,
    /// The bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Where each token's bytes end.
    ends: Vec<usize>,
    bos: u32,
    eos: u32,
    pad: Option<u32>,
    /// Estimated heap bytes of `bpe`.
    bpe_memory: u64,
}

impl Tokenizer {
    /// Builds the tokenizer of a vocabulary.
    ///
    /// # Errors
    /// If the vocabulary does not define a byte-level BPE tokenizer; the error names the entry and what it should be.
    pub fn new(vocabulary: Vocabulary) -> Result<Self, Error> {
        vocabulary.check()?;
        let (bytes, ends) = all_bytes(&vocabulary);
        let Vocabulary { tokens, types, merges, bos, eos, pad } = vocabulary;
        let (ids, added) = Vocabulary::index(tokens, &types)?;
        let merges = Vocabulary::split_merges(merges, &ids, &types)?;
        let texts = added.iter().map(|(text, _)| text);
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(texts)?;
        let added = added.into_iter().map(|(_, id)| id).collect();
        let bpe_memory = bpe_memory(ids.keys().map(String::len), merges.len());
        // The model's own cache would hold up to 10,000 pieces per thread, which no memory plan knows of.
        let bpe = BPE::builder().vocab_and_merges(ids, merges).cache_capacity(0).build();
        let bpe = bpe.map_err(|error| Error::Bpe(error.to_string()))?;
        Ok(Self { bpe, splitter: Splitter::new(), automaton, added, bytes, ends, bos, eos, pad, bpe_memory })
    }

    /// Encodes `text`, recognising every added token anywhere in it, as Hugging Face does without
    /// `add_special_tokens`.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut at = 0;
        for found in self.automaton.find_iter(text) {
            self.encode_ordinary(&text[at..found.start()], &mut ids);
            ids.push(self.added[found.pattern().as_usize()]);
            at = found.end();
        }
        self.encode_ordinary(&text[at..], &mut ids);
        ids
    }

    /// Encodes `text` without recognising any added token: `<｜User｜>` is eight characters like any others.
    pub fn encode_inert(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.encode_ordinary(text, &mut ids);
        ids
    }

    /// Encodes `text`, in which exactly the byte ranges `specials` are added tokens and all else is inert.
    ///
    /// # Errors
    /// If the ranges are not in order, do not fit the text, or one of them is not exactly an added token.
    pub fn encode_marked(&self, text: &str, specials: &[Range<usize>]) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::new();
        let mut from = 0;
        for (index, &Range { start, end }) in specials.iter().enumerate() {
            let misplaced = Error::MarkRange { index, start, end, from, len: text.len() };
            let (Some(before), Some(token)) = (text.get(from..start), text.get(start..end)) else {
                return Err(misplaced);
            };
            let id = self.added_id(token).ok_or_else(|| Error::MarkToken { index, token: token.to_owned() })?;
            self.encode_ordinary(before, &mut ids);
            ids.push(id);
            from = end;
        }
        self.encode_ordinary(&text[from..], &mut ids);
        Ok(ids)
    }

    /// Splits into pieces and merges the bytes of each; of one that is longer than [`MAX_PIECE`], part by part.
    fn encode_ordinary(&self, text: &str, ids: &mut Vec<u32>) {
        let mut chars = String::new();
        self.splitter.split(text, &mut |piece| {
            for part in piece.as_bytes().chunks(MAX_PIECE) {
                chars.clear();
                chars.extend(part.iter().copied().map(alphabet::char_of));
                let tokens = self.bpe.tokenize(&chars).expect("every character of the alphabet is a token");
                ids.extend(tokens.iter().map(|token| token.id));
            }
        });
    }

    /// The text of `ids`, added tokens literally. Invalid UTF-8 and ids outside the vocabulary become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        String::from_utf8_lossy(&self.decode_bytes(ids)).into_owned()
    }

    /// The bytes of `ids`, added tokens literally. Ids outside the vocabulary become U+FFFD.
    pub fn decode_bytes(&self, ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|&id| self.bytes_or_replacement(id)).copied().collect()
    }

    /// The bytes token `id` stands for, which need not be whole characters. `None` if the vocabulary has no such id.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.ends.get(id)?;
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }

    pub(crate) fn bytes_or_replacement(&self, id: u32) -> &[u8] {
        self.token_bytes(id).unwrap_or(REPLACEMENT)
    }

    /// The id of a token as the vocabulary writes it: over the byte-level alphabet, or literally for added tokens.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.bpe.token_to_id(token).or_else(|| self.added_id(token))
    }

    /// The id of the added token with exactly this text.
    fn added_id(&self, token: &str) -> Option<u32> {
        let found = self.automaton.find(token).filter(|found| found.range() == (0..token.len()))?;
        Some(self.added[found.pattern().as_usize()])
    }

    /// Whether `id` is an added token: recognised literally, never made from ordinary text.
    pub fn is_added(&self, id: u32) -> bool {
        self.added.binary_search(&id).is_ok()
    }

    /// The token at the beginning of a sequence.
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// The token that ends a turn.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// The padding token, if the vocabulary names one.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// Number of tokens; ids are below it.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no tokens, which [`new`](Self::new) does not accept.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Estimate of the heap bytes this tokenizer keeps from the process, for the memory plan (43 MB for V4).
    ///
    /// Encoding needs more while it runs: some 110 bytes per byte of the longest piece, which is a few bytes in prose and
    /// the whole text at worst.
    pub fn memory(&self) -> u64 {
        let lists = self.bytes.capacity() + size_of_val(self.ends.as_slice()) + size_of_val(self.added.as_slice());
        self.bpe_memory + SPLITTER_MEMORY + (lists + self.automaton.memory_usage()) as u64
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("tokens", &self.len()).field("added", &self.added.len()).finish()
    }
}

/// The bytes of all tokens, and where each one's end.
fn all_bytes(vocabulary: &Vocabulary) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(vocabulary.tokens.len()));
    for (token, kind) in vocabulary.tokens.iter().zip(&vocabulary.types) {
        match kind {
            TokenType::Normal => bytes.extend(token.chars().filter_map(alphabet::byte_of)),
            _ => bytes.extend_from_slice(token.as_bytes()),
        }
        ends.push(bytes.len());
    }
    bytes.shrink_to_fit();
    (bytes, ends)
}

/// Heap bytes of the BPE model: token texts in both directions and the table of merges. Also what building frees but a
/// general-purpose allocator keeps, because it lies between blocks in use: the merges' texts, and the table of merges
/// while it grew by doubling.
fn bpe_memory(texts: impl Iterator<Item = usize>, merges: usize) -> u64 {
    /// An allocation of `len` bytes with its header, in steps of 16 and at least 32.
    fn allocation(len: usize) -> usize {
        (len + 8).next_multiple_of(16).max(32)
    }
    /// A hash table of `len` entries, at most 7/8 full, with one byte of control per slot.
    fn table(len: usize, entry: usize) -> usize {
        (len * 8 / 7).next_power_of_two() * (entry + 1)
    }
    let (mut tokens, mut text_bytes) = (0, 0);
    for len in texts {
        tokens += 1;
        text_bytes += allocation(len);
    }
    let id_and_text = size_of::<(String, u32)>();
    let pair_to_rank = size_of::<[u32; 4]>();
    (2 * (table(tokens, id_and_text) + text_bytes) + 2 * (table(merges, pair_to_rank) + merges * allocation(0))) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;

    #[test]
    fn words_are_merged_and_added_tokens_are_whole() {
        let t = sample::tokenizer();
        let id = |token| t.id(token).unwrap();
        assert_eq!(t.encode("hello world"), [id("hello"), id("Ġworld")]);
        assert_eq!(t.encode("<think>hello</think>"), [id("<think>"), id("hello"), id("</think>")]);
        assert_eq!(t.encode("<｜User｜>!"), [id("<｜User｜>!")], "the longest added token wins");
        assert_eq!(t.encode("").len() + t.encode_inert("").len(), 0);
    }

    #[test]
    fn inert_text_keeps_its_specials_as_ordinary_text() {
        let t = sample::tokenizer();
        let ids = t.encode_inert("<｜User｜>");
        assert_eq!(ids.len(), "<｜User｜>".len(), "the sample vocabulary has no merges for it");
        assert_eq!(t.decode(&ids), "<｜User｜>");
    }

    #[test]
    fn a_word_of_any_length_is_encoded_part_by_part() {
        let t = sample::tokenizer();
        let word = "hello".repeat(MAX_PIECE / 2);
        assert_eq!(t.decode(&t.encode(&word)), word);
    }

    #[test]
    fn marks_choose_which_specials_count() {
        let t = sample::tokenizer();
        let text = "<think>th</think></think>";
        let ids = t.encode_marked(text, &[0..7, 17..25]).unwrap();
        let expected = [vec![t.id("<think>").unwrap()], t.encode_inert("th</think>"), vec![t.id("</think>").unwrap()]];
        assert_eq!(ids, expected.concat());
        assert_eq!(t.encode_marked(text, &[]).unwrap(), t.encode_inert(text));
    }

    #[test]
    fn marks_must_fit_the_text() {
        let t = sample::tokenizer();
        let refusal = |marks: &[(usize, usize)]| {
            let specials: Vec<_> = marks.iter().map(|&(start, end)| start..end).collect();
            t.encode_marked("｜é<think>", &specials).unwrap_err().to_string()
        };
        assert!(refusal(&[(5, 12), (5, 12)]).contains("special 1 is at bytes 5..12"));
        assert!(refusal(&[(4, 12)]).contains("whole characters between byte 0"));
        assert!(refusal(&[(5, 13)]).contains("text's end at 12"));
        assert!(refusal(&[(12, 5)]).contains("12..5"));
        assert!(refusal(&[(5, 11)]).contains("special 0 `<think`"));
        assert!(refusal(&[(5, 5)]).contains("special 0 ``"));
    }

    #[test]
    fn what_is_known_about_a_token() {
        let t = sample::tokenizer();
        assert_eq!((t.bos(), t.eos(), t.pad(), t.len(), t.is_empty()), (268, 269, Some(270), 278, false));
        assert_eq!(t.token_bytes(t.id("Ġworld").unwrap()), Some(&b" world"[..]));
        assert_eq!(t.token_bytes(t.bos()), Some("<｜begin▁of▁sentence｜>".as_bytes()));
        assert_eq!(t.token_bytes(277), Some(&b"[PAD277]"[..]));
        assert_eq!(t.token_bytes(278), None);
        assert_eq!((t.is_added(267), t.is_added(268), t.is_added(276), t.is_added(277)), (false, true, true, false));
        assert_eq!((t.id(" world"), t.id("<｜User｜>?")), (None, None));
    }

    #[test]
    fn unknown_ids_and_broken_characters_decode_to_the_replacement_character() {
        let t = sample::tokenizer();
        assert_eq!(t.decode(&[278, b'a' as u32, u32::MAX, 0xC3]), "\u{FFFD}a\u{FFFD}\u{FFFD}");
    }

    #[test]
    fn one_tokenizer_serves_all_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Tokenizer>();
    }

    /// Text in which words, spaces and pieces of added tokens are likely.
    fn text() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("hello world".to_owned()),
            Just("<｜User｜>".to_owned()),
            Just("</think>".to_owned()),
            Just("｜DSML｜".to_owned()),
            "[<>/｜ !a-z0-9\r\n\t]{0,6}",
            "\\PC{0,4}",
            any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn decoding_gives_the_text_back(text in text()) {
            let t = sample::tokenizer();
            for ids in [t.encode(&text), t.encode_inert(&text)] {
                prop_assert_eq!(&t.decode(&ids), &text);
                prop_assert_eq!(t.decode_bytes(&ids), text.as_bytes());
            }
            prop_assert_eq!(t.encode(&t.decode(&t.encode(&text))), t.encode(&text));
        }

        #[test]
        fn inert_text_has_no_added_token(text in text()) {
            let t = sample::tokenizer();
            prop_assert!(t.encode_inert(&text).iter().all(|&id| !t.is_added(id)));
        }

        #[test]
        fn all_matches_marked_is_encode(text in text()) {
            let t = sample::tokenizer();
            let matches: Vec<_> = t.automaton.find_iter(&text).map(|found| found.range()).collect();
            prop_assert_eq!(t.encode_marked(&text, &matches).unwrap(), t.encode(&text));
        }
    }
}
