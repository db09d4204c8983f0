//! A server that says what it is in a state directory, and ends when nobody needs it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ds4_server::{Change, Control};
use ds4_supervise::{Description, Presence, StateDir, Timings, Watchdog};

use crate::failure::Failure;
use crate::supervised::failure;

/// This process is the one server of a state directory until it ends.
pub(crate) struct Watched {
    presence: Arc<Presence>,
    control: Arc<Control>,
}

impl Watched {
    /// Becomes it, before anything that takes long, or says who is.
    pub(crate) fn begin(dir: &Path, description: Description) -> Result<Self, Failure> {
        let timings = Timings::from_environment().map_err(failure)?;
        let dir = StateDir::at(dir).map_err(failure)?;
        let presence = Arc::new(Presence::begin(&dir, description).map_err(failure)?);
        let told = Arc::clone(&presence);
        let control = Arc::new(Control::new(move |change| match change {
            Change::Listening(address) => told.listening(address).map_err(io::Error::other),
            Change::Ending => {
                told.stopping();
                Ok(())
            }
        }));
        let (watched, ended) = (Arc::clone(&presence), Arc::clone(&control));
        let watchdog = Watchdog::new(&dir, timings);
        std::thread::spawn(move || watchdog.watch(&watched, || ended.clients(), || ended.end()));
        Ok(Self { presence, control })
    }

    /// How the server tells what happens, and is told to end.
    pub(crate) fn control(&self) -> Arc<Control> {
        Arc::clone(&self.control)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.presence.end();
    }
}
