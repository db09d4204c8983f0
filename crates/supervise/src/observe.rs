//! Who serves now.

use crate::process;
use crate::records::{MANAGED_BY, ServerRecord};
use crate::{Error, FileLock, Found, StateDir, read_json};

/// How the URLs of servers without a lock begin.
const LOCAL: [&str; 3] = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];

/// The server of a state directory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Server {
    /// There is none. What `server.json` says is of one that is gone, if it is there.
    None { stale: Option<String> },
    /// This process holds the lock; it may not have said anything about itself yet.
    Ours { pid: u32, record: Option<ServerRecord> },
    /// One without the lock: another program's, one that was adopted, or one whose lock file was removed.
    Foreign(ServerRecord),
}

impl Server {
    /// Asks the kernel, then the file.
    pub(crate) fn of(dir: &StateDir) -> Result<Self, Error> {
        let found = read_json::<ServerRecord>(&dir.server());
        if let Some(pid) = FileLock::holder(&dir.server_lock())? {
            let record = found.there().filter(|record| record.pid == pid);
            return Ok(Self::Ours { pid, record });
        }
        Ok(match found {
            Found::Nothing => Self::None { stale: None },
            Found::Unreadable(why) => Self::None { stale: Some(why) },
            Found::There(record) if is_foreign_server(&record) => Self::Foreign(record),
            Found::There(record) => {
                let path = dir.server();
                let what = if process::is_alive(record.pid) { "is no server of this folder" } else { "is gone" };
                Self::None { stale: Some(format!("{}: process {} {what}", path.display(), record.pid)) }
            }
        })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::None { .. } => None,
            Self::Ours { pid, .. } => Some(*pid),
            Self::Foreign(record) => Some(record.pid),
        }
    }

    /// What it says about itself.
    pub(crate) fn record(&self) -> Option<&ServerRecord> {
        match self {
            Self::None { .. } => None,
            Self::Ours { record, .. } => record.as_ref(),
            Self::Foreign(record) => Some(record),
        }
    }

    /// Whether it said that it ends.
    pub(crate) fn is_stopping(&self) -> bool {
        self.record().is_some_and(|record| record.stopping)
    }
}

/// Whether a record is of a server without the lock that is there: one that knows nothing of it, or whose lock file somebody
/// removed. Its start is the one that was written, or, where none was, its command line is a ds4-server's.
fn is_foreign_server(record: &ServerRecord) -> bool {
    record.managed_by == MANAGED_BY
        && LOCAL.iter().any(|begin| record.base_url.starts_with(begin))
        && record.lives()
        && (record.process_start_exact.is_some() || is_ds4_server(record.pid))
}

/// Whether the process of a record is there, as far as the record says which one it was: a number alone says nothing.
pub(crate) fn is_there(record: &ServerRecord) -> bool {
    let started = record.process_start_exact.is_some() || record.process_start.is_some();
    record.lives() && (started || is_ds4_server(record.pid))
}

/// Whether a process was started as a ds4-server.
pub(crate) fn is_ds4_server(pid: u32) -> bool {
    process::command_line(pid).is_some_and(|line| line.contains("ds4-server") || line.contains("ds4 serve"))
}
