//! Where requests that have ended are written down: sums, histograms, a line in the log.

use crate::log::Log;
use crate::metrics::Metrics;
use crate::queue::Job;
use crate::record::Record;
use crate::stats::{Outcome, Stats};

/// What the server did so far.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) log: Log,
    pub(crate) stats: Stats,
    pub(crate) metrics: Metrics,
}

impl Ledger {
    pub(crate) fn new(log: Log) -> Self {
        Self { log, stats: Stats::default(), metrics: Metrics::default() }
    }

    /// Times and logs a request that has ended; [`Stats`] has counted it.
    pub(crate) fn ended(&self, record: &Record, outcome: Outcome) {
        let times = record.times();
        self.metrics.request(&times);
        self.log.request(record, outcome, &times);
    }

    /// The client of a request that waited has left.
    pub(crate) fn left(&self, job: &Job) {
        self.stats.begin(job.since, job.task.prompt.tokens.len()).ended(Outcome::Left);
        self.ended(&Record::new(job), Outcome::Left);
    }
}
