//! Ctrl-C: the first one stops what runs, the second one the program.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::failure::Failure;
use crate::terminal;

static STATE: Mutex<State> = Mutex::new(State { pressed: false, running: None });

struct State {
    /// Since what runs began.
    pressed: bool,
    running: Option<Arc<AtomicBool>>,
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().expect("never poisoned")
}

/// Installs the handler; once in a process.
pub(crate) fn install() -> Result<(), Failure> {
    ctrlc::set_handler(|| {
        let mut state = state();
        match &state.running {
            Some(flag) if !state.pressed => flag.store(true, Relaxed),
            _ => terminal::exit(130),
        }
        state.pressed = true;
    })
    .map_err(|e| Failure::from(format!("Ctrl-C cannot be handled: {e}")))
}

/// Lets Ctrl-C set `flag` until the guard is dropped.
pub(crate) fn watch(flag: Arc<AtomicBool>) -> Guard {
    *state() = State { pressed: false, running: Some(flag) };
    Guard
}

/// While it lives, Ctrl-C cancels instead of ending the program.
pub(crate) struct Guard;

impl Guard {
    /// Whether Ctrl-C was pressed.
    pub(crate) fn pressed(&self) -> bool {
        state().pressed
    }

    /// From here on Ctrl-C sets this flag; a Ctrl-C that came before counts.
    pub(crate) fn hand_over(&self, flag: Arc<AtomicBool>) {
        let mut state = state();
        flag.store(state.pressed, Relaxed);
        state.running = Some(flag);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        state().running = None;
    }
}
