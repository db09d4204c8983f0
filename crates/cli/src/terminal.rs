//! The terminal: what it can show, and how it is left behind.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::Failure;

/// How the terminal was before lines were edited in it.
static BEFORE: OnceLock<Termios> = OnceLock::new();
/// Ends what line editing switches on: text that is pasted comes between marks.
const PASTE_MARKS_OFF: &[u8] = b"\x1b[?2004l";

/// Whether a stream is a terminal that moves its cursor.
pub(crate) fn has_cursor(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether a stream is a terminal that shows colours to someone who wants them (no-color.org).
pub(crate) fn has_colours(stream: &impl IsTerminal) -> bool {
    has_cursor(stream) && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Remembers how the terminal is, and leaves it so when the program is told to end while a line is edited.
pub(crate) fn keep() -> Result<(), Failure> {
    let Ok(before) = tcgetattr(std::io::stdin()) else { return Ok(()) }; // not a terminal
    let _ = BEFORE.set(before);
    let mut signals = Signals::new([SIGTERM, SIGHUP]).map_err(|e| format!("signals cannot be handled: {e}"))?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            exit(128 + signal);
        }
    });
    Ok(())
}

/// Ends the program from whatever thread, with the terminal as it was. What fails here has nobody to hear of it.
pub(crate) fn exit(code: i32) -> ! {
    if let Some(before) = BEFORE.get() {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        if has_cursor(&std::io::stdout()) {
            // Not through the lock of stdout, which an answer may hold.
            let _ = rustix::io::write(std::io::stdout().as_fd(), PASTE_MARKS_OFF);
        }
    }
    std::process::exit(code)
}
