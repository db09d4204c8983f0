//! The engine's thread: decides what each step computes.
//!
//! A step carries one token of every sequence that writes an answer, and as many prompt tokens as fit into the quantum
//! (`quantum.rs`) or, while nobody writes, into a step; `order.rs` says whose. A request waits until the pages that its
//! prompt needs can be had, and while another one computes what it needs. Who grows takes pages from what nobody uses,
//! then from the one that came last, which goes back to the queue and is computed again from its last resume point: what
//! it says stays the same, bit for bit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use ds4_kv::{Fetched, Hit, Node, Vault};
use ds4_model::{Batch, CacheLayout, Outputs, PAGE_TOKENS};

use crate::experts::Counts;
use crate::job::Job;
use crate::metrics::Counters;
use crate::order::{Reader, share};
use crate::prefixes::{Prefixes, Why, pages_for};
use crate::quantum::Quantum;
use crate::runner::Runner;
use crate::seat::Seat;
use crate::steering::Names;
use crate::{Event, Finish, Model, Options, Request};

/// How often cancelled requests are looked for while nothing is computed.
const LOOK: Duration = Duration::from_millis(50);
/// After this a request does not wait for the tiers below RAM any more.
const FETCH_TIME: Duration = Duration::from_secs(20);

/// What the engine asks its thread to do.
pub(crate) enum Command {
    /// Continue a token list.
    Run { request: Request, events: Sender<Event>, cancel: Arc<AtomicBool> },
    /// What the tiers below RAM had for the request that arrived as this one.
    Fetched { arrival: u64, fetched: Fetched },
    /// Drop what is kept of requests that have ended.
    Forget,
    /// End the thread.
    Quit,
}

/// A request in the queue, or about to enter it.
struct Waiting {
    job: Job,
    /// What it will use of what is kept, pinned; the resume point stays even if the tree drops it.
    held: Hit,
}

/// A request that runs.
struct Running {
    job: Job,
    seat: Seat,
}

/// Requests, memory and the backend.
pub(crate) struct Scheduler {
    options: Options,
    runner: Runner,
    prefixes: Prefixes,
    /// For whom the tiers below RAM are being asked.
    fetching: Vec<Waiting>,
    /// By rank.
    waiting: Vec<Waiting>,
    /// By rank; at most one for each session.
    running: Vec<Running>,
    /// Slots of the cache that nobody has, the lowest last.
    slots: Vec<usize>,
    quantum: Quantum,
    arrivals: u64,
    /// What steered tokens are called.
    names: Names,
    counters: Arc<Counters>,
    /// Leads back here.
    commands: Sender<Command>,
}

impl Scheduler {
    pub(crate) fn new(
        model: Arc<Model>,
        options: Options,
        vault: Option<Arc<Vault>>,
        counters: Arc<Counters>,
        experts: Arc<Counts>,
        commands: Sender<Command>,
    ) -> Self {
        let layout = CacheLayout::new(&model.weights.shape, options.numerics.rows, options.cache_plan());
        Self {
            prefixes: Prefixes::new(&model, &options, &layout, vault, Arc::clone(&counters)),
            runner: Runner::new(model, &options, &layout, experts),
            fetching: Vec::new(),
            waiting: Vec::new(),
            running: Vec::new(),
            slots: (0..options.sessions).rev().collect(),
            quantum: Quantum::new(options.prefill_quantum),
            arrivals: 0,
            names: Names::default(),
            counters,
            commands,
            options,
        }
    }

    /// Works until it is told to quit.
    pub(crate) fn run(mut self, inbox: &Receiver<Command>) {
        loop {
            self.prefixes.count();
            let busy = !(self.running.is_empty() && self.waiting.is_empty());
            let command = if busy {
                inbox.try_recv().ok()
            } else if self.fetching.is_empty() {
                inbox.recv().ok().or(Some(Command::Quit))
            } else {
                inbox.recv_timeout(LOOK).ok()
            };
            match command {
                Some(Command::Quit) => return self.prefixes.save_all(&mut self.runner),
                Some(Command::Forget) => self.prefixes.forget(),
                Some(Command::Run { request, events, cancel }) => {
                    self.arrivals += 1;
                    let way = request.steering.as_ref().map_or(0, |steering| self.names.number(steering));
                    self.arrive(Job::new(self.arrivals, request, way, self.options.context, events, cancel));
                }
                Some(Command::Fetched { arrival, fetched }) => self.fetched(arrival, fetched),
                None => {
                    self.drop_cancelled();
                    self.stop_fetching();
                    self.admit();
                    self.step();
                }
            }
        }
    }

