//! What is printed on stdout.
//!
//! `print!` and `println!` of the standard library panic when nobody reads any more, or when the disk is full. These take their
//! place in this program: it ends quietly with the exit code of programs that SIGPIPE ends, or says what is wrong.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// 128 and the number of SIGPIPE, as shells say it.
const CLOSED: i32 = 141;

macro_rules! print {
    ($($arg:tt)*) => { $crate::out::text(format_args!($($arg)*)) };
}

macro_rules! println {
    () => { $crate::out::text(format_args!("\n")) };
    ($($arg:tt)*) => { $crate::out::text(format_args!("{}\n", format_args!($($arg)*))) };
}

/// Prints a text, or ends the program.
pub(crate) fn text(text: Arguments<'_>) {
    let mut out = std::io::stdout();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(CLOSED),
        Err(e) => {
            eprintln!("ds4: cannot write: {e}");
            std::process::exit(1);
        }
    }
}
