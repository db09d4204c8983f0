//! The engine's thread: decides what each step computes.
//!
//! A step carries one token of every sequence that writes an answer, and as many prompt tokens as fit into the quantum
//! (`quantum.rs`) or, while nobody writes, into a step; `order.rs` says whose. A request waits until the pages that its
//! prompt needs can be had. Who grows takes pages from sequences that rest, then from the one that came last, which
//! goes back to the queue and is computed again: what it says stays the same, bit for bit.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ds4_model::{Batch, Outputs};

use crate::job::Job;
use crate::order::{Reader, share};
use crate::pages::{Pages, pages_for};
use crate::quantum::Quantum;
use crate::resident::Resident;
use crate::runner::Runner;
use crate::{Event, Finish, Options, Request};

/// What the engine asks its thread to do.
pub(crate) enum Command {
    /// A sequence takes a slot.
    Open { slot: usize, resident: Arc<Mutex<Resident>> },
    /// Continue a token list.
    Run { slot: usize, request: Request, events: Sender<Event>, cancel: Arc<AtomicBool> },
    /// A sequence leaves its slot.
    Close { slot: usize },
    /// End the thread.
    Quit,
}

/// Requests, pages and the backend.
pub(crate) struct Scheduler {
    options: Options,
    runner: Runner,
    pages: Pages,
    /// By rank.
    waiting: Vec<Job>,
    /// By rank.
    running: Vec<Job>,
    quantum: Quantum,
    arrivals: u64,
}

impl Scheduler {
    pub(crate) fn new(options: Options, runner: Runner) -> Self {
        let plan = options.cache_plan();
        Self {
            runner,
            pages: Pages::new(plan.pages, plan.slots),
            waiting: Vec::new(),
            running: Vec::new(),
            quantum: Quantum::new(options.prefill_quantum),
            arrivals: 0,
            options,
        }
    }

