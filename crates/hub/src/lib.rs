//! Model files: which there are ([`Catalogue`]), where they lie ([`Store`]), and how they get there ([`obtain`]).
//!
//! A download can end at any instant and goes on with the next call: bytes go to `FILE.part`, beside which `FILE.origin`
//! says what they are part of; the file gets its name when it is whole, on the disk, of the published SHA-256, and a GGUF.

mod catalogue;
mod error;
mod network;
mod origin;
mod part;
mod progress;
mod pull;
mod settings;
mod source;
mod space;
mod store;
mod token;
mod transfer;
mod verify;

pub use catalogue::{Catalogue, Model, Pick};
pub use error::Error;
pub use progress::{MESSAGE_CHARS, PROGRESS_EVERY, Phase, Progress, Report, short};
pub use pull::obtain;
pub use settings::{Patience, Settings};
pub use source::{Remote, Source};
pub use store::{State, Store};
pub use token::Token;
