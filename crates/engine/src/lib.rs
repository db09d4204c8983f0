//! Runs a model: opens it, plans its memory, and turns token lists into events.
//!
//! An [`Engine`] owns the backend on a thread of its own. A [`Sequence`] is one conversation's state; [`Sequence::submit`]
//! hands it a complete token list and yields [`Event`]s while the engine reuses whatever prefix it still holds. Several
//! sequences run at once: each step of the backend carries tokens of all of them (`scheduler.rs`).

mod engine;
mod error;
mod experts;
mod job;
mod model;
mod options;
mod order;
mod pages;
mod plan;
mod quantum;
mod request;
mod resident;
mod runner;
mod sampler;
mod scheduler;
mod scores;
mod sequence;

pub use engine::Engine;
pub use error::Error;
pub use experts::ExpertsUsed;
pub use model::{Model, load_tokenizer};
pub use options::Options;
pub use plan::{Machine, Plan, disk_rate};
pub use request::{Event, Finish, Observe, Observed, Priority, Request, Token, TokenScore, Usage};
pub use sampler::{Sampler, Sampling};
pub use sequence::{Run, Sequence};
