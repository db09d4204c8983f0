//! The engine's outside: one thread that computes, and handles to talk to it.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use ds4_kv::{Tier, Vault};

use crate::experts::Counts;
use crate::metrics::Counters;
use crate::scheduler::{Command, Scheduler};
use crate::{Error, ExpertsUsed, Machine, Metrics, Model, Options, Plan, Request, Run};

/// A model, ready to run.
pub struct Engine {
    model: Arc<Model>,
    options: Options,
    plan: Plan,
    commands: Sender<Command>,
    worker: Option<JoinHandle<()>>,
    experts: Arc<Counts>,
    counters: Arc<Counters>,
    vault: Option<Arc<Vault>>,
    /// Why the thread has ended.
    failure: Arc<OnceLock<String>>,
}

impl Engine {
    /// Allocates everything that `model` needs and starts the engine's thread; refuses what does not fit into memory.
    pub fn start(model: Arc<Model>, options: Options) -> Result<Self, Error> {
        Self::start_with(model, options, Vec::new())
    }

    /// The same, with tiers below RAM: what is computed is kept there, and found again after a restart.
    pub fn start_with(model: Arc<Model>, options: Options, tiers: Vec<Tier>) -> Result<Self, Error> {
        ds4_cpu::Family::requested()?;
        let options = Options { sessions: options.sessions.max(1), ..options };
        let plan = Plan::new(&model, &options);
        if let Some(machine) = Machine::measure() {
            plan.check(&machine, options.oversubscribe)?;
        }
        let (commands, inbox) = channel();
        let failure = Arc::new(OnceLock::new());
        let experts = Arc::new(Counts::default());
        let counters = Arc::new(Counters::default());
        let root = model.root_key(options.numerics);
        let vault = (!tiers.is_empty()).then(|| Arc::new(Vault::new(tiers, root, options.resume_every)));
        let scheduler = {
            let (model, vault, counters) = (Arc::clone(&model), vault.clone(), Arc::clone(&counters));
            let (experts, commands) = (Arc::clone(&experts), commands.clone());
            move || Scheduler::new(model, options, vault, counters, experts, commands)
        };
        let told = Arc::clone(&failure);
        let run = move || {
            let work = std::panic::AssertUnwindSafe(|| {
                scheduler().run(&inbox);
            });
            let end = std::panic::catch_unwind(work);
            let _ = told.set(end.map_or_else(|panic| reason(&*panic), |()| "it was told to".into()));
        };
        let thread = std::thread::Builder::new().name("ds4-engine".into()).spawn(run);
        let thread = thread.map_err(|e| Error::Stopped(format!("its thread cannot be started: {e}")))?;
        Ok(Self { model, options, plan, commands, worker: Some(thread), experts, counters, vault, failure })
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

    /// What it did so far.
    pub fn metrics(&self) -> Metrics {
        self.counters.read(self.vault.as_ref().map(|vault| vault.stats()).unwrap_or_default())
    }

    /// Whether it can run requests; else why not.
    pub fn health(&self) -> Result<(), Error> {
        self.failure.get().map_or(Ok(()), |why| Err(Error::Stopped(why.clone())))
    }

    /// Continues `request.tokens`. The longest prefix that was computed before, for whomever, is not computed again; see
    /// [`crate::Event::Prefill`].
    ///
    /// Events arrive as they happen; dropping the [`Run`] cancels the request within one step.
    pub fn submit(&self, request: Request) -> Result<Run<'_>, Error> {
        self.check(&request)?;
        let (sender, events) = channel();
        let cancel = Arc::new(AtomicBool::new(false));
        self.send(Command::Run { request, events: sender, cancel: Arc::clone(&cancel) })?;
        Ok(Run::new(self, events, cancel))
    }

    /// Drops all that RAM keeps of requests that have ended: without tiers below, everything is computed again.
    pub fn forget(&self) -> Result<(), Error> {
        self.send(Command::Forget)
    }

    /// Refuses what makes no sense and what can never fit.
    fn check(&self, request: &Request) -> Result<(), Error> {
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

    fn send(&self, command: Command) -> Result<(), Error> {
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
