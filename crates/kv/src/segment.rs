//! The unit that tiers keep: what lies between two resume points.

mod format;
mod name;

pub use format::{Damaged, Header};
pub use name::{NotAName, SegmentName};

use ds4_model::PAGE_TOKENS;

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
    /// Version of the file's format. It belongs into the root key, so that programs with another one look elsewhere.
    pub const VERSION: u32 = 1;

    /// Most tokens of a segment, which bounds what a reader must hold before it knows that a header is whole.
    pub const MOST_TOKENS: usize = 65_536;

    /// Most bytes of a segment's file.
    pub const MOST_BYTES: u64 = 1 << 28;

    /// The key of the state at its end.
    pub fn key(&self) -> Key {
        self.parent.after(&self.tokens)
    }

    /// Tokens up to its end.
    pub fn end(&self) -> usize {
        self.start + self.tokens.len()
    }

    /// Its name among the segments of `root`.
    pub fn name(&self, root: Key) -> SegmentName {
        SegmentName { root, parent: self.parent, end: self.end(), key: self.key() }
    }

    /// Bytes of rows and resume point, which are nearly all of it.
    pub fn bytes(&self) -> usize {
        self.pages.iter().map(Vec::len).sum::<usize>() + self.point.len()
    }

    /// The whole pages among so many tokens from a page's beginning.
    fn pages_of(tokens: usize) -> usize {
        tokens / PAGE_TOKENS
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A segment whose contents follow from its tokens, as those of a real one do.
    pub(crate) fn segment(root: Key, tokens: &[u32], start: usize, page_bytes: usize) -> Segment {
        let parent = root.after(&tokens[..start]);
        let own = tokens[start..].to_vec();
        let fill = |seed: u32, bytes: usize| (0..bytes).map(|i| (seed as usize + i) as u8).collect::<Vec<u8>>();
        let pages = own.chunks_exact(PAGE_TOKENS).map(|page| fill(page.iter().sum(), page_bytes)).collect();
        let point = fill(own.iter().sum(), page_bytes / 2 + own.len() % PAGE_TOKENS);
        Segment { parent, start, tokens: own, pages, point }
    }

    #[test]
    fn a_name_says_what_comes_before_where_it_ends_and_what_it_is() {
        let root = Key::root(&[b"model"]);
        let tokens: Vec<u32> = (0..300).collect();
        let tail = segment(root, &tokens, 256, 10);
        let name = tail.name(root);
        assert_eq!(name.key, root.after(&tokens));
        assert_eq!(name.to_string(), format!("{root}/{}/0000000300-{}.seg", root.after(&tokens[..256]), name.key));
        assert_eq!(name.to_string().parse(), Ok(name));
    }
}
