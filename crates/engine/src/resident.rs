//! What the engine holds of a sequence, and what of it a new token list can keep.

use ds4_model::ROLLBACK;

/// A sequence's tokens and pages. Its owner may shorten it while no request runs; the engine may take it away.
#[derive(Default)]
pub(crate) struct Resident {
    /// Tokens whose rows the cache holds.
    pub(crate) tokens: Vec<u32>,
    /// Page table; covers the tokens and perhaps more.
    pub(crate) pages: Vec<u32>,
    /// Most tokens that it held since it was empty or resumed: windows and states reach back from there.
    high: usize,
    resume: Option<Point>,
}

/// Where a saved copy of windows and states was made.
#[derive(Clone, Copy)]
struct Point {
    len: usize,
    /// [`Resident::high`] at that moment: the copy has rows of tokens that were taken back, too.
    high: usize,
}

/// Where a token list goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Tokens that are kept.
    pub(crate) len: usize,
    /// Whether windows and states must be restored.
    pub(crate) restores: bool,
}

impl Resident {
    /// Where `tokens` would go on, of which those from `needed` on must be computed. What can be kept exactly: everything,
    /// all but the last [`ROLLBACK`] tokens, or what was there at the resume point.
    pub(crate) fn start(&self, tokens: &[u32], needed: usize) -> Start {
        let shared = self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let keep = shared.min(needed);
        if self.high - keep <= ROLLBACK {
            return Start { len: keep, restores: false };
        }
        match self.resume.filter(|point| point.len <= keep) {
            Some(point) => Start { len: point.len, restores: true },
            None => Start { len: 0, restores: false },
        }
    }

    /// Shortens it to a start of [`Resident::start`].
    pub(crate) fn keep(&mut self, start: Start) {
        if start.len == 0 {
            self.clear();
        } else if let (true, Some(point)) = (start.restores, self.resume) {
            self.tokens.truncate(point.len);
            self.high = point.high;
        } else {
            self.truncate(start.len);
        }
    }

    /// Appends tokens that were computed.
    pub(crate) fn append(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        self.high = self.high.max(self.tokens.len());
    }

    /// A copy of windows and states was made here.
    pub(crate) fn saved(&mut self) {
        self.resume = Some(Point { len: self.tokens.len(), high: self.high });
    }

    /// Tokens that can be taken back.
    pub(crate) fn possible(&self) -> usize {
        self.tokens.len().min((self.tokens.len() + ROLLBACK).saturating_sub(self.high))
    }

    /// Takes tokens back, at most [`Resident::possible`].
    pub(crate) fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.resume = self.resume.filter(|point| point.len <= len);
    }

    /// Forgets everything; the pages stay.
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        (self.high, self.resume) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read up to 100 tokens, resume point after 99, then 50 tokens generated.
    fn resident() -> Resident {
        let mut resident = Resident::default();
        resident.append(&[1; 99]);
        resident.saved();
        resident.append(&[1; 51]);
        resident
    }

    #[test]
    fn what_is_kept_is_everything_the_last_tokens_or_the_resume_point() {
        let start = |len: usize| {
            let mut tokens = vec![1; len];
            tokens.extend([2; 200]);
            resident().start(&tokens, 199)
        };
        assert_eq!(start(150), Start { len: 150, restores: false });
        assert_eq!(start(134), Start { len: 134, restores: false });
        assert_eq!(start(133), Start { len: 99, restores: true });
        assert_eq!(start(99), Start { len: 99, restores: true });
        assert_eq!(start(98), Start { len: 0, restores: false });
    }

    #[test]
    fn what_must_be_computed_is_not_kept() {
        assert_eq!(resident().start(&[1; 150], 149).len, 149);
        assert_eq!(resident().start(&[1; 150], 120), Start { len: 99, restores: true });
    }

    #[test]
    fn a_resume_point_remembers_how_far_its_rings_had_gone() {
        let mut resident = resident();
        resident.truncate(140);
        resident.saved(); // the rings hold tokens up to 150
        resident.append(&[3; 60]);
        let start = resident.start(&[1; 141], 140);
        assert_eq!(start, Start { len: 140, restores: true });
        resident.keep(start);
        assert_eq!(resident.possible(), 6, "sixteen from 150");
    }
}
