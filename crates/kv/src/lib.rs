//! What was computed once: pages of compressed rows, resume points, and where they are kept.
//!
//! A *page* holds the compressed rows of 128 tokens; a *resume point* holds what only the end of a sequence has (windows,
//! compressor states, the rows of an unfinished page), so that a sequence can go on from there. Both are named by a
//! [`Key`], the hash of all tokens before and of everything else that shapes the values. This crate knows names, tokens
//! and bytes; what the bytes mean is the backend's.

mod catalogue;
mod key;
mod segment;
pub mod store;
mod tree;
mod vault;

pub use catalogue::{Catalogue, Kept};
pub use key::Key;
pub use segment::{Damaged, Header, NotAName, Segment, SegmentName};
pub use tree::{Hit, Node, Point, Tree};
pub use vault::{Count, Fetched, Stats, Tier, TierStats, Vault};