    fn drop_cancelled(&mut self) {
        for waiting in [&mut self.waiting, &mut self.fetching] {
            for mut gone in waiting.extract_if(.., |w| w.job.cancelled()) {
                self.prefixes.unpin(gone.held.node);
                gone.job.finish(Finish::Cancelled);
            }
        }
        for mut gone in self.running.extract_if(.., |r| r.job.cancelled()).collect::<Vec<_>>() {
            gone.job.finish(Finish::Cancelled);
            self.leave(gone);
        }
    }

    /// A request is here. What RAM lacks of its prompt may lie below.
    fn arrive(&mut self, job: Job) {
        self.counters.requests.add(1);
        let (arrival, commands) = (job.arrival(), self.commands.clone());
        // Nobody listens any more when the engine has ended.
        let reply = move |fetched| drop(commands.send(Command::Fetched { arrival, fetched }));
        let cancelled = job.cancel_flag();
        let wanted = move || !cancelled.load(Relaxed);
        match self.prefixes.fetch(job.names(), job.needed(), wanted, reply) {
            Some(node) => self.fetching.push(Waiting { job, held: Hit { node, len: 0, bytes: None } }),
            None => self.wait(job),
        }
    }

    /// Those for whom the tiers below RAM take too long go on without; a late answer is not heard.
    fn stop_fetching(&mut self) {
        let late: Vec<Waiting> = self.fetching.extract_if(.., |w| w.job.age() > FETCH_TIME).collect();
        for Waiting { job, held } in late {
            self.wait(job);
            self.prefixes.unpin(held.node);
        }
    }

    /// The tiers below RAM have answered.
    fn fetched(&mut self, arrival: u64, mut fetched: Fetched) {
        let Some(i) = self.fetching.iter().position(|w| w.job.arrival() == arrival) else { return };
        let Waiting { mut job, held } = self.fetching.remove(i);
        let source = fetched.source.take();
        if self.prefixes.take_in(job.names(), fetched, &mut self.runner) {
            job.came_from(source);
        }
        self.wait(job);
        self.prefixes.unpin(held.node);
    }

    /// A job takes its place in the queue and holds what it can use of what is kept.
    fn wait(&mut self, job: Job) {
        let held = self.prefixes.find(job.names(), job.needed());
        self.prefixes.pin(held.node);
        let place = self.waiting.partition_point(|other| other.job.rank() < job.rank());
        self.waiting.insert(place, Waiting { job, held });
    }

    /// Starts those who wait, in order, while there is room for them.
    fn admit(&mut self) {
        let mut i = 0;
        while i < self.waiting.len() && !self.slots.is_empty() {
            if self.is_being_computed(i) {
                i += 1;
            } else if self.has_room(i) {
                self.start(i);
            } else {
                break;
            }
        }
        for (place, waiting) in self.waiting.iter_mut().enumerate() {
            waiting.job.waits(self.running.len() + place);
        }
    }

    /// Whether a running prompt is about to compute a good part of what this one needs. Then it is asked to leave a resume
    /// point where they part.
    fn is_being_computed(&mut self, i: usize) -> bool {
        let job = &self.waiting[i].job;
        let kept = self.prefixes.find(job.names(), job.needed()).len.max(self.waiting[i].held.len);
        self.running.iter_mut().any(|other| {
            let other = &mut other.job;
            let shared = other.names().iter().zip(job.names()).take_while(|(a, b)| a == b).count().min(job.needed());
            let last = other.prompt() - 1;
            let part = if shared >= last { last } else { shared / PAGE_TOKENS * PAGE_TOKENS };
            let soon = part > other.computed().len() && part >= kept + PAGE_TOKENS;
            if soon {
                other.cut_at(part);
            }
            soon
        })
    }

    /// Whether pages can be had for one that waits. Who runs alone always fits.
    fn has_room(&mut self, i: usize) -> bool {
        let job = &self.waiting[i].job;
        let found = self.prefixes.find(job.names(), job.needed());
        if found.len > self.waiting[i].held.len {
            self.prefixes.pin(found.node);
            self.prefixes.unpin(std::mem::replace(&mut self.waiting[i].held, found).node);
        }
        let node = self.waiting[i].held.node;

        let job = &self.waiting[i].job;
        let more = pages_for(job.names().len()) - self.prefixes.depth(node);
        if self.running.is_empty() {
            while self.prefixes.available() < more && self.let_one_go(Some(i)) {}
            return true;
        }
        // One page for everyone who may need one soon.
        let grows = |job: &Job| pages_for(job.most()) > pages_for(job.names().len());
        let soon = self.running.iter().filter(|r| grows(&r.job)).count() + usize::from(grows(job));
        self.prefixes.available() >= more + soon
    }

