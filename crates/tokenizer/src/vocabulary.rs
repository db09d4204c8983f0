//! The lists that define a tokenizer, as a GGUF stores them, and the checks they must pass.

use crate::{Error, alphabet};
use std::collections::HashMap;
use tokenizers::models::bpe;

/// Far above V4's 129,280 tokens; a larger number means a damaged file.
pub(crate) const LIMIT: usize = 1 << 20;

/// What a GGUF holds under `tokenizer.ggml.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// Token texts by id: strings over the byte-level alphabet, literal text for added tokens.
    pub tokens: Vec<String>,
    /// One type per token.
    pub types: Vec<TokenType>,
    /// `"a b"`: the two tokens to join, lowest rank first.
    pub merges: Vec<String>,
    /// Beginning of a sequence.
    pub bos: u32,
    /// End of a turn; generation stops here.
    pub eos: u32,
    /// Fills batches; V4 files have it, nothing in ds4 needs it.
    pub pad: Option<u32>,
}

/// The kind of a token, with the numbers of `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenType {
    /// A byte-level string that BPE makes.
    Normal = 1,
    /// Never made by encoding; decodes to its own text.
    Unknown = 2,
    /// An added token that steers the model, such as `<｜User｜>`.
    Control = 3,
    /// An added token that is ordinary text with an id of its own, such as `<think>`.
    UserDefined = 4,
    /// A hole in the list of ids; never made by encoding, decodes to its own text.
    Unused = 5,
    /// A byte of a sentence-piece vocabulary; never made by encoding here, decodes to its own text.
    Byte = 6,
}

impl TokenType {
    /// The type with this number in a GGUF.
    pub fn from_gguf(value: i64) -> Option<Self> {
        use TokenType::*;
        [Normal, Unknown, Control, UserDefined, Unused, Byte].into_iter().find(|t| *t as i64 == value)
    }

    /// Whether tokens of this type are recognised literally in text instead of being made by merges.
    pub fn is_added(self) -> bool {
        matches!(self, Self::Control | Self::UserDefined)
    }
}

