//! Progress on a terminal's stderr; nothing elsewhere.

use std::cell::Cell;
use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for something that takes bytes.
pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar that says what is done; hidden when stderr is not a terminal.
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new(0).with_message(what);
        let template = "ds4: {msg} {bytes}/{total_bytes} ({percent}%) {bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }

    /// So much of so much.
    pub(crate) fn show(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        if done >= total {
            self.bar.finish_and_clear();
        }
    }
}

/// A bar for things that are counted.
pub(crate) struct Counter {
    bar: ProgressBar,
}

impl Counter {
    /// A bar that counts `what`.
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new(0).with_message(what);
        let style = ProgressStyle::with_template("ds4: {pos}/{len} {msg}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }

    /// So many of so many.
    pub(crate) fn show(&self, done: usize, total: usize) {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        if done >= total {
            self.bar.finish_and_clear();
        }
    }
}

/// The line that counts prompt tokens.
pub(crate) struct PromptLine {
    terminal: bool,
    color: bool,
    open: Cell<bool>,
}

impl PromptLine {
    /// A line that shows itself on a terminal only.
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { terminal, color: terminal && std::env::var_os("NO_COLOR").is_none(), open: Cell::new(false) }
    }

    /// `done` of `total` tokens are read, `reused` of them were there.
    pub(crate) fn show(&self, done: usize, total: usize, reused: usize) {
        if !self.terminal || total == reused {
            return;
        }
        let (new, read) = (total - reused, done - reused);
        let (on, off) = if self.color { ("\x1b[36m", "\x1b[0m") } else { ("", "") };
        let percent = 100.0 * read as f64 / new as f64;
        eprint!("\r\x1b[K{on}processing {new} input tokens: {read}/{new} ({percent:.1}%){off}");
        self.open.set(true);
        if done == total {
            self.close();
        }
        let _ = std::io::stderr().flush();
    }

    /// Clears the line.
    pub(crate) fn close(&self) {
        if self.open.replace(false) {
            eprint!("\r\x1b[K");
        }
    }
}
