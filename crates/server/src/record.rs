//! How long the parts of a request took, for the log and the metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ds4_engine::Usage;

use crate::progress::Counts;
use crate::queue::Job;
use crate::timings::Timings;

/// A request's numbers while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: String,
    /// Whose words it was asked in.
    pub(crate) api: &'static str,
    pub(crate) counts: Counts,
    /// The tier below RAM that a part of what was cached came from.
    pub(crate) source: Option<Arc<str>>,
    entered: Instant,
    started: Option<Instant>,
    first: Option<Instant>,
}

/// The parts of its time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Until its turn came and memory was there.
    pub(crate) queue: Duration,
    /// From then to the first token.
    pub(crate) prefill: Duration,
    /// From there to the end.
    pub(crate) decode: Duration,
    /// From the queue to the first token, if there was one.
    pub(crate) first_token: Option<Duration>,
}

impl Record {
    /// The record of a request that leaves the queue.
    pub(crate) fn new(job: &Job) -> Self {
        let counts = Counts { prompt: job.task.prompt.tokens.len(), ..Counts::default() };
        let (id, api, entered) = (job.task.id.clone(), job.task.api, job.since);
        Self { id, api, counts, source: None, entered, started: None, first: None }
    }

    /// The engine reads its prompt; so many tokens of it are there already.
    pub(crate) fn starts(&mut self, cached: usize) {
        self.counts.cached = cached;
        self.started = Some(Instant::now());
    }

    /// A token has come, of the reasoning or of the answer.
    pub(crate) fn token(&mut self, reasoning: bool) {
        self.first.get_or_insert_with(Instant::now);
        self.counts.generated += 1;
        self.counts.reasoning += usize::from(reasoning);
    }

    /// Whether the engine has begun with it.
    pub(crate) fn has_started(&self) -> bool {
        self.started.is_some()
    }

    /// What the engine says at the end.
    pub(crate) fn took(&mut self, usage: &Usage) {
        self.source.clone_from(&usage.source);
    }

    /// What its client hears of its time, now that it has ended.
    pub(crate) fn timings(&self) -> Timings {
        let Times { queue, prefill, decode, .. } = self.times();
        Timings { queue, prefill, decode, source: self.source.clone() }
    }

    /// The parts of its time, now that it has ended.
    pub(crate) fn times(&self) -> Times {
        let now = Instant::now();
        let started = self.started.unwrap_or(now);
        let first = self.first.unwrap_or(now);
        Times {
            queue: started - self.entered,
            prefill: first - started,
            decode: now - first,
            first_token: self.first.map(|first| first - self.entered),
        }
    }
}
