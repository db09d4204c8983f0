//! The unit that tiers keep: what lies between two resume points.

use crate::Key;

/// A stretch of tokens with everything that is needed to go on after it, if one has what comes before.
///
/// Stretches begin at the start of a sequence or at a multiple of the distance between resume points, so that equal
/// prefixes lead to equal segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The key of everything before.
    pub parent: Key,
    /// Tokens before: whole pages.
    pub start: usize,
    /// The tokens.
    pub tokens: Vec<u32>,
    /// The compressed rows of each whole page of `tokens`.
    pub pages: Vec<Vec<u8>>,
    /// The resume point at the end, with the compressed rows of the page under way.
    pub point: Vec<u8>,
}

impl Segment {
    /// The key of the state at its end.
    pub fn key(&self) -> Key {
        self.parent.after(&self.tokens)
    }

    /// Tokens up to its end.
    pub fn end(&self) -> usize {
        self.start + self.tokens.len()
    }
}
