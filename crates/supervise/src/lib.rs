//! Exactly one server for a state directory, never lost, and none that stays running behind people's back.
//!
//! The truth is held by the kernel, which releases it when a process dies, however it dies: the server holds a lock on
//! `server.lock` for its whole life ([`FileLock`]), and who changes anything holds one on `lifecycle.lock`
//! ([`LifecycleLock`]). The documented files beside them (`server.json`, `lock/`, `clients/`) are what people and older
//! programs read; they may be stale, damaged or gone, and nothing worse follows than that they are written again.
//!
//! - [`StateDir`]: the files; `json.rs` reads and writes them, `records.rs` is what is in them;
//! - [`process`]: a process and not another one that got its number;
//! - [`up`], [`down`], [`status`], [`doctor`]: what the commands of these names do;
//! - [`lease`] and [`Watchdog`]: who needs the server, and its end when nobody does;
//! - [`Presence`]: the server's side, [`log`]: its log.

mod dir;
pub mod doctor;
mod down;
mod error;
mod file_lock;
mod http;
mod json;
pub mod lease;
mod lifecycle;
pub mod log;
mod observe;
mod port;
mod presence;
pub mod process;
mod records;
mod spawn;
mod status;
mod stop;
mod timings;
mod up;
mod watchdog;

pub use dir::StateDir;
pub use down::{Down, down};
pub use error::Error;
pub use file_lock::FileLock;
pub use json::{Found, read_json, write_json};
pub use lifecycle::{LifecycleLock, Nameless};
pub use presence::{Description, Presence};
pub use records::{LeaseRecord, MANAGED_BY, Owner, ServerRecord, iso};
pub use status::{State, Status, status};
pub use stop::Stop;
pub use timings::Timings;
pub use up::{Model, Ready, Wanted, up};
pub use watchdog::Watchdog;
