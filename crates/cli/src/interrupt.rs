//! Ctrl-C: the first one stops what runs, the second one the program.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::failure::Failure;

static PRESSED: AtomicUsize = AtomicUsize::new(0);
static RUNNING: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

/// Installs the handler; once in a process.
pub(crate) fn install() -> Result<(), Failure> {
    ctrlc::set_handler(|| {
        let running = RUNNING.lock().expect("never poisoned").clone();
        if PRESSED.fetch_add(1, Relaxed) > 0 || running.is_none() {
            std::process::exit(130);
        }
        running.inspect(|flag| flag.store(true, Relaxed));
    })
    .map_err(|e| Failure::from(format!("Ctrl-C cannot be handled: {e}")))
}

/// Lets Ctrl-C set `flag` until the guard is dropped.
pub(crate) fn watch(flag: Arc<AtomicBool>) -> Guard {
    PRESSED.store(0, Relaxed);
    *RUNNING.lock().expect("never poisoned") = Some(flag);
    Guard
}

/// While it lives, Ctrl-C cancels instead of ending the program.
pub(crate) struct Guard;

impl Guard {
    /// Whether Ctrl-C was pressed.
    pub(crate) fn pressed(&self) -> bool {
        PRESSED.load(Relaxed) > 0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        *RUNNING.lock().expect("never poisoned") = None;
    }
}
