//! The sequences on which nothing runs, and which of them a request goes to.

use std::cmp::Reverse;
use std::sync::{Mutex, MutexGuard};

use ds4_engine::Sequence;

/// Sequences that rest, the one that has rested for longest first.
pub(crate) struct Resting<'e>(Mutex<Vec<Sequence<'e>>>);

impl<'e> Resting<'e> {
    pub(crate) fn new(sequences: Vec<Sequence<'e>>) -> Self {
        Self(Mutex::new(sequences))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Sequence<'e>>> {
        self.0.lock().expect("nothing panics under this lock")
    }

    /// The sequence that holds most of what `tokens` begin with and can go on from there; where none can, the one that
    /// has rested for longest. Sharing a system prompt is not enough to take another conversation's.
    ///
    /// There must be one: no more requests run than there are sequences.
    pub(crate) fn take(&self, tokens: &[u32]) -> Sequence<'e> {
        let mut resting = self.lock();
        let best = (0..resting.len()).max_by_key(|i| (resting[*i].reusable(tokens), Reverse(*i)));
        resting.remove(best.unwrap_or(0))
    }

    /// It rests again.
    pub(crate) fn give(&self, sequence: Sequence<'e>) {
        self.lock().push(sequence);
    }
}
