//! The engine's outside: one thread that computes, and handles to talk to it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use ds4_cpu::Limits;
use ds4_model::{Numerics, ROLLBACK};

use crate::worker::{Command, Worker};
use crate::{Error, Event, Machine, Model, Plan, Request};

/// How an engine runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Numeric mode.
    pub numerics: Numerics,
    /// Tokens that a sequence can hold.
    pub context: usize,
    /// Threads that compute.
    pub threads: usize,
    /// Most prompt tokens read in one step; cancellation takes effect between steps.
    pub step: usize,
    /// Run although the weights do not fit into memory, reading them from the disk again and again.
    pub oversubscribe: bool,
}

impl Options {
    /// What the backend is made for. No step is larger than the context.
    pub fn limits(&self) -> Limits {
        Limits { threads: self.threads, tokens: self.step.min(self.context), context: self.context }
    }
}

/// A model, ready to run.
pub struct Engine {
    model: Arc<Model>,
    options: Options,
    plan: Plan,
    commands: Sender<Command>,
    worker: Option<JoinHandle<()>>,
    taken: Arc<AtomicBool>,
    failure: Arc<Mutex<String>>,
}

impl Engine {
    /// Allocates everything that `model` needs and starts the engine's thread; refuses what does not fit into memory.
    pub fn start(model: Arc<Model>, options: Options) -> Result<Self, Error> {
        ds4_cpu::Family::requested()?;
        let plan = Plan::new(&model, options.numerics, options.limits());
        if let Some(machine) = Machine::measure() {
            plan.check(&machine, options.oversubscribe)?;
        }
        let (commands, inbox) = channel();
        let failure = Arc::new(Mutex::new(String::new()));
        let (theirs, told) = (Arc::clone(&model), Arc::clone(&failure));
        let run = move || {
            let work = std::panic::AssertUnwindSafe(|| Worker::new(theirs, options).run(&inbox));
            if let Err(panic) = std::panic::catch_unwind(work) {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or(panic.downcast_ref::<&str>().map(|s| s.to_string()));
                *told.lock().expect("never poisoned") = text.unwrap_or_else(|| "internal error".into());
            }
        };
        let thread = std::thread::Builder::new().name("ds4-engine".into()).spawn(run);
        let thread = thread.map_err(|e| Error::Stopped(format!("its thread cannot be started: {e}")))?;
        let taken = Arc::new(AtomicBool::new(false));
        Ok(Self { model, options, plan, commands, worker: Some(thread), taken, failure })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The options it was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Its memory.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A new, empty sequence. One can live at a time.
    pub fn sequence(&self) -> Result<Sequence<'_>, Error> {
        if self.taken.swap(true, Relaxed) {
            return Err(Error::Busy);
        }
        let sequence = Sequence { engine: self, tokens: Vec::new(), high: 0, resume_point: None };
        sequence.engine.send(Command::Truncate(0))?;
        Ok(sequence)
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).map_err(|_| self.stopped())
    }

    fn stopped(&self) -> Error {
        Error::Stopped(self.failure.lock().expect("never poisoned").clone())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Quit);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

/// One conversation's state in the engine.
pub struct Sequence<'e> {
    engine: &'e Engine,
    /// Tokens that the cache holds.
    tokens: Vec<u32>,
    /// Most tokens that it held since it was empty or resumed.
    high: usize,
    /// Tokens at the resume point.
    resume_point: Option<usize>,
}

impl<'e> Sequence<'e> {
    /// Tokens whose rows the cache holds. The last generated token joins when something follows it.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Continues `request.tokens`. The longest prefix that can be kept is not computed again; see [`Event::Prefill`].
    /// What can be kept: everything, all but the last [`ROLLBACK`] tokens, or what was there before the last token of the
    /// previous request, where a template opens or closes the reasoning.
    ///
    /// Events arrive as they happen; dropping the [`Run`] cancels the request within one step.
    pub fn submit(&mut self, request: Request) -> Result<Run<'_, 'e>, Error> {
        self.check(&request)?;
        let (sender, events) = channel();
        let cancel = Arc::new(AtomicBool::new(false));
        self.keep(request.tokens.len(), &request)?;
        let command = Command::Run { request, events: sender, cancel: Arc::clone(&cancel) };
        self.engine.send(command)?;
        Ok(Run { sequence: self, events, cancel, ended: false })
    }

