//! A running sequence's place in the backend.

use ds4_kv::Node;

/// Where a running sequence computes: a slot for its window and states, a prefix that it shares with others, and pages of
/// its own after that.
pub(crate) struct Seat {
    /// Slot of the cache.
    pub(crate) slot: usize,
    /// Its whole pages, pinned.
    pub(crate) node: Node,
    /// Its page table: those of the prefix, then its own.
    pub(crate) table: Vec<u32>,
}
