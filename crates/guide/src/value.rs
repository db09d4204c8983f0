//! A value that a grammar describes, up to and with what closes it.

use llguidance::Matcher;

use crate::vocabulary::{Vocabulary, clear, set};

/// What closes a parameter's value.
pub(crate) const CLOSING: &str = "</｜DSML｜parameter>\n";
/// The part of it after which a reader takes the value for closed.
const CLOSED: &str = "</｜DSML｜parameter>";
/// Bytes of it that other tags have, too.
const MAYBE: usize = "</".len();
/// Bytes of it that tell it from other texts.
const BEGUN: usize = "</｜DSML｜".len();

/// A value under way.
#[derive(Debug)]
pub(crate) struct Value {
    matcher: Quiet,
    /// Its last bytes.
    tail: Vec<u8>,
    /// Whether it is JSON, and within a string of it.
    json: Option<JsonString>,
}

/// A matcher that says nothing of itself.
struct Quiet(Matcher);

impl std::fmt::Debug for Quiet {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Matcher")
    }
}

/// Whether a position in JSON is inside a string.
#[derive(Debug, Default)]
struct JsonString {
    inside: bool,
    escaped: bool,
}

impl JsonString {
    fn push(&mut self, byte: u8) {
        match (self.inside, self.escaped, byte) {
            (true, true, _) => self.escaped = false,
            (true, false, b'\\') => self.escaped = true,
            (_, _, b'"') => self.inside = !self.inside,
            _ => {}
        }
    }
}

impl Value {
    /// A value whose grammar ends with [`CLOSING`].
    pub(crate) fn new(matcher: Matcher, json: bool) -> Self {
        Self { matcher: Quiet(matcher), tail: Vec::new(), json: json.then(JsonString::default) }
    }

    /// Whether the most probable token is taken: JSON outside its strings.
    pub(crate) fn is_structure(&self) -> bool {
        self.json.as_ref().is_some_and(|json| !json.inside)
    }

    /// The tokens that may follow; an error if the grammar has become too hard.
    pub(crate) fn allow(&mut self, vocabulary: &Vocabulary, bits: &mut Vec<u32>) -> Result<(), ()> {
        let mask = self.matcher.0.compute_mask().map_err(drop)?;
        bits.clear();
        bits.extend_from_slice(mask.as_slice());
        self.keep_closing_honest(vocabulary, bits);
        if bits.iter().all(|word| *word == 0) { Err(()) } else { Ok(()) }
    }

    /// A reader takes the value for closed at its closing tag, whatever the grammar thinks. So this tag is begun only where it
    /// may stand, and then it is completed.
    fn keep_closing_honest(&self, vocabulary: &Vocabulary, bits: &mut Vec<u32>) {
        let begun = (MAYBE..=CLOSED.len()).rev().find(|n| self.tail.ends_with(&CLOSED.as_bytes()[..*n]));
        let Some(begun) = begun else { return };
        let rest = &CLOSING.as_bytes()[begun..];
        match (begun >= BEGUN, self.closes(vocabulary, rest)) {
            (false, true) => {}
            (false, false) => vocabulary.dsml().into_iter().for_each(|token| clear(bits, token)),
            (true, true) => {
                bits.clear();
                vocabulary.trie().all_prefixes(rest).into_iter().for_each(|token| set(bits, token));
            }
            // Spelled without the control token, it could be begun.
            (true, false) => {
                let completing = vocabulary.beginning_with(&CLOSED.as_bytes()[begun..]);
                completing.into_iter().for_each(|token| clear(bits, token));
            }
        }
    }

    /// Whether `rest` would end the value.
    fn closes(&self, vocabulary: &Vocabulary, rest: &[u8]) -> bool {
        let mut ahead = self.matcher.0.clone();
        let tokens = vocabulary.trie().greedy_tokenize(rest);
        ahead.consume_tokens(&tokens).is_ok() && ahead.is_accepting().unwrap_or(false)
    }

    /// Takes a token; true if it completes the value, an error if it cannot.
    pub(crate) fn push(&mut self, token: u32, bytes: &[u8]) -> Result<bool, ()> {
        self.matcher.0.consume_token(token).map_err(drop)?;
        if let Some(json) = &mut self.json {
            bytes.iter().for_each(|byte| json.push(*byte));
        }
        self.tail.extend_from_slice(bytes);
        self.tail.drain(..self.tail.len().saturating_sub(CLOSING.len()));
        Ok(self.tail.ends_with(CLOSING.as_bytes()) && self.matcher.0.is_accepting().map_err(drop)?)
    }
}
