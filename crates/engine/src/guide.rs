//! Who has a say in what is drawn, besides the sampling settings.

use std::fmt::Debug;

/// Decides, token by token, what may be drawn. It runs on the engine's thread, between two steps: whatever it takes is
/// taken from all answers.
pub trait Guide: Send + Debug {
    /// What the next token may be; asked once before each is drawn.
    fn rule(&mut self) -> Rule<'_>;

    /// The token that was drawn.
    fn drawn(&mut self, token: u32);

    /// Whether that token is to be steered, where the guide decides ([`crate::When::Guided`]).
    fn steers(&self) -> bool {
        false
    }
}

/// What a token may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rule<'g> {
    /// The tokens that may be drawn, a bit each, the lowest of a word first; those beyond its end may not. None: all.
    pub allowed: Option<&'g [u32]>,
    /// Whether the most probable one is taken, whatever the temperature.
    pub greedy: bool,
}

impl Rule<'_> {
    /// Whether a token may be drawn.
    pub fn allows(&self, token: u32) -> bool {
        self.allowed.is_none_or(|bits| bits.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1))
    }
}
