//! Runs a model: opens it, plans its memory, and turns token lists into events.
//!
//! An [`Engine`] owns the backend on a thread of its own. [`Engine::submit`] hands it a complete token list and yields
//! [`Event`]s while the engine reuses whatever prefix it has computed before, for whomever (`prefixes.rs`). Several
//! requests run at once: each step of the backend carries tokens of all of them (`scheduler.rs`).
//!
//! A conversation has no handle. What the engine keeps is found by tokens, so to fork, to rewind and to take a snapshot
//! are what a caller does with a list.

mod engine;
mod error;
mod experts;
mod guide;
mod job;
mod metrics;
mod model;
mod options;
mod order;
mod plan;
mod prefixes;
mod quantum;
mod request;
mod run;
mod runner;
mod sampler;
mod scheduler;
mod scores;
mod seat;
mod steering;

pub use ds4_kv::TierStats;
pub use engine::Engine;
pub use error::Error;
pub use experts::ExpertsUsed;
pub use guide::{Guide, Rule};
pub use metrics::Metrics;
pub use model::{Model, load_tokenizer};
pub use options::Options;
pub use plan::{Machine, Plan, disk_rate};
pub use request::{Event, Finish, Observe, Observed, Priority, Request, Token, TokenScore, Usage};
pub use run::Run;
pub use sampler::{Penalties, Sampler, Sampling};
pub use steering::{Directions, Steering, When};
