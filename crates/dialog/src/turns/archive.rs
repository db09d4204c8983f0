//! Turns in a store that outlives the process, written by a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use ds4_kv::Key;
use ds4_kv::store::{Error, Store};
use ds4_tokenizer::Tokenizer;

use super::seen::Seen;
use super::{Exact, Saved};

/// Turns that wait to be written; more are not saved, as when a store is slower than the model for long.
const WAITING: usize = 256;

/// A folder of a store with one object for each turn, and a small one for every other key that leads to it.
pub(super) struct Archive {
    store: Arc<dyn Store>,
    folder: String,
    /// Ids are below.
    vocabulary: u32,
    state: Arc<State>,
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
            eprintln!("ds4: turns are not saved or found again for now: {error}");
        }
        if result.is_ok() {
            self.failing.store(false, Relaxed);
        }
        result
    }
}

impl Archive {
    pub(super) fn new(store: Arc<dyn Store>, tokenizer: &Tokenizer) -> io::Result<Self> {
        let (queue, works) = sync_channel(WAITING);
        let state = Arc::new(State::default());
        let (to, of) = (Arc::clone(&store), Arc::clone(&state));
        let writer = Builder::new().name("turns".into()).spawn(move || write(&*to, &of, &works))?;
        Ok(Self {
            store,
            folder: format!("turns/{}", fingerprint(tokenizer)),
            vocabulary: u32::try_from(tokenizer.len()).unwrap_or(u32::MAX),
            state,
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
            let found = match self.get(*key)? {
                Some(Saved::Link(to)) => (to, self.get(to)?),
                found => (*key, found),
            };
            if let (key, Some(Saved::Turn(exact))) = found
                && exact.is(seen)
            {
                self.queue(Work::Touch(self.name(key)));
                return Ok(Some(exact));
            }
        }
        Ok(None)
    }

    fn get(&self, key: Key) -> Result<Option<Saved>, Error> {
        let bytes = self.state.note(self.store.get(&self.name(key)))?;
        Ok(bytes.and_then(|bytes| Saved::from_bytes(&bytes)).filter(|saved| saved.fits(self.vocabulary)))
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

/// Works until the queue is closed.
fn write(store: &dyn Store, state: &State, works: &Receiver<Work>) {
    for work in works {
        let result = match work {
            Work::Write(name, bytes) => replace(store, &name, &bytes),
            Work::Touch(name) => store.touch(&name),
        };
        if state.note(result).is_err() && state.closing.load(Relaxed) {
            return;
        }
    }
}

/// Keeps bytes under a name, where others may be: of the same answer, sampled again, or damaged.
fn replace(store: &dyn Store, name: &str, bytes: &[u8]) -> Result<(), Error> {
    match store.get(name)? {
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
