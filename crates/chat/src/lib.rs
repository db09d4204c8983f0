//! Conversation to text and back, as DeepSeek V4 was trained. No I/O, no tensors, no ids.
//!
//! [`render`] turns a [`Conversation`] into the text that the model continues; [`Reader`] splits the continuation into
//! reasoning, answer and calls. One file per subject:
//!
//! - `message.rs`: what a conversation is made of
//! - `turns.rs`: messages to turns: results join the user's turn, in the order of the calls; what is forgotten
//! - `template.rs`: turns to text
//! - `tools.rs`: tool schemas, calls and results (DSML)
//! - `effort.rs`: thinking modes and what they say to the model
//! - `json.rs`: JSON as Python prints it, which is what the model has seen
//! - `rendered.rs`: text, and where its control tokens are
//! - `reader.rs`: the way back, with its parts in `reader/`
//!
//! Invariants: what a person or a tool wrote never becomes a control token ([`Rendered::specials`] names only what the
//! template wrote); there is one rendering, the official one; nothing here panics on any content.

mod effort;
mod json;
mod message;
mod reader;
mod rendered;
mod template;
mod tools;
mod turns;

pub use effort::{Effort, Mode, Options, Release};
pub use message::{Conversation, Message, Role, Task, ToolCall};
pub use reader::{End, Event, Finished, Reader, Tools};
pub use rendered::{AssistantSpan, Rendered};
pub use serde_json::value::RawValue;
pub use template::render;
