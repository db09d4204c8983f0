//! What waits to be written to a tier.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Key, Segment, SegmentName};

/// Bytes of segments that wait at most; one may wait in any case.
const MOST: usize = 256 << 20;
/// Jobs that wait at most.
const MOST_JOBS: usize = 10_000;

/// Something to do in a tier.
#[derive(Clone)]
pub(super) enum Job {
    /// Write it.
    Save(SegmentName, Arc<Segment>),
    /// Remove it.
    Forget(SegmentName),
}

/// A bounded queue; closed until somebody takes from it.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: bool,
    /// The first may be under way.
    jobs: VecDeque<Job>,
    bytes: usize,
    /// Those who wait until nothing waits.
    hurried: usize,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self) {
        self.state().open = true;
    }

    /// Takes no more jobs; those that wait are still done.
    pub(super) fn close(&self) {
        self.state().open = false;
        self.changed.notify_all();
    }

    /// Adds a job; false when too much waits, or nobody works.
    pub(super) fn push(&self, job: Job) -> bool {
        let mut state = self.state();
        let bytes = state.bytes + job.bytes();
        if !state.open || !state.jobs.is_empty() && bytes > MOST || state.jobs.len() >= MOST_JOBS {
            return false;
        }
        let last = state.jobs.iter().rev().find(|other| other.name() == job.name());
        if let (Some(Job::Save(..)), Job::Save(..)) = (last, &job) {
            return true;
        }
        state.bytes = bytes;
        state.jobs.push_back(job);
        self.changed.notify_all();
        true
    }

    /// The next job, which stays visible until [`Queue::done`]; none when the queue is closed and empty.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.front() {
                return Some(job.clone());
            }
            if !state.open {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// The job that [`Queue::next`] gave is done.
    pub(super) fn done(&self) {
        let mut state = self.state();
        let bytes = state.jobs.pop_front().map_or(0, |job| job.bytes());
        state.bytes -= bytes;
        self.changed.notify_all();
    }

    /// Waits until nothing waits.
    pub(super) fn drained(&self) {
        let mut state = self.state();
        state.hurried += 1;
        self.changed.notify_all();
        while !state.jobs.is_empty() {
            state = self.wait(state);
        }
        state.hurried -= 1;
    }

    /// Lets the time pass until something that failed may be tried again; false when somebody waits for the end.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let patient = |state: &mut State| state.open && state.hurried == 0;
        let rested = self.changed.wait_timeout_while(self.state(), time, patient);
        let (mut state, _) = rested.unwrap_or_else(PoisonError::into_inner);
        patient(&mut state)
    }

    /// The segments that start at `parent` and may not be written yet.
    pub(super) fn after(&self, parent: Key) -> Vec<(SegmentName, Arc<Segment>)> {
        let saved = |job: &Job| match job {
            Job::Save(name, segment) if name.parent == parent => Some((*name, segment.clone())),
            _ => None,
        };
        self.state().jobs.iter().filter_map(saved).collect()
    }
}

impl Job {
    fn name(&self) -> SegmentName {
        match self {
            Self::Save(name, _) | Self::Forget(name) => *name,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Save(_, segment) => segment.bytes(),
            Self::Forget(_) => 0,
        }
    }
}
