//! How the rest of the program sees a running server, and ends it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::connections::Connections;

/// Most connections at a time. When there are more, those that wait longest for their client make room.
const MAX_CONNECTIONS: usize = 256;

/// What happens to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It listens here from now on.
    Listening(SocketAddr),
    /// It lets running requests end, and then ends itself.
    Ending,
}

/// A server as seen by those who started it.
pub struct Control {
    pub(crate) connections: Arc<Connections>,
    pub(crate) ended: Notify,
    tell: Box<dyn Fn(Change) -> io::Result<()> + Send + Sync>,
}

impl Control {
    /// `tell` is told what happens; a server whose place cannot be told does not start.
    pub fn new(tell: impl Fn(Change) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { connections: Connections::new(MAX_CONNECTIONS), ended: Notify::new(), tell: Box::new(tell) }
    }

    /// How many connections are open.
    pub fn clients(&self) -> usize {
        self.connections.count()
    }

    /// Lets the server end as a first signal does.
    pub fn end(&self) {
        self.ended.notify_one();
    }

    pub(crate) fn tell(&self, change: Change) -> io::Result<()> {
        (self.tell)(change)
    }
}

impl Default for Control {
    /// Nobody is told anything.
    fn default() -> Self {
        Self::new(|_| Ok(()))
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("clients", &self.clients()).finish_non_exhaustive()
    }
}
