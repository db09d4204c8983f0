//! Lines on stderr.

use std::fmt::Display;
use std::io::Write;

/// Writes a line. Who reads the log may go away; the service stays, so that this cannot fail.
pub(crate) fn log(line: impl Display) {
    let _ = std::io::stderr().write_all(format!("ds4: {line}\n").as_bytes());
}
