//! How a download shows itself: a bar on a terminal, lines elsewhere, events for programs.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use ds4_hub::{PROGRESS_EVERY, Progress, Report, short};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where progress goes.
pub(crate) enum Display {
    /// Events on stdout, and when the last one was.
    Events(Option<Instant>),
    /// A bar on stderr.
    Bar(ProgressBar),
    /// Lines on stderr, and when the last one was.
    Lines(Option<Instant>),
}

impl Display {
    /// What suits stderr, or events.
    pub(crate) fn new(events: bool) -> Self {
        if events {
            return Self::Events(None);
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines(None);
        }
        let style =
            ProgressStyle::with_template("ds4: {msg} {wide_bar}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::hidden().with_style(style);
        Self::Bar(bar)
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }

    /// The last event.
    pub(crate) fn failed(&self, message: &str) {
        event(&json!({"event": "failed", "message": message}));
    }
}

impl Progress for Display {
    fn report(&mut self, report: &Report) {
        match self {
            Self::Events(last) => {
                let mut progress =
                    json!({"event": "progress", "message": short(&report.message()), "done": report.done});
                let rest = [
                    ("total", report.total.map(Value::from)),
                    ("rate", report.rate.map(|rate| Value::from(rate as u64))),
                    ("eta", report.eta().map(|eta| Value::from(eta.as_secs()))),
                ];
                for (name, value) in rest {
                    if let Some(value) = value {
                        progress[name] = value;
                    }
                }
                say(last, &progress);
            }
            Self::Bar(bar) => {
                if bar.is_hidden() {
                    bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
                }
                bar.set_length(report.total.unwrap_or(report.done));
                bar.set_position(report.done);
                bar.set_message(report.message());
            }
            Self::Lines(last) => {
                if last.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
                    *last = Some(Instant::now());
                    eprintln!("ds4: {}", report.message());
                }
            }
        }
    }

    fn note(&mut self, text: &str) {
        match self {
            Self::Events(last) => say(last, &json!({"event": "progress", "message": short(text)})),
            Self::Bar(bar) => bar.suspend(|| eprintln!("ds4: {text}")),
            Self::Lines(_) => eprintln!("ds4: {text}"),
        }
    }
}

/// An event, not sooner after the last one than was promised.
fn say(last: &mut Option<Instant>, what: &Value) {
    let elapsed = last.map_or(PROGRESS_EVERY, |last| last.elapsed());
    std::thread::sleep(PROGRESS_EVERY.saturating_sub(elapsed));
    *last = Some(Instant::now());
    event(what);
}

/// A line on stdout. A reader who is gone does not end the download.
pub(crate) fn event(what: &Value) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{what}").and_then(|()| out.flush());
}
