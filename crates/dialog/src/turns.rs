//! What the assistant really wrote, token by token.
//!
//! A request brings the conversation as text, and the tokens of that text are seldom those that were sampled: at
//! temperature 1 a model often spells a word in pieces of its own choice. Clients also trim texts, put the arguments of
//! calls in another order, and keep the reasoning to themselves. Every such difference would make the cache useless from
//! there on. So the tokens of each turn are remembered when it ends, and put back when it is shown again. A client that
//! says something else than it was given is believed: then nothing is put back.
//!
//! - `tokens.rs`: which of the sampled tokens spell what the client was given
//! - `seen.rs`: what counts as the same turn
//! - `memory.rs`: those used last
//! - `saved.rs`: what is kept of a turn, and its bytes
//! - `archive.rs`: a store that outlives the process

mod archive;
mod memory;
mod saved;
mod seen;
mod tokens;

use std::sync::{Arc, Mutex, MutexGuard};
use std::{fmt, io};

use ds4_chat::Message;
use ds4_kv::store::Store;
use ds4_tokenizer::Tokenizer;

use crate::texts::Texts;
use archive::Archive;
use memory::Memory;
pub use saved::{Exact, Saved};
pub use seen::Place;
use seen::Seen;
pub(crate) use tokens::Spelled;
pub use tokens::TurnTokens;

/// An assistant's turn that has ended.
#[derive(Clone, Debug)]
pub struct Turn {
    /// What the client was given: reasoning, text, and the names by which it may come back (of the calls, of the message).
    pub given: Message,
    /// What was sampled.
    pub tokens: TurnTokens,
}

/// The turn store: finds the tokens of a turn by the ids of its calls, by its own id, or by what is visible of it and of
/// everything before.
pub struct Turns {
    memory: Mutex<Memory>,
    archive: Option<Archive>,
    /// The tokens of what stands between these turns.
    pub(crate) texts: Texts,
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}

impl Turns {
    /// A store that remembers so many turns, those used last.
    pub fn new(turns: usize) -> Self {
        Self { memory: Mutex::new(Memory::new(turns)), archive: None, texts: Texts::default() }
    }

    /// Keeps the turns in `store` too, where the next process or another machine with the same tokenizer finds them; in
    /// `budget` bytes, if it is given.
    ///
    /// # Errors
    /// If the thread that writes cannot be started.
    pub fn saved_in(self, store: Arc<dyn Store>, budget: Option<u64>, tokenizer: &Tokenizer) -> io::Result<Self> {
        Ok(Self { archive: Some(Archive::new(store, budget, tokenizer)?), ..self })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("nothing panics under this lock")
    }

    /// Remembers the answer to the prompt of `place`.
    pub fn remember(&self, place: Place, turn: &Turn) {
        let seen = Seen::new(&turn.given);
        let keys = seen.keys(place, &turn.given);
        let exact = Arc::new(Exact::new(&seen, &turn.tokens));
        if let Some(archive) = &self.archive {
            archive.save(&keys, &exact);
        }
        self.memory().put(keys, exact);
    }

    /// A search for the turns of one conversation.
    pub(crate) fn search(&self) -> Search<'_> {
        Search { turns: self, patience: PATIENCE }
    }
}

/// So many turns of a conversation in a row may be unknown to the archive before it is no longer asked: a long
/// conversation from elsewhere shall not wait for hundreds of answers from a distant store.
const PATIENCE: usize = 16;

/// A search for the turns of one conversation.
pub(crate) struct Search<'t> {
    turns: &'t Turns,
    patience: usize,
}

impl Search<'_> {
    /// The tokens of the message that was shown at `place`, if it is as it was given.
    pub(crate) fn find(&mut self, place: Place, message: &Message) -> Option<Arc<Exact>> {
        let seen = Seen::new(message);
        let keys = seen.keys(place, message);
        let mut memory = self.turns.memory();
        if let Some(exact) = keys.iter().filter_map(|key| memory.get(*key)).find(|exact| exact.is(&seen)) {
            return Some(exact);
        }
        drop(memory);
        let archive = self.turns.archive.as_ref().filter(|_| self.patience > 0)?;
        let found = match archive.load(&keys, &seen) {
            Ok(found) => found.map(Arc::new),
            Err(_) => {
                self.patience = 0;
                return None;
            }
        };
        match &found {
            Some(exact) => {
                self.patience = PATIENCE;
                self.turns.memory().put(keys, Arc::clone(exact));
            }
            None => self.patience -= 1,
        }
        found
    }
}
