//! Progress on stderr.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A bar for something that takes bytes; off a terminal a line now and then.
pub(crate) struct Bar {
    bar: ProgressBar,
    what: &'static str,
    /// When the last line was written; none on a terminal.
    line: Option<Cell<Option<Instant>>>,
}

impl Bar {
    /// A bar that says what is done.
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new(0).with_message(what);
        let template = "ds4: {msg} {bytes}/{total_bytes} ({percent}%) {bytes_per_sec}, {eta} left";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        let line = (!terminal::has_cursor(&std::io::stderr())).then(Cell::default);
        Self { bar, what, line }
    }

    /// So much of so much.
    pub(crate) fn show(&self, done: u64, total: u64) {
        if let Some(last) = &self.line {
            if last.get().is_none_or(|last| last.elapsed() >= LINE_EVERY) {
                last.set(Some(Instant::now()));
                let percent = done as u128 * 100 / u128::from(total.max(1));
                eprintln!("ds4: {} {:.1}/{:.1} MB ({percent}%)", self.what, done as f64 / 1e6, total as f64 / 1e6);
            }
            return;
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
        if done >= total {
            self.clear();
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
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
        let stderr = std::io::stderr();
        Self { terminal: terminal::has_cursor(&stderr), color: terminal::has_colours(&stderr), open: Cell::new(false) }
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
