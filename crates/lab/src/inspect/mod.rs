//! What is in a GGUF file: a summary for people, lists of its metadata and tensors, and a search for damaged weights.
//!
//! - `summary.rs`: the report of `--inspect`
//! - `families.rs`: which tensors do the same work, their sizes, formats and parameters
//! - `listing.rs`: every tensor, every metadata key
//! - `check.rs`: scales and values that are not finite
//! - `text.rs`: numbers and names as people read them

mod check;
mod families;
mod listing;
mod summary;
mod text;

pub use check::{Checked, NonFinite, check};
pub use listing::{metadata, tensors};
pub use summary::{Summary, summary};
