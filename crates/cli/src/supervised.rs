//! What the commands about the one server share.

use clap::Parser;
use ds4_supervise::{Error, StateDir, Stop, Timings};

use crate::args::explain;
use crate::failure::Failure;

/// Signals that end a command, and give its locks back.
pub(crate) const SIGNALS: [i32; 3] =
    [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];

/// The exit code of an error.
pub(crate) fn failure(error: Error) -> Failure {
    match error {
        Error::Usage(why) => Failure::usage(why),
        Error::Interrupted(signal) => Failure::coded("", 128 + signal as u8),
        error => Failure::from(error),
    }
}

/// What a command is about.
pub(crate) struct Place {
    pub(crate) dir: StateDir,
    pub(crate) timings: Timings,
    pub(crate) stop: Stop,
}

impl Place {
    /// As the environment says. Signals are flags from now on.
    pub(crate) fn new() -> Result<Self, Failure> {
        let dir = StateDir::from_environment().map_err(failure)?;
        let timings = Timings::from_environment().map_err(failure)?;
        let stop = Stop::default();
        for signal in SIGNALS {
            let handled = signal_hook::flag::register_usize(signal, stop.flag(), signal as usize);
            handled.map_err(|e| format!("signal {signal} cannot be handled: {e}"))?;
        }
        Ok(Self { dir, timings, stop })
    }
}

/// Parses what follows the command's name.
pub(crate) fn parse<T: Parser>(args: &[String]) -> Result<T, Failure> {
    let mut command = T::command();
    let name = command.get_name().to_owned();
    let matches = command.try_get_matches_from_mut(args).map_err(|e| explain(&name, &e))?;
    T::from_arg_matches(&matches).map_err(|e| explain(&name, &e))
}

/// The number of a process.
pub(crate) fn pid(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(n) if (1..=i32::MAX as u32).contains(&n) => Ok(n),
        _ => Err("the number of a process".into()),
    }
}