    /// Works until it is told to quit.
    pub(crate) fn run(mut self, inbox: &Receiver<Command>) {
        loop {
            let busy = !(self.running.is_empty() && self.waiting.is_empty());
            let command = if busy { inbox.try_recv().ok() } else { inbox.recv().ok().or(Some(Command::Quit)) };
            match command {
                Some(Command::Quit) => return,
                Some(command) => self.obey(command),
                None => {
                    self.drop_cancelled();
                    self.admit();
                    self.step();
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open { slot, resident } => self.pages.open(slot, resident),
            Command::Run { slot, request, events, cancel } => {
                self.arrivals += 1;
                let job = Job::new(slot, self.arrivals, request, self.options.context, events, cancel);
                self.wait(job);
            }
            Command::Close { slot } => self.pages.close(slot),
            Command::Quit => {}
        }
    }

    fn drop_cancelled(&mut self) {
        for jobs in [&mut self.waiting, &mut self.running] {
            for mut job in jobs.extract_if(.., |job| job.cancelled()) {
                self.pages.touch(job.slot);
                job.finish(Finish::Cancelled);
            }
        }
    }

    /// A job takes its place in the queue.
    fn wait(&mut self, job: Job) {
        let place = self.waiting.partition_point(|other| other.rank() < job.rank());
        self.waiting.insert(place, job);
    }

    /// Starts those who wait, in order, while there are pages for them.
    fn admit(&mut self) {
        while !self.waiting.is_empty() && self.has_room() {
            let mut job = self.waiting.remove(0);
            let kept = self.seat(&job);
            job.starts(kept);
            let place = self.running.partition_point(|other| other.rank() < job.rank());
            self.running.insert(place, job);
        }
        for (place, job) in self.waiting.iter_mut().enumerate() {
            job.waits(self.running.len() + place);
        }
    }

    /// Makes room for the first one that waits; false when it must wait on. Who runs alone always fits.
    fn has_room(&mut self) -> bool {
        let job = &self.waiting[0];
        let slot = job.slot;
        let start = self.pages.resident(slot).start(job.tokens(), job.needed());
        let more = pages_for(job.tokens().len()) - pages_for(start.len);
        // What is held beyond the start is free as soon as it starts.
        let own = self.pages.resident(slot).pages.len() - pages_for(start.len);
        // One page for everyone who may need one soon.
        let grows = |job: &Job| pages_for(job.most()) > pages_for(job.tokens().len());
        let soon = self.running.iter().filter(|job| grows(job)).count();
        let wanted = if self.running.is_empty() { more } else { more + soon + usize::from(grows(job)) };
        let mut idle = self.pages.idle(|slot| self.has_job(slot));
        if self.running.is_empty() {
            idle.extend(self.waiting[1..].iter().rev().map(|job| job.slot));
        }
        let held: usize = idle.iter().map(|slot| self.pages.resident(*slot).pages.len()).sum();
        if self.pages.free() + own + held < wanted {
            return false;
        }
        for slot in idle {
            if self.pages.free() + own >= wanted {
                break;
            }
            self.pages.evict(slot);
        }
        true
    }

    fn has_job(&self, slot: usize) -> bool {
        self.running.iter().chain(&self.waiting).any(|job| job.slot == slot)
    }

    /// Keeps what a job can use and gives it pages for its prompt; the tokens that are kept.
    fn seat(&mut self, job: &Job) -> usize {
        let start = {
            let mut resident = self.pages.resident(job.slot);
            let start = resident.start(job.tokens(), job.needed());
            resident.keep(start);
            start
        };
        if start.restores {
            self.runner.restore(job.slot);
        }
        self.pages.trim(job.slot);
        assert!(self.pages.cover(job.slot, job.tokens().len()), "room was made");
        start.len
    }

    /// Gives every running job pages for its tokens. Where there are none left, the last one goes back to the queue.
    fn grow(&mut self) {
        let mut i = 0;
        while i < self.running.len() {
            let (slot, tokens) = (self.running[i].slot, self.running[i].tokens().len());
            if self.pages.cover(slot, tokens) {
                i += 1;
            } else if let Some(&idle) = self.pages.idle(|slot| self.has_job(slot)).first() {
                self.pages.evict(idle);
            } else if let Some(queued) = self.waiting.iter().rev().map(|job| job.slot).find(|s| self.holds(*s)) {
                self.pages.evict(queued);
            } else if let Some(mut last) = self.running.pop() {
                self.pages.evict(last.slot);
                last.stops();
                self.wait(last);
            }
        }
    }

    fn holds(&self, slot: usize) -> bool {
        !self.pages.resident(slot).pages.is_empty()
    }

    /// Tokens of each running job in the next step; those who write an answer, or score, have one.
    fn counts(&self) -> Vec<usize> {
        let mut counts: Vec<usize> = self.running.iter().map(|job| usize::from(job.wants() == 1)).collect();
        let answers = counts.iter().any(|n| *n > 0);
        let chunk = self.options.chunk();
        let budget = if answers { self.quantum.tokens().min(chunk) } else { chunk };
        let readers: Vec<usize> = (0..counts.len()).filter(|i| counts[*i] == 0).collect();
        let reader =
            |job: &Job| Reader { priority: job.priority(), left: job.left(), most: job.wants(), passed: job.passed };
        let queue: Vec<Reader> = readers.iter().map(|i| reader(&self.running[*i])).collect();
        for (i, n) in readers.into_iter().zip(share(&queue, budget)) {
            counts[i] = n;
        }
        counts
    }

    /// Computes a step and tells what came of it.
    fn step(&mut self) {
        self.grow();
        let counts = self.counts();
        let mut batch = Batch::new();
        let mut outputs = Vec::new();
        for (job, &count) in self.running.iter_mut().zip(&counts) {
            job.passed = if count > 0 { 0 } else { job.passed + 1 };
            if count == 0 {
                continue;
            }
            let mut resident = self.pages.resident(job.slot);
            if job.at_resume_point() {
                self.runner.save(job.slot);
                resident.saved();
            }
            outputs.push(job.outputs(count));
            batch.push(job.slot, job.position(), job.next(count), &resident.pages, job.outputs(count));
        }
        if batch.is_empty() {
            return; // everyone was cancelled
        }
        let answers = self.running.iter().filter(|job| job.wants() == 1).count();
        let start = Instant::now();
        self.runner.run(&batch);
        self.quantum.learn(batch.len() - answers, answers, start.elapsed());
        self.tell(&counts, outputs);
    }

    /// Hands each job of a step its logits; those that have ended leave.
    fn tell(&mut self, counts: &[usize], outputs: Vec<Outputs>) {
        let (mut outputs, mut index) = (outputs.into_iter(), 0);
        let mut ended = Vec::new();
        for (job, &count) in self.running.iter_mut().zip(counts).filter(|(_, count)| **count > 0) {
            self.pages.resident(job.slot).append(job.next(count));
            let logits = (outputs.next() == Some(Outputs::Last)).then(|| {
                index += 1;
                self.runner.logits(index - 1)
            });
            let slot = job.slot;
            if job.advance(count, logits) {
                self.pages.touch(slot);
                ended.push(slot);
            }
        }
        self.running.retain(|job| !ended.contains(&job.slot));
    }
}
