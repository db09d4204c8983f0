//! The thread that writes to a tier.

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use super::Shelf;
use super::queue::Job;
use crate::catalogue::Catalogue;
use crate::{Segment, SegmentName};

/// How often a segment is written at most, where a store says that an outage may end. Others wait meanwhile.
const TRIES: usize = 20;

/// Writes what its tier's queue holds.
pub(super) struct Writer<'a> {
    shelf: &'a Shelf,
    /// Bytes that may be written before the next look at what is there.
    slack: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(shelf: &'a Shelf) -> Self {
        Self { shelf, slack: 0 }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        if let Err(why) = self.make_room(None, 0) {
            self.shelf.failed("written", &why);
        }
        while let Some(job) = self.shelf.queue.next() {
            match job {
                Job::Save(name, segment) => self.save(name, &segment),
                Job::Forget(name) => self.forget(name),
            }
            self.shelf.queue.done();
        }
    }

    fn save(&mut self, name: SegmentName, segment: &Segment) {
        let counters = &self.shelf.counters;
        match self.write(name, segment) {
            Ok(bytes) => {
                counters.written.add(bytes);
                counters.kept_bytes.fetch_add(bytes as u64, Relaxed);
            }
            Err(why) => {
                counters.dropped.add(segment.bytes());
                self.shelf.failed("written", &why);
            }
        }
    }

    fn write(&mut self, name: SegmentName, segment: &Segment) -> Result<usize, String> {
        let bytes = segment.encode().map_err(|e| format!("{name} is not kept: {e}"))?;
        self.make_room(Some(name), bytes.len() as u64)?;
        let mut tries = 1;
        while let Err(why) = self.shelf.tier.store.put(&name.to_string(), &bytes) {
            let again = why.again.filter(|time| tries < TRIES && self.shelf.queue.rest(*time));
            let why = why.to_string();
            again.ok_or_else(|| why.clone())?;
            self.shelf.failed("written yet", &why);
            tries += 1;
        }
        Ok(bytes.len())
    }

    fn forget(&mut self, name: SegmentName) {
        if let Err(why) = self.shelf.tier.store.remove(&name.to_string()) {
            self.shelf.failed("removed", &why.to_string());
        }
    }

    /// Makes sure that so many bytes more fit into the budget, and forgets what is worth least where they do not.
    ///
    /// Other processes write, too, so what is there is looked at again before a quarter of what is free is written.
    fn make_room(&mut self, next: Option<SegmentName>, bytes: u64) -> Result<(), String> {
        let Shelf { tier, counters, .. } = self.shelf;
        let Some(budget) = tier.budget else { return Ok(()) };
        if bytes > budget {
            return Err(format!("a segment of {bytes} bytes is larger than the space of {budget}"));
        }
        if next.is_some() && bytes <= self.slack {
            self.slack -= bytes;
            return Ok(());
        }
        let catalogue = Catalogue::read(&*tier.store).map_err(|e| e.to_string())?;
        let mut kept = catalogue.bytes();
        if kept + bytes > budget {
            // Some more than is needed, so that not every segment makes a look necessary.
            let most = (budget - bytes).min(budget - budget / 32);
            for surplus in catalogue.surplus(most, next.map(|name| (name.root, name.parent)), SystemTime::now()) {
                tier.store.remove(&surplus.name.to_string()).map_err(|e| e.to_string())?;
                counters.removed.add(surplus.bytes as usize);
                kept -= surplus.bytes;
            }
        }
        counters.kept_bytes.store(kept, Relaxed);
        if kept + bytes > budget {
            return Err(format!("what leads to a segment of {bytes} bytes fills the space of {budget}"));
        }
        self.slack = (budget - kept - bytes) / 4;
        Ok(())
    }
}
