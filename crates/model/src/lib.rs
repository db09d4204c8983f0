//! What DeepSeek V4 is: its [`Shape`], its [`Weights`], the operations a backend provides ([`Ops`]), and the forward
//! pass, written once against them ([`forward()`]).
//!
//! A backend implements [`Ops`] and nothing else; the pass never sees a value, only opaque buffers, so that a step can
//! be recorded and replayed on a GPU. `docs/numerics.md` fixes what every operation computes.

mod batch;
mod cache;
mod error;
mod forward;
mod load;
mod numerics;
mod ops;
pub mod rope;
mod shape;
mod timed;
mod weights;

pub use batch::{Batch, Outputs, Span};
pub use cache::{CacheLayout, CachePlan, PAGE_TOKENS, RowLayout};
pub use error::Error;
pub use forward::{NoTap, Scratch, Seen, Tap, attention, feed_forward, forward};
pub use numerics::{Activations, NUMERICS_ID, Numerics, ROLLBACK, StoredRows};
pub use ops::{Ops, Series};
pub use shape::{Shape, Yarn};
pub use timed::{OperationTime, Timed};
pub use weights::{
    Attention, Compressor, Experts, FeedForward, HyperConnection, HyperHead, Indexer, Layer, Matrix, Mtp, Router,
    Selection, SharedExpert, Vector, Weights,
};
