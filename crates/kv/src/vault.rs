//! The tiers below RAM, together, behind threads of their own.
//!
//! One thread reads, one for each tier writes, so that no sequence waits for a disk or a network, and no reader for a
//! writer. Whatever goes wrong in a tier costs what it kept, never an answer.

mod fetch;
mod queue;
mod save;
mod stats;

pub use stats::{Count, Stats, TierStats};

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ds4_model::PAGE_TOKENS;

use crate::store::Store;
use crate::{Key, Segment, SegmentName};
use queue::{Job, Queue};
use stats::Counters;

/// While a tier fails for the same reason, it is said once in this time.
const QUIET: Duration = Duration::from_secs(60);

/// A store and how it is used. Stores are asked in order: the nearest comes first.
pub struct Tier {
    /// Where the bytes are.
    pub store: Box<dyn Store>,
    /// What logs and metrics call it.
    pub name: String,
    /// Bytes that it may keep, of all roots; none where somebody else sees to it.
    pub budget: Option<u64>,
}

/// What the tiers have of a prompt.
#[derive(Debug, Default)]
pub struct Fetched {
    /// Segments, each beginning where the one before ends; the first at the boundary at or below what was there.
    pub segments: Vec<Segment>,
    /// The tier that the last one came from.
    pub source: Option<String>,
    /// From the question to the answer.
    pub took: Duration,
}

/// The tiers below RAM.
pub struct Vault {
    root: Key,
    shelves: Vec<Arc<Shelf>>,
    requests: Option<mpsc::Sender<Request>>,
    threads: Vec<JoinHandle<()>>,
}

/// A tier with what is on its way there.
struct Shelf {
    tier: Tier,
    queue: Queue,
    counters: Counters,
    /// The reason of the last failure that was logged, and when.
    said: Mutex<Option<(String, Instant)>>,
}

/// A question to the thread that reads.
struct Request {
    tokens: Vec<u32>,
    have: usize,
    most: usize,
    asked: Instant,
    /// Whether somebody still waits for the answer.
    wanted: Box<dyn Fn() -> bool + Send>,
    reply: Reply,
}

/// Where an answer goes; if there is none, for whatever reason, that nothing was found is told.
struct Reply(Option<Box<dyn FnOnce(Fetched) + Send>>);

impl Reply {
    fn tell(mut self, fetched: Fetched) {
        if let Some(reply) = self.0.take() {
            reply(fetched);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Fetched::default());
        }
    }
}

impl Vault {
    /// Starts the threads. Segments are kept under `root`; they start at multiples of `every` tokens, which is a multiple
    /// of a page's.
    pub fn new(tiers: Vec<Tier>, root: Key, every: usize) -> Self {
        assert!(every > 0 && every.is_multiple_of(PAGE_TOKENS), "boundaries lie between pages");
        let shelf = |tier: Tier| {
            if let Some(why) = tier.store.read_only() {
                log(&tier.name, format_args!("only read, not written: {why}"));
            }
            Arc::new(Shelf { tier, queue: Queue::default(), counters: Counters::default(), said: Mutex::default() })
        };
        let shelves: Vec<Arc<Shelf>> = tiers.into_iter().map(shelf).collect();
        let mut threads = Vec::new();
        for shelf in shelves.iter().filter(|shelf| shelf.tier.store.read_only().is_none()).cloned() {
            shelf.queue.open();
            threads.push(thread::spawn(move || save::Writer::new(&shelf).run()));
        }
        let (requests, asked) = mpsc::channel::<Request>();
        let reader = fetch::Reader { root, every, shelves: shelves.clone() };
        threads.push(thread::spawn(move || asked.into_iter().for_each(|request| reader.answer(request))));
        Self { root, shelves, requests: Some(requests), threads }
    }

    /// Looks for the segments that lead from what RAM has, `have` of the tokens, to the longest point at or below `most`
    /// of them. They are empty where the tiers know nothing longer than `have`, and where nobody `wanted` them any more.
    /// `reply` is called once, on the vault's thread, and must not wait.
    pub fn fetch(
        &self,
        tokens: Vec<u32>,
        have: usize,
        most: usize,
        wanted: impl Fn() -> bool + Send + 'static,
        reply: impl FnOnce(Fetched) + Send + 'static,
    ) {
        let most = most.min(tokens.len());
        let (wanted, reply) = (Box::new(wanted), Reply(Some(Box::new(reply))));
        let request = Request { tokens, have, most, asked: Instant::now(), wanted, reply };
        let sender = self.requests.as_ref().expect("there until the vault is dropped");
        let _ = sender.send(request); // a request that is dropped is answered
    }

    /// Segments that a tier did not keep, so far.
    pub fn lost(&self) -> u64 {
        self.stats().tiers.iter().map(|tier| tier.dropped.segments).sum()
    }

    /// Keeps a segment in every tier, as soon as each of them gets there. False when none takes it, because too much
    /// waits already; the same may be saved later.
    pub fn save(&self, segment: Segment) -> bool {
        let name = segment.name(self.root);
        let segment = Arc::new(segment);
        let taken = self.shelves.iter().map(|shelf| {
            let taken = shelf.queue.push(Job::Save(name, segment.clone()));
            if !taken {
                shelf.counters.dropped.add(segment.bytes());
            }
            taken
        });
        taken.fold(false, |any, taken| any | taken)
    }

    /// Forgets a segment that ends at no boundary, for example the end of an answer that newer ones have followed.
    pub fn forget(&self, parent: Key, end: usize, key: Key) {
        let name = SegmentName { root: self.root, parent, end, key };
        self.shelves.iter().for_each(|shelf| _ = shelf.queue.push(Job::Forget(name)));
    }

    /// Waits until everything that was saved before is written, or could not be.
    pub fn flush(&self) {
        self.shelves.iter().for_each(|shelf| shelf.queue.drained());
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        Stats { tiers: self.shelves.iter().map(|shelf| shelf.counters.stats(&shelf.tier.name)).collect() }
    }
}

impl Drop for Vault {
    /// Writes what waits, as [`Vault::flush`] does.
    fn drop(&mut self) {
        self.requests = None;
        self.shelves.iter().for_each(|shelf| shelf.queue.close());
        self.threads.drain(..).for_each(|thread| _ = thread.join());
    }
}

impl Shelf {
    /// Counts a failure, and says it if the same was not said just now.
    fn failed(&self, not: &str, why: &str) {
        self.counters.failures.fetch_add(1, Relaxed);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        // The names differ, the reason is what follows them.
        let reason = why.rsplit(": ").next().unwrap_or(why);
        if !said.as_ref().is_some_and(|(last, when)| last == reason && when.elapsed() < QUIET) {
            log(&self.tier.name, format_args!("not {not}: {why}"));
            *said = Some((reason.into(), Instant::now()));
        }
    }
}

/// Writes a line about a tier on stderr.
fn log(tier: &str, what: impl std::fmt::Display) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(format!("ds4: kv cache {tier}: {what}\n").as_bytes());
}

#[cfg(test)]
mod tests;
