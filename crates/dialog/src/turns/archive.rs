//! Turns in a store that outlives the process, written by a thread of its own.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use ds4_kv::Key;
use ds4_kv::store::{Error, Store};
use ds4_tokenizer::Tokenizer;

use super::seen::Seen;
use super::{Exact, Saved};

/// Turns that wait to be written; more are not saved, as when a store is slower than the model for long.
const WAITING: usize = 256;
/// A store that needs longer for a turn is not waited for.
const SOON: Duration = Duration::from_secs(2);
/// Questions that may be under way; a store that answers none of them is not asked more.
const ASKED: usize = 16;
/// Bytes of an object; a turn of a million tokens has a quarter.
const MOST: usize = 16 << 20;
/// What the smallest object takes in a file system.
const BLOCK: u64 = 4096;
/// The folder of all turns, whatever their tokenizer.
const FOLDER: &str = "turns/";

/// A folder of a store with one object for each turn, and a small one for every other key that leads to it.
pub(super) struct Archive {
    store: Arc<dyn Store>,
    folder: String,
    /// Ids are below.
    vocabulary: u32,
    state: Arc<State>,
    /// Held by every question that is under way.
    asked: Arc<()>,
    /// None once it closes.
    queue: Option<SyncSender<Work>>,
    writer: Option<JoinHandle<()>>,
}

/// What the writer does next, on the object of that name.
enum Work {
    Write(String, Vec<u8>),
    Touch(String),
}

#[derive(Default)]
struct State {
    closing: AtomicBool,
    /// Whether the store failed last time.
    failing: AtomicBool,
}

impl State {
    /// Says so when a store begins to fail; the turns are in memory, so nothing is wrong with the answers.
    fn note<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result
            && !self.failing.swap(true, Relaxed)
        {
            let line = format!("ds4: turns are not saved or found again for now: {error}\n");
            let _ = io::stderr().write_all(line.as_bytes()); // who reads it may be gone
        }
        if result.is_ok() {
            self.failing.store(false, Relaxed);
        }
        result
    }
}

impl Archive {
    pub(super) fn new(store: Arc<dyn Store>, budget: Option<u64>, tokenizer: &Tokenizer) -> io::Result<Self> {
        let (queue, works) = sync_channel(WAITING);
        let state = Arc::new(State::default());
        let writer = Writer { store: Arc::clone(&store), state: Arc::clone(&state), budget, slack: 0 };
        let writer = Builder::new().name("turns".into()).spawn(move || writer.run(&works))?;
        Ok(Self {
            store,
            folder: format!("{FOLDER}{}", fingerprint(tokenizer)),
            vocabulary: u32::try_from(tokenizer.len()).unwrap_or(u32::MAX),
            state,
            asked: Arc::default(),
            queue: Some(queue),
            writer: Some(writer),
        })
    }

    fn name(&self, key: Key) -> String {
        format!("{}/{key}", self.folder)
    }

    /// Saves a turn under the first of its keys, and under the others where it is.
    pub(super) fn save(&self, keys: &[Key], exact: &Exact) {
        let Some((first, others)) = keys.split_first() else { return };
        self.queue(Work::Write(self.name(*first), Saved::Turn(exact.clone()).to_bytes()));
        for key in others {
            self.queue(Work::Write(self.name(*key), Saved::Link(*first).to_bytes()));
        }
    }

    fn queue(&self, work: Work) {
        if let Some(queue) = &self.queue {
            let _ = queue.try_send(work); // full: see WAITING
        }
    }

    /// The turn of the first key that leads to one that says the same.
    ///
    /// # Errors
    /// If the store fails; damaged objects are as good as none.
    pub(super) fn load(&self, keys: &[Key], seen: &Seen) -> Result<Option<Exact>, Error> {
        for key in keys {
            let (names, found) = match self.get(*key)? {
                Some(Saved::Link(to)) => (vec![*key, to], self.get(to)?),
                found => (vec![*key], found),
            };
            if let Some(Saved::Turn(exact)) = found
                && exact.is(seen)
            {
                names.iter().for_each(|key| self.queue(Work::Touch(self.name(*key))));
                return Ok(Some(exact));
            }
        }
        Ok(None)
    }

