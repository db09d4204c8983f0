//! Waits that a signal ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::Error;

/// Which signal has asked this process to end, if any.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicUsize>);

/// How soon a signal is seen.
const LOOK: Duration = Duration::from_millis(50);

impl Stop {
    /// Where a signal handler puts the signal's number.
    pub fn flag(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0)
    }

    /// An error once a signal has come.
    pub fn check(&self) -> Result<(), Error> {
        match self.0.load(Relaxed) {
            0 => Ok(()),
            signal => Err(Error::Interrupted(signal as i32)),
        }
    }

    /// Sleeps, unless a signal comes.
    pub fn sleep(&self, time: Duration) -> Result<(), Error> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Waits at most so long until something holds; whether it does.
    pub(crate) fn wait(&self, most: Duration, mut holds: impl FnMut() -> bool) -> Result<bool, Error> {
        let end = Instant::now() + most;
        loop {
            if holds() {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            self.sleep(LOOK)?;
        }
    }
}
