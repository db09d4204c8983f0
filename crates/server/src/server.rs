//! What all requests share, and the step from a typed request to a place in the queue.

use std::iter::repeat_n;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ds4_chat::Role;
use ds4_dialog::{Place, Prompt, Turn, Turns, options};
use ds4_engine::{Model, Sampling, Steering, When};
use ds4_guide::{AnswerGuide, Choice, Format, Rules, Vocabulary};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::calls::{CallIds, Style};
use crate::ledger::Ledger;
use crate::log::Log;
use crate::metrics::Now;
use crate::models::Identity;
use crate::queue::{Queue, Task, Ticket};
use crate::request::random;
use crate::source::Source;
use crate::steering::steering;
use crate::trace::Trace;
use crate::{Config, Error, Keys, Request, SteeringConfig, ToolChoice, host, responses};

/// What all requests share.
pub(crate) struct Server {
    pub(crate) engine: Arc<dyn Source>,
    pub(crate) model: Arc<Model>,
    pub(crate) identity: Identity,
    pub(crate) queue: Arc<Queue>,
    pub(crate) context: usize,
    pub(crate) cors: bool,
    pub(crate) keys: Keys,
    /// Whether names of other machines are refused.
    pub(crate) local_names_only: bool,
    pub(crate) trace: Trace,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) responses: Arc<responses::Memory>,
    turns: Option<Arc<Turns>>,
    max_tokens: usize,
    /// Whether calls are held to their schemas.
    constrain: bool,
    steering: Option<SteeringConfig>,
    vocabulary: OnceLock<Arc<Vocabulary>>,
    /// Why the engine cannot run any more.
    failure: OnceLock<String>,
    failed: Notify,
    pub(crate) started: Instant,
    next_id: AtomicU64,
}

/// What the model is to continue, and what it may write.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub(crate) prompt: Prompt,
    /// Whether the answer begins inside the reasoning, also where nothing is told apart.
    thinking: bool,
    rules: Option<Arc<Rules>>,
    steering: Option<Steering>,
}

/// What an answer needs besides the news: its names.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub(crate) id: String,
    pub(crate) model: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
}

impl Server {
    pub(crate) fn new(engine: Arc<dyn Source>, model: Arc<Model>, config: &Config, trace: Trace) -> Self {
        let (context, sessions) = (engine.options().context, engine.options().sessions);
        let ledger = Arc::new(Ledger::new(Log::new(config.log)));
        Self {
            identity: Identity::new(&model, context, config.max_tokens),
            engine,
            model,
            queue: Arc::new(Queue::new(sessions, config.queue, Arc::clone(&ledger))),
            context,
            cors: config.cors,
            keys: config.keys.clone(),
            local_names_only: host::local_names_only(config),
            trace,
            ledger,
            responses: Arc::default(),
            turns: config.turns.clone(),
            max_tokens: config.max_tokens,
            constrain: config.constrain,
            steering: config.steering.clone(),
            vocabulary: OnceLock::new(),
            failure: OnceLock::new(),
            failed: Notify::new(),
            started: Instant::now(),
            next_id: AtomicU64::new(0),
        }
    }

