//! What is in the files. Other programs write and read them, too: what they add is ignored, what they leave out is unknown.

use std::path::PathBuf;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::json::milliseconds;
use crate::process::{self, Start};

/// In all files; the spelling is historical and stays, since others compare it.
pub const MANAGED_BY: &str = "pi-sd4-provider";

/// `server.json`: what runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerRecord {
    /// [`MANAGED_BY`]
    pub managed_by: String,
    /// Its number.
    pub pid: u32,
    /// When it started, as `ps -o lstart=` says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_start: Option<String>,
    /// The same, exactly; see [`Start`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_start_exact: Option<String>,
    /// Without `/v1`.
    pub base_url: String,
    /// Where it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// Which program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary: Option<PathBuf>,
    /// How it was started.
    pub args: Vec<String>,
    /// The model's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// Its file; none is the built-in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_path: Option<PathBuf>,
    /// Where it keeps prefixes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_dir: Option<PathBuf>,
    /// Tokens of a context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<u64>,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<u64>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at_iso: Option<String>,
    /// It does not listen yet.
    #[serde(skip_serializing_if = "is_false")]
    pub starting: bool,
    /// It ends.
    #[serde(skip_serializing_if = "is_false")]
    pub stopping: bool,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping_at: Option<u64>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping_at_iso: Option<String>,
    /// It ran before, and is not ours to end.
    #[serde(skip_serializing_if = "is_false")]
    pub adopted: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl ServerRecord {
    /// Of this process or another one.
    pub(crate) fn of(pid: u32) -> Self {
        let start = process::start_of(pid);
        let (at, iso) = now();
        Self {
            managed_by: MANAGED_BY.into(),
            pid,
            process_start: start.as_ref().map(|start| start.shown.clone()),
            process_start_exact: start.map(|start| start.exact),
            started_at: Some(at),
            started_at_iso: Some(iso),
            ..Self::default()
        }
    }

    /// Whether the process that it describes is there.
    pub(crate) fn lives(&self) -> bool {
        process::is_same(self.pid, self.process_start_exact.as_deref(), self.process_start.as_deref())
    }

    /// Says that it ends.
    pub(crate) fn mark_stopping(&mut self) {
        let (at, iso) = now();
        (self.stopping, self.stopping_at, self.stopping_at_iso) = (true, Some(at), Some(iso));
    }
}

/// `clients/PID.json`: a process that needs the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseRecord {
    /// [`MANAGED_BY`]
    pub managed_by: String,
    /// Always.
    pub uses_ds4: bool,
    /// Which process.
    pub pid: u32,
    /// When it started, as `ps -o lstart=` says it.
    pub process_start: String,
    /// The same, exactly; see [`Start`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_start_exact: Option<String>,
    /// Where it works.
    #[serde(default)]
    pub cwd: String,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub started_at: u64,
    /// When this was written; the file's time says when it was last confirmed.
    #[serde(default)]
    pub updated_at: u64,
    /// The same for people.
    #[serde(default)]
    pub updated_at_iso: String,
}

impl LeaseRecord {
    /// Of a process that is there.
    pub(crate) fn of(pid: u32, start: Start, cwd: String) -> Self {
        let (at, iso) = now();
        Self {
            managed_by: MANAGED_BY.into(),
            uses_ds4: true,
            pid,
            process_start: start.shown,
            process_start_exact: Some(start.exact),
            cwd,
            started_at: at,
            updated_at: at,
            updated_at_iso: iso,
        }
    }

    /// Whether it says what a lease says, of a process that is there.
    pub(crate) fn lives(&self) -> bool {
        self.managed_by == MANAGED_BY
            && self.uses_ds4
            && process::is_same(self.pid, self.process_start_exact.as_deref(), Some(&self.process_start))
    }
}

/// `lock/owner.json`: who changes something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// [`MANAGED_BY`]
    pub managed_by: String,
    /// Which process.
    pub pid: u32,
    /// When it started, as `ps -o lstart=` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_start: Option<String>,
    /// The same, exactly; see [`Start`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_start_exact: Option<String>,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub created_at: u64,
}

impl Owner {
    /// This process.
    pub(crate) fn new() -> Self {
        let pid = std::process::id();
        let start = process::start_of(pid);
        Self {
            managed_by: MANAGED_BY.into(),
            pid,
            process_start: start.as_ref().map(|start| start.shown.clone()),
            process_start_exact: start.map(|start| start.exact),
            created_at: now().0,
        }
    }

    /// Whether the process is there.
    pub(crate) fn lives(&self) -> bool {
        process::is_same(self.pid, self.process_start_exact.as_deref(), self.process_start.as_deref())
    }
}

/// Now in milliseconds since 1970, and for people.
fn now() -> (u64, String) {
    let now = SystemTime::now();
    (milliseconds(now), iso(now))
}

/// A time for people and programs: ISO 8601, UTC, milliseconds.
pub fn iso(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}
