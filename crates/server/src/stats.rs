//! What the server does and did, in numbers: the worker counts, `/v1/stats` shows. No text of anyone is in here.

mod report;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::progress::Finish;

/// The requests that run, and sums over all that ran.
#[derive(Debug, Default)]
pub(crate) struct Stats(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By number, so in the order in which they came out of the queue.
    running: BTreeMap<u64, Activity>,
    totals: Totals,
}

/// What a request that runs does at the moment.
#[derive(Clone, Debug)]
pub(crate) struct Activity {
    /// When it came.
    pub(crate) since: Instant,
    pub(crate) phase: Phase,
    /// Tokens of its prompt, those that are read or reused, and those that needed no computing.
    pub(crate) prompt: usize,
    pub(crate) read: usize,
    pub(crate) cached: usize,
    /// Tokens of its answer.
    pub(crate) generated: usize,
    /// When its first token was drawn.
    pub(crate) first_token: Option<Instant>,
}

/// What a request that runs waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Room in memory.
    Memory,
    /// Its prompt is read.
    Prompt,
    /// It thinks.
    Thinking,
    /// It answers or calls.
    Answer,
}

/// Sums since the start; none ever falls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Requests that left the queue, also those whose client left first.
    pub(crate) started: u64,
    /// Requests that ended, by [`Outcome`].
    pub(crate) ended: [u64; Outcome::ALL.len()],
    /// Requests that found the queue full, or the server ending.
    pub(crate) refused: u64,
    /// Tokens of prompts, read or reused, and those of them that needed no computing.
    pub(crate) prompt_tokens: u64,
    pub(crate) cached_tokens: u64,
    /// Tokens of answers, reasoning included, and those of reasoning.
    pub(crate) generated_tokens: u64,
    pub(crate) reasoning_tokens: u64,
    /// From a request's arrival to its first token, summed over `first_tokens` requests.
    pub(crate) first_token_time: Duration,
    pub(crate) first_tokens: u64,
}

/// How a request that had a place has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The model ended it, or one of the client's stop strings.
    Stop,
    /// It was as long as it could be.
    Length,
    /// It calls tools.
    Calls,
    /// It broke off inside a call.
    Unterminated,
    /// Its client left.
    Left,
    /// It failed.
    Failed,
}

impl Outcome {
    /// All, in the order of [`Totals::ended`].
    pub(crate) const ALL: [Self; 6] =
        [Self::Stop, Self::Length, Self::Calls, Self::Unterminated, Self::Left, Self::Failed];

    /// Its name for those who look from outside.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Calls => "tool_calls",
            Self::Unterminated => "unterminated",
            Self::Left => "left",
            Self::Failed => "failed",
        }
    }
}

impl From<&Finish> for Outcome {
    fn from(finish: &Finish) -> Self {
        match finish {
            Finish::Stop | Finish::StopString(_) => Self::Stop,
            Finish::Length => Self::Length,
            Finish::Calls => Self::Calls,
            Finish::Unterminated { .. } => Self::Unterminated,
        }
    }
}

impl Stats {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics under this lock")
    }

    /// A request with a prompt of so many tokens, which came at `since`, has left the queue.
    pub(crate) fn begin(&self, since: Instant, prompt: usize) -> Watch<'_> {
        let phase = Phase::Prompt;
        let activity = Activity { since, phase, prompt, read: 0, cached: 0, generated: 0, first_token: None };
        let mut state = self.lock();
        let number = state.totals.started;
        state.totals.started += 1;
        state.running.insert(number, activity);
        Watch { stats: self, number, outcome: Outcome::Failed }
    }

    /// A request found no place.
    pub(crate) fn refused(&self) {
        self.lock().totals.refused += 1;
    }

    /// The requests that run, the oldest first, and the sums, of one moment.
    pub(crate) fn look(&self) -> (Vec<Activity>, Totals) {
        let state = self.lock();
        (state.running.values().cloned().collect(), state.totals.clone())
    }
}

/// Counts what happens to one request that runs. When it is dropped the request has ended: failed, unless it was
/// [`ended`](Self::ended) otherwise.
pub(crate) struct Watch<'s> {
    stats: &'s Stats,
    number: u64,
    outcome: Outcome,
}

impl Watch<'_> {
    fn count(&self, change: impl FnOnce(&mut Activity, &mut Totals)) {
        let State { running, totals } = &mut *self.stats.lock();
        if let Some(activity) = running.get_mut(&self.number) {
            change(activity, totals);
        }
    }

    /// It waits for memory.
    pub(crate) fn waits(&self) {
        self.count(|activity, _| activity.phase = Phase::Memory);
    }

    /// `done` tokens of its prompt are read or reused; the first time, these needed no computing.
    pub(crate) fn read(&self, done: usize, first: bool) {
        self.count(|activity, totals| {
            if first {
                activity.cached = done;
                totals.cached_tokens += done as u64;
            }
            // One that was sent back for want of memory reads again what it had read.
            totals.prompt_tokens += done.saturating_sub(activity.read) as u64;
            activity.read = activity.read.max(done);
            activity.phase = Phase::Prompt;
        });
    }

    /// A token of its reasoning or its answer was drawn.
    pub(crate) fn wrote(&self, reasoning: bool) {
        self.count(|activity, totals| {
            if activity.first_token.is_none() {
                activity.first_token = Some(Instant::now());
                totals.first_tokens += 1;
                totals.first_token_time += activity.since.elapsed();
            }
            activity.generated += 1;
            activity.phase = if reasoning { Phase::Thinking } else { Phase::Answer };
            totals.generated_tokens += 1;
            totals.reasoning_tokens += u64::from(reasoning);
        });
    }

    /// It has ended.
    pub(crate) fn ended(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut state = self.stats.lock();
        state.running.remove(&self.number);
        state.totals.ended[self.outcome as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_seen_while_it_runs_and_counted_for_good() {
        let stats = Stats::default();
        let watch = stats.begin(Instant::now(), 100);
        watch.waits();
        assert_eq!(stats.look().0[0].phase, Phase::Memory);
        watch.read(40, true);
        watch.read(100, false);
        watch.wrote(true);
        watch.wrote(false);
        let (running, _) = stats.look();
        let [Activity { phase: Phase::Answer, prompt: 100, read: 100, cached: 40, generated: 2, .. }] = running[..]
        else {
            panic!("{running:?}")
        };
        watch.ended(Outcome::Calls);
        drop(stats.begin(Instant::now(), 5));
        stats.refused();
        let (running, totals) = stats.look();
        assert!(running.is_empty());
        assert_eq!((totals.started, totals.refused, totals.ended), (2, 1, [0, 0, 1, 0, 0, 1]), "the second one failed");
        assert_eq!((totals.prompt_tokens, totals.cached_tokens), (100, 40));
        assert_eq!((totals.generated_tokens, totals.reasoning_tokens, totals.first_tokens), (2, 1, 1));
    }

    #[test]
    fn a_prompt_that_is_read_twice_for_want_of_memory_counts_once() {
        let stats = Stats::default();
        let watch = stats.begin(Instant::now(), 100);
        watch.read(0, true);
        watch.read(60, false);
        watch.waits();
        watch.read(20, false);
        watch.read(100, false);
        assert_eq!(stats.look().1.prompt_tokens, 100);
    }

    #[test]
    fn outcomes_are_counted_where_their_names_are() {
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, place);
        }
    }
}