    /// Takes the last `count` tokens back, exactly; at most [`ROLLBACK`] from the longest state so far.
    pub fn rollback(&mut self, count: usize) -> Result<(), Error> {
        let possible = self.tokens.len().min((self.tokens.len() + ROLLBACK).saturating_sub(self.high));
        if count > possible {
            return Err(Error::Rollback { asked: count, possible });
        }
        self.truncate(self.tokens.len() - count)
    }

    /// Forgets everything.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.tokens.clear();
        (self.high, self.resume_point) = (0, None);
        self.engine.send(Command::Truncate(0))
    }

    fn truncate(&mut self, len: usize) -> Result<(), Error> {
        self.tokens.truncate(len);
        if self.resume_point.is_some_and(|at| at > len) {
            self.resume_point = None;
        }
        self.engine.send(Command::Truncate(len))
    }

    fn resume(&mut self, at: usize) -> Result<(), Error> {
        self.tokens.truncate(at);
        self.high = at;
        self.engine.send(Command::Resume)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let context = self.engine.options.context;
        let vocab = self.engine.model.weights.shape.vocab as u32;
        if request.tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if request.tokens.len() > context {
            return Err(Error::ContextExceeded { prompt: request.tokens.len(), context });
        }
        match request.tokens.iter().find(|id| **id >= vocab) {
            Some(&id) => Err(Error::UnknownToken { id, last: vocab - 1 }),
            None => Ok(()),
        }
    }

    /// Shortens the cache to what the request shares with it, or empties it where that cannot be done exactly.
    fn keep(&mut self, prompt: usize, request: &Request) -> Result<(), Error> {
        let shared = self.tokens.iter().zip(&request.tokens).take_while(|(a, b)| a == b).count();
        // Someone must compute the logits that are asked for.
        let needed = request.score_from.map_or(prompt - 1, |from| from.saturating_sub(1).min(prompt - 1));
        let keep = shared.min(needed);
        if keep == self.tokens.len() {
            Ok(())
        } else if self.high - keep <= ROLLBACK {
            self.truncate(keep)
        } else {
            match self.resume_point.filter(|at| *at <= keep) {
                Some(at) => self.resume(at),
                None => self.reset(),
            }
        }
    }
}

impl Drop for Sequence<'_> {
    fn drop(&mut self) {
        self.engine.taken.store(false, Relaxed);
    }
}

/// A request under way: an iterator over its events, the last of which is an end.
pub struct Run<'s, 'e> {
    sequence: &'s mut Sequence<'e>,
    events: Receiver<Message>,
    cancel: Arc<AtomicBool>,
    ended: bool,
}

/// What the worker says: an event, tokens that the cache holds now, or that it has saved a resume point after them.
pub(crate) enum Message {
    Event(Event),
    Holds(Vec<u32>),
    Saved,
}

impl Run<'_, '_> {
    /// Asks the engine to stop; the end still comes as an event.
    pub fn cancel(&self) {
        self.cancel.store(true, Relaxed);
    }

    /// A flag that cancels the request when it is set, for signal handlers.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }
}

impl Iterator for Run<'_, '_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        while !self.ended {
            let event = match self.events.recv() {
                Ok(Message::Event(event)) => event,
                Ok(Message::Holds(tokens)) => {
                    self.sequence.tokens.extend(tokens);
                    self.sequence.high = self.sequence.high.max(self.sequence.tokens.len());
                    continue;
                }
                Ok(Message::Saved) => {
                    self.sequence.resume_point = Some(self.sequence.tokens.len());
                    continue;
                }
                Err(_) => Event::Failed(self.sequence.engine.stopped().to_string()),
            };
            self.ended = matches!(event, Event::Finished(..) | Event::Failed(_));
            return Some(event);
        }
        None
    }
}

impl Drop for Run<'_, '_> {
    fn drop(&mut self) {
        self.cancel();
        self.for_each(drop);
    }
}
