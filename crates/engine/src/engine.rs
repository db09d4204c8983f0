//! The engine's outside: one thread that computes, and handles to talk to it.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use crate::experts::Counts;
use crate::pages::lock;
use crate::runner::Runner;
use crate::scheduler::{Command, Scheduler};
use crate::{Error, ExpertsUsed, Machine, Model, Options, Plan, Request, Sequence};

/// A model, ready to run.
pub struct Engine {
    model: Arc<Model>,
    options: Options,
    plan: Plan,
    commands: Sender<Command>,
    worker: Option<JoinHandle<()>>,
    /// Slots of the cache that no sequence has, the lowest last.
    slots: Mutex<Vec<usize>>,
    experts: Arc<Counts>,
    /// Why the thread has ended.
    failure: Arc<OnceLock<String>>,
}

impl Engine {
    /// Allocates everything that `model` needs and starts the engine's thread; refuses what does not fit into memory.
    pub fn start(model: Arc<Model>, options: Options) -> Result<Self, Error> {
        ds4_cpu::Family::requested()?;
        let options = Options { sessions: options.sessions.max(1), ..options };
        let plan = Plan::new(&model, &options);
        if let Some(machine) = Machine::measure() {
            plan.check(&machine, options.oversubscribe)?;
        }
        let (commands, inbox) = channel();
        let failure = Arc::new(OnceLock::new());
        let experts = Arc::new(Counts::default());
        let (theirs, counts, told) = (Arc::clone(&model), Arc::clone(&experts), Arc::clone(&failure));
        let run = move || {
            let work = std::panic::AssertUnwindSafe(|| {
                Scheduler::new(options, Runner::new(theirs, &options, counts)).run(&inbox);
            });
            let end = std::panic::catch_unwind(work);
            let _ = told.set(end.map_or_else(|panic| reason(&*panic), |()| "it was told to".into()));
        };
        let thread = std::thread::Builder::new().name("ds4-engine".into()).spawn(run);
        let thread = thread.map_err(|e| Error::Stopped(format!("its thread cannot be started: {e}")))?;
        let slots = Mutex::new((0..options.sessions).rev().collect());
        Ok(Self { model, options, plan, commands, worker: Some(thread), slots, experts, failure })
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

    /// Experts that steps used so far; nothing unless [`Options::count_experts`].
    pub fn experts_used(&self) -> ExpertsUsed {
        self.experts.read()
    }

    /// Whether it can run requests; else why not.
    pub fn health(&self) -> Result<(), Error> {
        self.failure.get().map_or(Ok(()), |why| Err(Error::Stopped(why.clone())))
    }

    /// A new, empty sequence. As many as [`Options::sessions`] can live at a time.
    pub fn sequence(&self) -> Result<Sequence<'_>, Error> {
        let slot = lock(&self.slots).pop().ok_or(Error::Busy(self.options.sessions))?;
        Sequence::open(self, slot).inspect_err(|_| self.free(slot))
    }

    /// A sequence has left its slot.
    pub(crate) fn free(&self, slot: usize) {
        let mut slots = lock(&self.slots);
        slots.push(slot);
        slots.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// Refuses what makes no sense and what can never fit.
    pub(crate) fn check(&self, request: &Request) -> Result<(), Error> {
        let (prompt, context) = (request.tokens.len(), self.options.context);
        let vocab = self.model.weights.shape.vocab as u32;
        if prompt == 0 {
            return Err(Error::EmptyPrompt);
        }
        if prompt > context {
            return Err(Error::ContextExceeded { prompt, context });
        }
        match request.tokens.iter().find(|id| **id >= vocab) {
            Some(&id) => Err(Error::UnknownToken { id, last: vocab - 1 }),
            None => Ok(()),
        }
    }

    pub(crate) fn send(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).map_err(|_| self.stopped())
    }

    /// Why the thread does not answer; it says so as its last deed.
    pub(crate) fn stopped(&self) -> Error {
        Error::Stopped(self.failure.wait().clone())
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

/// What a panic said.
fn reason(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("internal error").into()
}
