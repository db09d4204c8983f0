//! What an engine did so far, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Usage;

/// What an engine did since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Requests that arrived.
    pub requests: u64,
    /// Requests that were sent back into the queue because others needed their memory.
    pub sent_back: u64,
    /// Tokens computed, of prompts and answers.
    pub tokens_computed: u64,
    /// Tokens of prompts that were not computed again, because RAM held them.
    pub tokens_from_ram: u64,
    /// The same, where a part came from a tier below.
    pub tokens_from_below: u64,
    /// Time that requests spent in the queue, in milliseconds.
    pub queued_ms: u64,
    /// Resume points made.
    pub points_made: u64,
    /// Resume points dropped because there were too many.
    pub points_dropped: u64,
    /// Pages dropped because others needed their place.
    pub pages_dropped: u64,
    /// Pages in all.
    pub pages: u64,
    /// Pages that running sequences use, or waiting ones hold, when it was last looked at.
    pub pages_used: u64,
    /// Pages that hold something for later.
    pub pages_kept: u64,
    /// Bytes of resume points.
    pub point_bytes: u64,
    /// The tiers below RAM.
    pub tiers: Vec<ds4_kv::TierStats>,
}

/// A number that others look at.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn set(&self, n: usize) {
        self.0.store(n as u64, Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The numbers as they grow.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) requests: Counter,
    pub(crate) sent_back: Counter,
    pub(crate) tokens_computed: Counter,
    tokens_from_ram: Counter,
    tokens_from_below: Counter,
    queued_ms: Counter,
    pub(crate) points_made: Counter,
    pub(crate) points_dropped: Counter,
    pub(crate) pages_dropped: Counter,
    pub(crate) pages: Counter,
    pub(crate) pages_used: Counter,
    pub(crate) pages_kept: Counter,
    pub(crate) point_bytes: Counter,
}

impl Counters {
    /// A request has left the queue for the first time.
    pub(crate) fn started(&self, usage: &Usage) {
        let from = if usage.source.is_some() { &self.tokens_from_below } else { &self.tokens_from_ram };
        from.add(usage.reused as u64);
        self.queued_ms.add(usage.queued.as_millis() as u64);
    }

    pub(crate) fn read(&self, vault: ds4_kv::Stats) -> Metrics {
        Metrics {
            requests: self.requests.read(),
            sent_back: self.sent_back.read(),
            tokens_computed: self.tokens_computed.read(),
            tokens_from_ram: self.tokens_from_ram.read(),
            tokens_from_below: self.tokens_from_below.read(),
            queued_ms: self.queued_ms.read(),
            points_made: self.points_made.read(),
            points_dropped: self.points_dropped.read(),
            pages_dropped: self.pages_dropped.read(),
            pages: self.pages.read(),
            pages_used: self.pages_used.read(),
            pages_kept: self.pages_kept.read(),
            point_bytes: self.point_bytes.read(),
            tiers: vault.tiers,
        }
    }
}