    /// Does what takes long, such as parsing and tokenising a large body, out of the way of other connections.
    pub(crate) async fn off_the_loop<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let server = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&server)).await;
        done.unwrap_or_else(|e| Err(Error::Failed(format!("the request could not be read: {e}"))))
    }

    /// The prompt of a request; refused when it leaves no room for an answer. `param` is the field that holds it.
    pub(crate) fn prompt(&self, request: &Request, param: &'static str) -> Result<Prompt, Error> {
        let options = options(&self.model, request.think, self.context, None);
        let prompt = Prompt::new(&request.conversation, &options, &self.model.tokenizer, self.turns.as_deref());
        let mut prompt = prompt.map_err(|e| Error::Invalid(format!("{param}: {e}")))?;
        if request.tool_choice == ToolChoice::None {
            prompt.tools = None;
        }
        match prompt.tokens.len() {
            n if n >= self.context => Err(Error::ContextExceeded { param, prompt: n, context: self.context }),
            _ => Ok(prompt),
        }
    }

    /// The prompt of a request, with what its answer must be like; refused when that cannot be enforced.
    pub(crate) fn prepare(&self, request: &Request, param: &'static str) -> Result<Prepared, Error> {
        let prompt = self.prompt(request, param)?;
        let demands = request.demands(self.constrain);
        let steering = self.steering(request, &prompt)?;
        let guided = steering.as_ref().is_some_and(|steering| steering.when == When::Guided);
        let plain = matches!(demands.choice, Choice::Auto | Choice::None)
            && matches!(demands.format, Format::Text)
            && demands.thinking.is_none();
        if plain && prompt.tools.is_none() && !guided {
            return Ok(Prepared { thinking: prompt.thinking, prompt, rules: None, steering });
        }
        let vocabulary = self.vocabulary();
        let rules =
            Rules::new(&request.conversation, demands, vocabulary).map_err(|e| Error::Invalid(e.to_string()))?;
        let rules = rules.or_else(|| guided.then(Rules::none)).map(Arc::new);
        Ok(Prepared { thinking: prompt.thinking, prompt, rules, steering })
    }

    /// What follows an answer and says what may come next. Making it takes a while.
    pub(crate) fn guide(&self, task: &Task) -> Option<AnswerGuide> {
        let rules = Arc::clone(task.rules.as_ref()?);
        let guide = AnswerGuide::new(Arc::clone(self.vocabulary()), rules, task.prompt.tools.clone(), task.thinking);
        let guided = task.steering.as_ref().is_some_and(|steering| steering.when == When::Guided);
        Some(if guided { guide.steer_final_text() } else { guide })
    }

    /// How an answer is steered.
    fn steering(&self, request: &Request, prompt: &Prompt) -> Result<Option<Steering>, Error> {
        let called = request.conversation.messages.iter().any(|message| message.role == Role::Tool);
        steering(self.steering.as_ref(), request.steering, prompt.tools.is_some() && !called)
    }

    /// The model's tokens, for guides; made when it is first needed.
    pub(crate) fn vocabulary(&self) -> &Arc<Vocabulary> {
        self.vocabulary.get_or_init(|| Arc::new(Vocabulary::new(&self.model.tokenizer)))
    }

    /// Gives a request its names and a place in the queue.
    pub(crate) fn enter(&self, request: &Request, prepared: Prepared, style: &Style) -> Result<(Label, Ticket), Error> {
        let (label, mut tickets) = self.enter_all(request, prepared, style, 1)?;
        Ok((label, tickets.remove(0)))
    }

    /// The same for several answers at once, which are named after the first; all of them have a place, or none.
    pub(crate) fn enter_all(
        &self,
        request: &Request,
        prepared: Prepared,
        style: &Style,
        answers: usize,
    ) -> Result<(Label, Vec<Ticket>), Error> {
        if let Some(why) = self.failure() {
            return Err(Error::Failed(why.into()));
        }
        let model = request.model.clone().unwrap_or_else(|| self.identity.id.clone());
        let tasks = repeat_n(prepared, answers).zip(0..).map(|(prepared, i)| {
            let (task, seed) = self.task(request, prepared, style, i);
            let calls = CallIds::new(style, seed, &model, &task);
            (task, calls)
        });
        let tasks: Vec<_> = tasks.collect();
        let id = tasks.first().map(|(task, _)| task.id.clone()).unwrap_or_default();
        let tickets = self.queue.enter(tasks).inspect_err(|_| self.ledger.stats.refused())?;
        Ok((Label { id, model, created: now() }, tickets))
    }

    /// What the worker is to do for answer `i` of a request, and the seed of that answer where the request has one.
    fn task(&self, request: &Request, prepared: Prepared, style: &Style, i: u64) -> (Task, Option<u64>) {
        // Who knows an id can go on from its answer, so it cannot be guessed.
        let id = format!("{}{:x}-{:016x}{:016x}", style.answer, self.next_id.fetch_add(1, Relaxed), random(), random());
        let sampling = Sampling { seed: request.sampling.seed.wrapping_add(i).max(1), ..request.sampling };
        self.trace.request(&id, &prepared.prompt, &sampling);
        let task = Task {
            id,
            api: style.api,
            thinking: prepared.thinking,
            rules: prepared.rules,
            prompt: prepared.prompt,
            sampling,
            bias: request.bias.clone(),
            steering: prepared.steering,
            logprobs: request.logprobs,
            max_tokens: request.max_tokens.unwrap_or(self.max_tokens),
            stop: request.stop.clone(),
        };
        (task, request.seed.map(|seed| seed.wrapping_add(i)))
    }

    /// Remembers the answer to the prompt of `place`, for when its client brings it back.
    pub(crate) fn remember(&self, place: Place, turn: &Turn) {
        if let Some(turns) = &self.turns {
            turns.remember(place, turn);
        }
    }

    /// Remembers that the engine cannot run any more, which health reports from then on; the server ends.
    pub(crate) fn fail(&self, why: String) {
        if self.failure.set(why).is_ok() {
            self.failed.notify_one(); // the first reason counts
        }
    }

    /// Waits until the engine cannot run any more.
    pub(crate) async fn failed(&self) {
        self.failed.notified().await;
    }

    /// Why the engine cannot run any more.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Whether all is well, in a word or two.
    pub(crate) fn status(&self) -> &'static str {
        match self.failure() {
            Some(_) => "failed",
            None if self.queue.load().closed => "shutting down",
            None => "ok",
        }
    }

    /// What `/metrics` says.
    pub(crate) fn metrics_page(&self) -> String {
        self.ledger.metrics.page(&Now {
            model: &self.identity.id,
            well: self.status() == "ok",
            uptime: self.started.elapsed(),
            load: self.queue.load(),
            totals: self.ledger.stats.look().1,
            plan: self.engine.plan(),
            engine: self.engine.metrics(),
        })
    }

    /// What `/ready` says, and whether requests would be taken.
    pub(crate) fn ready(&self) -> (bool, Value) {
        match self.status() {
            "ok" => (true, json!({"status": "ready"})),
            status => (false, json!({"status": status, "error": self.failure()})),
        }
    }

    /// What `/health` says, and whether all is well.
    pub(crate) fn health(&self) -> (bool, Value) {
        let (load, status) = (self.queue.load(), self.status());
        let mut health = json!({
            "status": status,
            "model": self.identity.id,
            "context_length": self.context,
            "running": load.running,
            "running_limit": load.places,
            "waiting": load.waiting,
            "waiting_limit": load.limit,
        });
        if let Some(why) = self.failure() {
            health["error"] = why.into();
        }
        (status == "ok", health)
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs())
}
