//! How far a download is.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often something is said at most.
pub const PROGRESS_EVERY: Duration = Duration::from_millis(750);
/// How long a message is at most.
pub const MESSAGE_CHARS: usize = 160;
/// The rate is that of so much time.
const WINDOW: Duration = Duration::from_secs(10);

/// Who wants to know how far it is. Reports come at most every [`PROGRESS_EVERY`].
pub trait Progress {
    /// So much of so much.
    fn report(&mut self, report: &Report);
    /// Something that happens once: why a model was chosen, that a connection broke and is tried again.
    fn note(&mut self, text: &str);
}

/// What is being done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// What an earlier run left is read again.
    Checking,
    /// Bytes come.
    Downloading,
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// What is being done.
    pub phase: Phase,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes of the whole, if the server says.
    pub total: Option<u64>,
    /// Bytes a second of the last ten seconds; none before there is anything to count.
    pub rate: Option<f64>,
}

impl Report {
    /// How long it will take at this rate.
    pub fn eta(&self) -> Option<Duration> {
        let left = self.total?.saturating_sub(self.done);
        let seconds = left as f64 / self.rate.filter(|rate| *rate > 0.0)?;
        // More than a year says nothing.
        (seconds < 3.2e7).then(|| Duration::from_secs(seconds as u64))
    }

    /// One line: size, per cent, rate and the time left.
    pub fn message(&self) -> String {
        let verb = match self.phase {
            Phase::Checking => "checking what is there",
            Phase::Downloading => "downloading",
        };
        let mut parts = Vec::new();
        let size = match self.total {
            Some(total) => {
                let percent = u128::from(self.done) * 100 / u128::from(total.max(1));
                parts.push(format!("{percent}%"));
                format!("{} / {}", bytes(self.done), bytes(total))
            }
            None => bytes(self.done),
        };
        parts.extend(self.rate.map(|rate| format!("{}/s", bytes(rate as u64))));
        parts.extend(self.eta().map(|eta| format!("{} left", time(eta))));
        match parts.is_empty() {
            true => format!("{verb} {size}"),
            false => format!("{verb} {size} ({})", parts.join(", ")),
        }
    }
}

/// A text of at most [`MESSAGE_CHARS`] characters.
pub fn short(text: &str) -> String {
    match text.chars().count() > MESSAGE_CHARS {
        true => text.chars().take(MESSAGE_CHARS - 1).chain(['…']).collect(),
        false => text.into(),
    }
}

/// A size for people.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000_000 => format!("{:.0} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.1} GB", n as f64 / 1e9),
    }
}

fn time(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m {}s", s / 60, s % 60),
        s => format!("{}h {}m", s / 3600, s / 60 % 60),
    }
}

/// Counts bytes and says now and then how far it is.
pub(crate) struct Meter<'a> {
    listener: &'a mut dyn Progress,
    /// When how many bytes were there, within the window.
    samples: VecDeque<(Instant, u64)>,
    last: Option<Instant>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(listener: &'a mut dyn Progress) -> Self {
        Self { listener, samples: VecDeque::new(), last: None }
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.listener.note(text);
    }

    /// Something else is counted from here on.
    pub(crate) fn begin(&mut self) {
        self.samples.clear();
    }

    pub(crate) fn count(&mut self, phase: Phase, done: u64, total: Option<u64>) {
        let now = Instant::now();
        // Ten samples a second say enough.
        if self.samples.back().is_none_or(|(then, _)| now - *then >= WINDOW / 100) {
            self.samples.push_back((now, done));
        }
        while self.samples.front().is_some_and(|(then, _)| now - *then > WINDOW) {
            self.samples.pop_front();
        }
        if self.last.is_some_and(|last| now - last < PROGRESS_EVERY) {
            return;
        }
        self.last = Some(now);
        let rate = self.samples.front().and_then(|(then, there)| {
            let seconds = (now - *then).as_secs_f64();
            (seconds > 0.0 && done > *there).then(|| (done - there) as f64 / seconds)
        });
        self.listener.report(&Report { phase, done, total, rate });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Vec<Report>);

    impl Progress for Heard {
        fn report(&mut self, report: &Report) {
            self.0.push(*report);
        }
        fn note(&mut self, _: &str) {}
    }

    #[test]
    fn a_report_is_a_short_line_with_size_per_cent_rate_and_time() {
        let report = |done, total, rate| Report { phase: Phase::Downloading, done, total, rate }.message();
        assert_eq!(
            report(12_300_000_000, Some(86_700_000_000), Some(45_200_000.0)),
            "downloading 12.3 GB / 86.7 GB (14%, 45.2 MB/s, 27m 26s left)"
        );
        assert_eq!(report(500_000, None, None), "downloading 500 kB");
        assert_eq!(report(0, Some(0), Some(0.0)), "downloading 0 kB / 0 kB (0%, 0 kB/s)");
        assert!(report(u64::MAX, Some(u64::MAX), Some(f64::MAX)).chars().count() <= MESSAGE_CHARS);
        assert_eq!(
            report(0, Some(360_000_000_000), Some(1e7)),
            "downloading 0 kB / 360.0 GB (0%, 10.0 MB/s, 10h 0m left)"
        );
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        assert_eq!(short("as it is"), "as it is");
        let cut = short(&"ä".repeat(1000));
        assert_eq!((cut.chars().count(), cut.chars().last()), (MESSAGE_CHARS, Some('…')));
    }

    #[test]
    fn many_counts_are_few_reports() {
        let mut heard = Heard::default();
        let start = Instant::now();
        let mut meter = Meter::new(&mut heard);
        for done in 0..100_000 {
            meter.count(Phase::Downloading, done, Some(100_000));
        }
        let most = 1 + start.elapsed().as_millis() / PROGRESS_EVERY.as_millis();
        assert!(!heard.0.is_empty() && heard.0.len() as u128 <= most, "{} of {most}", heard.0.len());
    }
}
