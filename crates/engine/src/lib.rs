//! Runs a model: opens it, plans its memory, and turns token lists into events.
//!
//! An [`Engine`] owns the backend on a thread of its own. A [`Sequence`] is one conversation's state; [`Sequence::submit`]
//! hands it a complete token list and yields [`Event`]s while the engine reuses whatever prefix it still holds.

mod engine;
mod error;
mod model;
mod plan;
mod request;
mod sampler;
mod worker;

pub use engine::{Engine, Options, Run, Sequence};
pub use error::Error;
pub use model::{Model, load_tokenizer};
pub use plan::{Machine, Plan, disk_rate};
pub use request::{Event, Finish, Observe, Observed, Request, Token, TokenScore, Usage};
pub use sampler::{Sampler, Sampling};
