//! The tokens of one step.

use std::ops::Range;

/// Consecutive tokens of one sequence within a [`Batch`].
#[derive(Clone, Debug)]
pub struct Span {
    /// Which sequence slot of the cache the tokens belong to.
    pub slot: usize,
    /// Where they lie in the batch.
    pub tokens: Range<usize>,
    /// Position of the first one in its sequence.
    pub position: u32,
    /// Page table: physical page of the sequence's tokens 128·i … 128·i + 127, up to and with the span's last token.
    pub pages: Vec<u32>,
}

/// The tokens of one step, grouped by sequence. A backend copies it into its own memory ([`crate::Ops::begin`]).
#[derive(Clone, Debug, Default)]
pub struct Batch {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    spans: Vec<Span>,
    outputs: Vec<usize>,
}

/// Which of a span's tokens get logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// None: more of the prompt follows.
    None,
    /// The last one.
    Last,
    /// Every one.
    All,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends `tokens` of the sequence in `slot`, which stand at `position` and after.
    ///
    /// `pages` must cover the last of them (see [`Span::pages`]).
    pub fn push(&mut self, slot: usize, position: u32, tokens: &[u32], pages: &[u32], outputs: Outputs) {
        assert!(!tokens.is_empty(), "a span has tokens");
        assert!(self.spans.iter().all(|s| s.slot != slot), "a sequence has one span a step");
        let first = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        let last = position + tokens.len() as u32 - 1;
        assert!((last as usize / crate::PAGE_TOKENS) < pages.len(), "the page table covers the span");
        self.positions.extend(position..=last);
        let range = first..self.tokens.len();
        match outputs {
            Outputs::None => {}
            Outputs::Last => self.outputs.push(range.end - 1),
            Outputs::All => self.outputs.extend(range.clone()),
        }
        self.spans.push(Span { slot, tokens: range, position, pages: pages.to_vec() });
    }

    /// Token ids.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Position of each token in its sequence.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// The sequences' parts.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Indices of the tokens whose logits are wanted, ascending.
    pub fn outputs(&self) -> &[usize] {
        &self.outputs
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}