impl Vocabulary {
    /// Lengths, ids and the form of every token.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let len = self.tokens.len();
        if self.types.len() != len {
            return Err(Error::Lengths { tokens: len, types: self.types.len() });
        }
        if len > LIMIT {
            return Err(Error::TooLarge { tokens: len, limit: LIMIT });
        }
        for (name, id) in [("bos", Some(self.bos)), ("eos", Some(self.eos)), ("pad", self.pad)] {
            if let Some(id) = id.filter(|&id| id as usize >= len) {
                return Err(Error::IdRange { name, id, len });
            }
        }
        for (id, (token, kind)) in (0..).zip(self.tokens.iter().zip(&self.types)) {
            if token.is_empty() {
                return Err(Error::Empty { id });
            }
            if *kind == TokenType::Normal
                && let Some(found) = token.chars().find(|&c| alphabet::byte_of(c).is_none())
            {
                return Err(Error::NotByteLevel { id, token: token.clone(), found });
            }
        }
        Ok(())
    }

    /// The ids of the tokens that BPE may use, and the added tokens in order of their ids.
    pub(crate) fn index(tokens: Vec<String>, types: &[TokenType]) -> Result<(bpe::Vocab, Vec<(String, u32)>), Error> {
        let mut ids = bpe::Vocab::with_capacity(tokens.len());
        let mut added = HashMap::new();
        for (id, (token, kind)) in (0..).zip(tokens.into_iter().zip(types)) {
            if let Some(&first) = ids.get(&token).or_else(|| added.get(&token)) {
                return Err(Error::Duplicate { id, token, first });
            }
            match kind.is_added() {
                true => added.insert(token, id),
                false => ids.insert(token, id),
            };
        }
        let mut added: Vec<_> = added.into_iter().collect();
        added.sort_unstable_by_key(|(_, id)| *id);
        Ok((ids, added))
    }

    /// Splits every merge into its parts and proves that bytes and merges make exactly the Normal tokens.
    ///
    /// That no merge makes any other token is what keeps [`encode_inert`](crate::Tokenizer::encode_inert) inert; that
    /// every Normal token is made by one finds a list of merges that was cut short.
    pub(crate) fn split_merges(
        merges: Vec<String>,
        ids: &bpe::Vocab,
        types: &[TokenType],
    ) -> Result<bpe::Merges, Error> {
        let normal = |token: &str| ids.get(token).map(|&id| id as usize).filter(|&id| types[id] == TokenType::Normal);
        let mut made = vec![false; types.len()];
        for byte in 0..=255 {
            let expected = alphabet::char_of(byte);
            let id = normal(expected.encode_utf8(&mut [0; 4])).ok_or(Error::MissingByte { byte, expected })?;
            made[id] = true;
        }
        let mut pairs = bpe::Merges::with_capacity(merges.len());
        for (index, merge) in merges.into_iter().enumerate() {
            let parts = merge.split_once(' ').filter(|(a, b)| !a.is_empty() && !b.is_empty());
            let Some((a, b)) = parts else {
                return Err(Error::MergeForm { index, merge });
            };
            let join = [a, b].concat();
            if let Some(missing) = [a, b, &join].into_iter().find(|token| normal(token).is_none()) {
                return Err(Error::MergeToken { index, expected: missing.to_owned(), merge: merge.clone() });
            }
            made[ids[&join] as usize] = true;
            pairs.push((a.to_owned(), b.to_owned()));
        }
        match ids.iter().find(|&(_, &id)| !made[id as usize] && types[id as usize] == TokenType::Normal) {
            Some((token, &id)) => Err(Error::Unreachable { id, token: token.clone() }),
            None => Ok(pairs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tokenizer, sample};

    /// What [`Tokenizer::new`] says about the sample vocabulary after `damage`.
    fn refusal(damage: impl FnOnce(&mut Vocabulary)) -> String {
        let mut vocabulary = sample::vocabulary();
        damage(&mut vocabulary);
        Tokenizer::new(vocabulary).expect_err("the damage must be found").to_string()
    }

    #[track_caller]
    fn assert_refused(said: String, parts: &[&str]) {
        for part in parts {
            assert!(said.contains(part), "expected `{part}` in: {said}");
        }
    }

    #[test]
    fn lists_and_ids_are_checked() {
        assert_refused(refusal(|v| v.types.truncate(5)), &["278 tokens", "5 token types"]);
        assert_refused(refusal(|v| v.eos = 278), &["eos", "278"]);
        assert_refused(refusal(|v| v.pad = Some(u32::MAX)), &["pad", "4294967295"]);
        assert_refused(refusal(|v| *v = Vocabulary { tokens: vec![], types: vec![], ..v.clone() }), &["bos"]);
    }

    #[test]
    fn tokens_are_checked() {
        assert_refused(refusal(|v| v.tokens[256] = "hell".into()), &["token 258 `hell`", "already token 256"]);
        assert_refused(refusal(|v| v.tokens[269] = "hello".into()), &["token 269 `hello`", "already token 259"]);
        assert_refused(refusal(|v| v.tokens[270].clear()), &["token 270", "empty"]);
        assert_refused(
            refusal(|v| v.types[271] = TokenType::Normal),
            &["token 271 `<｜User｜>`", "`｜`", "Control (3)"],
        );
        assert_refused(refusal(|v| v.tokens[32] = "xx".into()), &["`Ġ`", "byte 0x20"]);
        assert_refused(refusal(|v| v.types[32] = TokenType::Control), &["`Ġ`", "byte 0x20"]);
    }

    #[test]
    fn merges_are_checked() {
        assert_refused(refusal(|v| v.merges[1] = "ll".into()), &["merge 1 `ll`", "one space"]);
        assert_refused(refusal(|v| v.merges[1] = "ll ".into()), &["merge 1 `ll `", "one space"]);
        assert_refused(refusal(|v| v.merges[1] = "l  l".into()), &["merge 1 `l  l`", "needs ` l`"]);
        assert_refused(refusal(|v| v.merges[1] = "l q".into()), &["merge 1 `l q`", "needs `lq`"]);
        assert_refused(refusal(|v| drop(v.merges.pop())), &["token 267 `ĊĊ`", "no merge makes it"]);
    }

    #[test]
    fn no_merge_makes_an_added_token() {
        assert_refused(refusal(|v| v.types[259] = TokenType::Control), &["merge 3 `hell o`", "needs `hello`"]);
    }

    #[test]
    fn types_have_the_numbers_of_gguf() {
        assert_eq!(TokenType::from_gguf(1), Some(TokenType::Normal));
        assert_eq!(TokenType::from_gguf(6), Some(TokenType::Byte));
        assert_eq!((TokenType::from_gguf(0), TokenType::from_gguf(7), TokenType::from_gguf(-1)), (None, None, None));
    }
}
