//! HTTP: the OpenAI (chat, completions, responses) and Anthropic APIs over the engine. Knows conversations and tokens, never a tensor.
//!
//! A request's way, one file a step:
//!
//! 1. `listen.rs` accepts the connection (`connections.rs` says who makes room for it), `routes.rs` asks for a key where
//!    there are some (`keys.rs`) and finds the handler, `body.rs` reads and parses the body;
//! 2. `openai/body.rs`, `responses/body.rs` or `anthropic/body.rs` is what that API may say, turned into a [`Request`], which no longer knows
//!    the API (`request.rs`);
//! 3. `server.rs` renders it to tokens and checks that they fit; `queue.rs` holds it until its turn;
//! 4. `worker.rs` runs it on the engine, names its calls (`calls.rs`) and reports [`Progress`](progress::Progress);
//!    what it took (`record.rs`) goes to the `ledger.rs`: `stats.rs`, `metrics.rs` and `log.rs`;
//! 5. `openai/reply.rs`, `responses/reply.rs` or `anthropic/reply.rs` says that in its API's words: whole (`whole.rs`) or as events (`sse.rs`).
//!
//! Invariants: nothing a client sends makes this panic or grow without a limit; a client that leaves or stops reading is
//! given up, and the engine never waits for one; an error has a status, a message with the way out, and the form of its API.

pub mod anthropic;
mod body;
mod calls;
mod connections;
mod control;
mod error;
mod host;
mod keys;
mod ledger;
mod listen;
mod log;
mod metrics;
mod models;
pub mod openai;
mod page;
mod progress;
mod queue;
mod reach;
mod record;
mod request;
pub mod responses;
mod routes;
mod server;
mod source;
mod sse;
mod stall;
mod stats;
mod steering;
mod text;
mod timings;
mod tokens;
mod trace;
mod whole;
#[cfg(test)]
mod wire;
mod worker;
mod writing;

pub use control::{Change, Control};
pub use error::Error;
pub use keys::Keys;
pub use listen::{Config, run};
pub use log::LogFormat;
pub use reach::addresses;
pub use request::{Draw, Request, ToolChoice};
pub use source::{Source, Submitted};
pub use steering::{Policy, SteeringConfig, SteeringWish};
