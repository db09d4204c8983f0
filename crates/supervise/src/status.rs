//! What runs, without changing anything.

use crate::lease::{self, Lease};
use crate::observe::Server;
use crate::records::{LeaseRecord, ServerRecord};
use crate::{Error, Found, StateDir, Timings, http};

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It takes requests.
    Running,
    /// It does not yet.
    Starting,
    /// It ends.
    Stopping,
    /// There is none.
    Stopped,
    /// There is none, but `server.json` says there is.
    Stale,
}

impl State {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Stale => "stale",
        }
    }
}

/// What there is to say about a state directory.
#[derive(Clone, Debug)]
pub struct Status {
    /// What the server does.
    pub state: State,
    /// Its process.
    pub pid: Option<u32>,
    /// What it says about itself.
    pub record: Option<ServerRecord>,
    /// Why what `server.json` says does not count.
    pub stale: Option<String>,
    /// Who needs it.
    pub leases: Vec<LeaseRecord>,
    /// Whether it stays without anybody.
    pub kept: bool,
}

/// Looks.
pub fn status(dir: &StateDir, timings: &Timings) -> Result<Status, Error> {
    let server = Server::of(dir)?;
    let state = match &server {
        Server::None { stale: None } => State::Stopped,
        Server::None { stale: Some(_) } => State::Stale,
        server if server.is_stopping() => State::Stopping,
        server => match server.record().filter(|record| !record.starting && http::is_ready(&record.base_url)) {
            Some(_) => State::Running,
            None => State::Starting,
        },
    };
    let valid = |lease: &Lease| lease.is_valid(timings.lease_ttl);
    let leases = lease::all(dir).into_iter().filter(valid).filter_map(|lease| lease.record.there());
    let stale = match &server {
        Server::None { stale } => stale.clone(),
        _ => None,
    };
    Ok(Status {
        state,
        pid: server.pid(),
        record: server.record().cloned(),
        stale,
        leases: leases.collect(),
        kept: dir.keep().exists(),
    })
}

/// What `server.json` says, whoever runs.
pub(crate) fn recorded(dir: &StateDir) -> Found<ServerRecord> {
    crate::read_json(&dir.server())
}
