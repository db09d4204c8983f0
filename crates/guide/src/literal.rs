//! One of several fixed texts.

use crate::vocabulary::{Vocabulary, set};

/// A choice between fixed texts, none of which begins with another, and what follows each.
#[derive(Debug)]
pub(crate) struct Literal<T> {
    options: Vec<(String, T)>,
    /// Bytes that are there already.
    done: usize,
}

impl<T> Literal<T> {
    pub(crate) fn new(options: Vec<(String, T)>) -> Self {
        Self { options, done: 0 }
    }

    /// Adds the tokens that go on with one of the texts and do not reach beyond its end.
    pub(crate) fn allow(&self, vocabulary: &Vocabulary, bits: &mut Vec<u32>) {
        for (text, _) in &self.options {
            let tokens = vocabulary.trie().all_prefixes(&text.as_bytes()[self.done..]);
            tokens.into_iter().for_each(|token| set(bits, token));
        }
    }

    /// Takes more bytes: nothing yet, what follows the text that is complete, or an error if no text goes on like this.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Option<T>, ()> {
        self.options.retain(|(text, _)| text.as_bytes()[self.done..].starts_with(bytes));
        self.done += bytes.len();
        match self.options.iter().position(|(text, _)| text.len() == self.done) {
            Some(i) => Ok(Some(self.options.swap_remove(i).1)),
            None if self.options.is_empty() => Err(()),
            None => Ok(None),
        }
    }
}
