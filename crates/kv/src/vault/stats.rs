//! What tiers did.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a vault did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tier by tier.
    pub tiers: Vec<TierStats>,
}

/// What one tier did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Its name.
    pub name: String,
    /// Read and found whole.
    pub read: Count,
    /// Written.
    pub written: Count,
    /// Not written: too much waited, or it failed, or it did not fit.
    pub dropped: Count,
    /// Removed to make room.
    pub removed: Count,
    /// Segments that were damaged, and removed.
    pub damaged: u64,
    /// What the store could not do.
    pub failures: u64,
    /// Bytes that it keeps, where it has a budget: as they were at the last look, with what was written since.
    pub kept_bytes: u64,
}

/// Segments and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub segments: u64,
    /// How large together.
    pub bytes: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) read: Counter,
    pub(super) written: Counter,
    pub(super) dropped: Counter,
    pub(super) removed: Counter,
    pub(super) damaged: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) kept_bytes: AtomicU64,
}

#[derive(Default)]
pub(super) struct Counter {
    segments: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    pub(super) fn add(&self, bytes: usize) {
        self.segments.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    fn count(&self) -> Count {
        Count { segments: self.segments.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

impl Counters {
    pub(super) fn stats(&self, name: &str) -> TierStats {
        TierStats {
            name: name.into(),
            read: self.read.count(),
            written: self.written.count(),
            dropped: self.dropped.count(),
            removed: self.removed.count(),
            damaged: self.damaged.load(Relaxed),
            failures: self.failures.load(Relaxed),
            kept_bytes: self.kept_bytes.load(Relaxed),
        }
    }
}