    /// The last one of those who wait and hold something, other than `but`, lets go of it; false if there is none.
    fn let_one_go(&mut self, but: Option<usize>) -> bool {
        let waiting = self.waiting.iter_mut().enumerate().filter(|(i, _)| Some(*i) != but).map(|(_, w)| w);
        let Some(last) = waiting.chain(&mut self.fetching).filter(|w| w.held.node != Node::ROOT).last() else {
            return false;
        };
        let nothing = Hit { node: Node::ROOT, len: 0, bytes: None };
        self.prefixes.unpin(std::mem::replace(&mut last.held, nothing).node);
        true
    }

    /// Gives one that waits, and for which there is room, its place.
    fn start(&mut self, i: usize) {
        let Waiting { mut job, held } = self.waiting.remove(i);
        let slot = self.slots.pop().expect("there is one");
        let mut seat = self.prefixes.seat(slot, held.node);
        assert!(self.prefixes.cover(&mut seat, job.names().len(), &mut self.runner), "there is room");
        if let Some(bytes) = &held.bytes {
            self.runner.import_point(&seat, held.len, bytes);
        }
        if job.starts(held.len) {
            self.counters.started(job.usage());
        }
        let place = self.running.partition_point(|other| other.job.rank() < job.rank());
        self.running.insert(place, Running { job, seat });
    }

    /// One that does not run any more gives its place up; what it computed is kept.
    fn leave(&mut self, Running { job, mut seat }: Running) -> Job {
        if !job.is_private() {
            self.prefixes.keep(&seat, job.computed(), Why::End, &mut self.runner);
        }
        self.prefixes.leave(&mut seat);
        self.slots.push(seat.slot);
        job
    }

    /// Gives every running job pages for its tokens. Where there are none left, those who wait let go of what they hold,
    /// then the last one goes back to the queue.
    fn grow(&mut self) {
        let mut i = 0;
        while i < self.running.len() {
            let Running { job, seat } = &mut self.running[i];
            if self.prefixes.cover(seat, job.names().len(), &mut self.runner) {
                i += 1;
            } else if !self.let_one_go(None)
                && let Some(last) = self.running.pop()
            {
                let mut job = self.leave(last);
                self.counters.sent_back.add(1);
                job.stops();
                self.wait(job);
            }
        }
    }

    /// Tokens of each running job in the next step; those who write an answer, or score, have one.
    fn counts(&self) -> Vec<usize> {
        let every = self.options.resume_every;
        let mut counts: Vec<usize> = self.running.iter().map(|r| usize::from(r.job.writes(every))).collect();
        let answers = counts.iter().any(|n| *n > 0);
        let chunk = self.options.chunk();
        let budget = if answers { self.quantum.tokens().min(chunk) } else { chunk };
        let readers: Vec<usize> = (0..counts.len()).filter(|i| counts[*i] == 0).collect();
        let reader = |job: &Job| Reader {
            priority: job.priority(),
            left: job.left(),
            most: job.wants(every),
            passed: job.passed,
        };
        let queue: Vec<Reader> = readers.iter().map(|i| reader(&self.running[*i].job)).collect();
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
        let mut answers = 0;
        let mut steered = Vec::new();
        for (Running { job, seat }, &count) in self.running.iter_mut().zip(&counts) {
            job.passed = if count > 0 { 0 } else { job.passed + 1 };
            if count == 0 {
                continue;
            }
            answers += usize::from(job.writes(self.options.resume_every));
            outputs.push(job.outputs(count));
            steered.extend(job.steered(count, batch.len()));
            batch.push(seat.slot, job.position(), job.next(count), &seat.table, job.outputs(count));
        }
        if batch.is_empty() {
            return; // everyone was cancelled
        }
        let start = Instant::now();
        self.runner.run(&batch, &steered);
        self.counters.tokens_computed.add(batch.len() as u64);
        self.quantum.learn(batch.len() - answers, answers, start.elapsed());
        self.tell(&counts, outputs);
    }

    /// Hands each job of a step its logits; those that have ended leave.
    fn tell(&mut self, counts: &[usize], outputs: Vec<Outputs>) {
        let (mut outputs, mut index) = (outputs.into_iter(), 0);
        let mut ended = vec![false; counts.len()];
        for (i, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let Running { job, seat } = &mut self.running[i];
            let logits = (outputs.next() == Some(Outputs::Last)).then(|| {
                index += 1;
                self.runner.logits(index - 1)
            });
            ended[i] = job.advance(count, logits);
            if job.is_private() {
                continue;
            }
            self.prefixes.share(seat, job.computed());
            if let Some(why) = job.resume_point(self.options.resume_every) {
                self.prefixes.keep(seat, job.computed(), why, &mut self.runner);
            }
        }
        let mut ended = ended.into_iter();
        for gone in self.running.extract_if(.., |_| ended.next() == Some(true)).collect::<Vec<_>>() {
            self.leave(gone);
        }
    }
}