    fn get(&self, key: Key) -> Result<Option<Saved>, Error> {
        let bytes = self.state.note(self.ask(self.name(key)))?;
        Ok(bytes.and_then(|bytes| Saved::from_bytes(&bytes)).filter(|saved| saved.fits(self.vocabulary)))
    }
}

impl Archive {
    /// What the store says, if it says so soon. A thread asks, so that a request never waits for a store that hangs.
    fn ask(&self, name: String) -> Result<Option<Vec<u8>>, Error> {
        let late = |name| Error { place: name, what: "no answer from the store".into(), again: None };
        if Arc::strong_count(&self.asked) > ASKED {
            return Err(late(name));
        }
        let (answer, heard) = sync_channel(1);
        let (store, of, asked) = (Arc::clone(&self.store), name.clone(), Arc::clone(&self.asked));
        let asks = Builder::new().name("turn".into()).spawn(move || {
            let _ = answer.send(store.get_start(&of, MOST)); // nobody waits for what is late
            drop(asked);
        });
        match asks {
            Ok(_) => heard.recv_timeout(SOON).unwrap_or_else(|_| Err(late(name))),
            Err(_) => Err(late(name)),
        }
    }
}

impl Drop for Archive {
    /// Waits until everything is written, or the store fails.
    fn drop(&mut self) {
        self.state.closing.store(true, Relaxed);
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join(); // a panic has been printed
        }
    }
}

/// The thread that writes.
struct Writer {
    store: Arc<dyn Store>,
    state: Arc<State>,
    /// Bytes that all turns may take; none where somebody else sees to it.
    budget: Option<u64>,
    /// Bytes that may be written before the next look at what is there.
    slack: u64,
}

impl Writer {
    /// Works until the queue is closed.
    fn run(mut self, works: &Receiver<Work>) {
        for work in works {
            if self.store.read_only().is_some() {
                continue;
            }
            let result = match work {
                Work::Write(name, bytes) => self.write(&name, &bytes),
                Work::Touch(name) => self.store.touch(&name),
            };
            if self.state.note(result).is_err() && self.state.closing.load(Relaxed) {
                return;
            }
        }
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        if let Some(budget) = self.budget {
            let room = room(bytes.len() as u64);
            if room > budget {
                return Ok(()); // it would be removed next
            }
            if self.slack < room {
                self.make_room(budget)?;
            }
            self.slack = self.slack.saturating_sub(room);
        }
        replace(&*self.store, name, bytes)
    }

    /// Forgets what was not used for longest, so that a sixteenth of the budget is free. Others may write, too, so what is
    /// there is looked at again before half of that is written.
    fn make_room(&mut self, budget: u64) -> Result<(), Error> {
        let mut entries = self.store.list(FOLDER)?;
        entries.sort_by_key(|entry| Reverse(entry.used));
        let mut kept = 0;
        for entry in entries {
            kept += room(entry.bytes);
            if kept > budget - budget / 16 {
                self.store.remove(&entry.name)?;
            }
        }
        self.slack = budget / 32;
        Ok(())
    }
}

/// What so many bytes take in a store.
fn room(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK)
}

/// Keeps bytes under a name, where others may be: of the same answer, sampled again, or damaged.
fn replace(store: &dyn Store, name: &str, bytes: &[u8]) -> Result<(), Error> {
    match store.get_start(name, MOST)? {
        Some(old) if old == bytes => return Ok(()),
        Some(_) => store.remove(name)?,
        None => {}
    }
    store.put(name, bytes)
}

/// Names a tokenizer: tokens mean the same wherever all of them have the same bytes.
fn fingerprint(tokenizer: &Tokenizer) -> Key {
    let mut hash = blake3::Hasher::new_derive_key("ds4 tokenizer");
    for id in 0..tokenizer.len() as u32 {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default();
        hash.update(&[tokenizer.is_added(id).into()]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    }
    let mut key = [0; Key::BYTES];
    hash.finalize_xof().fill(&mut key);
    key.into()
}
