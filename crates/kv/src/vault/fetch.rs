//! The thread that reads: the longest way from what is there towards the end of a prompt.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use ds4_model::PAGE_TOKENS;

use super::{Fetched, Request, Shelf, log};
use crate::segment::Damaged;
use crate::{Key, Segment, SegmentName};

/// Questions and segments that are on their way at once: a distant store answers slowly, but many.
const AT_ONCE: usize = 4;

/// Answers requests, one after the other.
pub(super) struct Reader {
    pub(super) root: Key,
    pub(super) every: usize,
    pub(super) shelves: Vec<Arc<Shelf>>,
}

/// What continues a boundary, by the names.
#[derive(Default)]
struct Step {
    /// The segment to the next boundary, where it is.
    next: Vec<Found>,
    /// Shorter ones, the longest first.
    tails: Vec<Found>,
}

/// A segment somewhere.
struct Found {
    shelf: usize,
    name: SegmentName,
    /// It waits to be written there.
    waiting: Option<Arc<Segment>>,
}

/// A prompt and the keys of its boundaries.
struct Prompt<'a> {
    tokens: &'a [u32],
    have: usize,
    most: usize,
    /// After each whole page.
    keys: Vec<Key>,
}

impl Reader {
    pub(super) fn answer(&self, request: Request) {
        let Request { tokens, have, most, asked, wanted, reply } = request;
        let mut fetched = Fetched::default();
        if have < most && wanted() {
            let prompt = Prompt { tokens: &tokens, have, most, keys: self.root.chain(&tokens[..most]) };
            let steps = self.plan(&prompt);
            if wanted() {
                self.load(&prompt, &steps, &mut fetched);
            }
        }
        fetched.took = asked.elapsed();
        reply.tell(fetched);
    }

    /// Follows the boundaries by name as far as they go: first one, then several at once.
    fn plan(&self, prompt: &Prompt<'_>) -> Vec<Step> {
        let mut starts = (prompt.have / self.every * self.every..prompt.most).step_by(self.every);
        let mut steps = Vec::new();
        let mut window = 1;
        loop {
            let next: Vec<usize> = starts.by_ref().take(window).collect();
            if next.is_empty() {
                return steps;
            }
            for step in at_once(&next, |start| self.continuations(prompt, *start)) {
                let ends = step.next.is_empty();
                steps.push(step);
                if ends {
                    return steps;
                }
            }
            window = AT_ONCE;
        }
    }

    /// What continues the boundary at `start`; the tiers after one that has the next boundary are not asked.
    fn continuations(&self, prompt: &Prompt<'_>, start: usize) -> Step {
        let mut step = Step::default();
        let parent = prompt.keys[start / PAGE_TOKENS];
        let boundary = start + self.every;
        for (at, shelf) in self.shelves.iter().enumerate() {
            for (name, waiting) in self.names(shelf, parent) {
                let fits = name.end > start.max(prompt.have) && name.end <= boundary.min(prompt.most);
                if fits && name.key == prompt.key(name.end) {
                    let found = Found { shelf: at, name, waiting };
                    if name.end == boundary { &mut step.next } else { &mut step.tails }.push(found);
                }
            }
            if !step.next.is_empty() {
                break;
            }
        }
        step.tails.sort_by_key(|found| std::cmp::Reverse(found.name.end));
        step
    }

    /// The names of all segments that start at `parent`, those that wait to be written first.
    fn names(&self, shelf: &Shelf, parent: Key) -> Vec<(SegmentName, Option<Arc<Segment>>)> {
        let waiting = shelf.queue.after(parent).into_iter().map(|(name, segment)| (name, Some(segment)));
        let listed = shelf.tier.store.list(&SegmentName::prefix(self.root, parent)).unwrap_or_else(|why| {
            shelf.failed("read", &why.to_string());
            Vec::new()
        });
        let written = listed.iter().filter_map(|entry| entry.name.parse().ok()).map(|name| (name, None));
        waiting.chain(written).collect()
    }

    /// Reads the segments, several at once. Where one is damaged or gone, the way ends with the longest tail before it.
    fn load(&self, prompt: &Prompt<'_>, steps: &[Step], fetched: &mut Fetched) {
        let first = |candidates: &[Found]| {
            candidates.iter().find_map(|found| self.read(prompt, found).map(|segment| (found.shelf, segment)))
        };
        for window in steps.chunks(AT_ONCE) {
            let next = at_once(window, |step| first(&step.next));
            for (step, next) in window.iter().zip(next) {
                let ends = next.is_none();
                if let Some((shelf, segment)) = next.or_else(|| first(&step.tails)) {
                    fetched.segments.push(segment);
                    fetched.source = Some(self.shelves[shelf].tier.name.clone());
                }
                if ends {
                    return;
                }
            }
        }
    }

    /// Reads a segment and compares it with the prompt; one that is damaged is removed.
    fn read(&self, prompt: &Prompt<'_>, found: &Found) -> Option<Segment> {
        if let Some(segment) = &found.waiting {
            return Some(Segment::clone(segment)).filter(|s| prompt.has(s));
        }
        let shelf = &self.shelves[found.shelf];
        let (store, name) = (&shelf.tier.store, found.name.to_string());
        let bytes = match store.get(&name) {
            Ok(bytes) => bytes?,
            Err(why) => {
                shelf.failed("read", &why.to_string());
                return None;
            }
        };
        let segment = Segment::decode(&bytes).and_then(|segment| {
            let same = segment.name(self.root) == found.name && prompt.has(&segment);
            if same { Ok(segment) } else { Err(Damaged::Misnamed) }
        });
        match segment {
            Ok(segment) => {
                shelf.counters.read.add(bytes.len());
                // It may be on a store that can only be read.
                let _ = store.touch(&name);
                Some(segment)
            }
            Err(why) => {
                shelf.counters.damaged.fetch_add(1, Relaxed);
                let removed = if store.remove(&name).is_ok() { "removed" } else { "and cannot be removed" };
                log(&shelf.tier.name, format_args!("{name} is damaged, {removed}: {why}"));
                None
            }
        }
    }
}

/// Does the same for each, on threads of their own; the results are in order.
fn at_once<T: Sync, R: Send>(all: &[T], what: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if let [one] = all {
        return vec![what(one)];
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(|| what(one))).collect();
        let result = |thread: std::thread::ScopedJoinHandle<'_, R>| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(result).collect()
    })
}

impl Prompt<'_> {
    /// The key of its first `end` tokens.
    fn key(&self, end: usize) -> Key {
        let pages = end / PAGE_TOKENS;
        match end % PAGE_TOKENS {
            0 => self.keys[pages],
            _ => self.keys[pages].then(&self.tokens[pages * PAGE_TOKENS..end]),
        }
    }

    /// Whether it contains a segment's tokens where the segment lies.
    fn has(&self, segment: &Segment) -> bool {
        let (start, end) = (segment.start, segment.end());
        end <= self.most
            && segment.parent == self.keys[start / PAGE_TOKENS]
            && self.tokens[start..end] == segment.tokens
    }
}
