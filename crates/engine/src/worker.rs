//! The thread that computes: one sequence, one request at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use ds4_cpu::{Cache, Cpu, Saved, kernels::math::exp};
use ds4_model::{Batch, CacheLayout, NoTap, Ops, Outputs, Scratch, forward};

use crate::engine::{Message, Options};
use crate::plan::cache_plan;
use crate::{Event, Finish, Model, Observe, Observed, Request, Sampler, Token, TokenScore, Usage};

/// What the engine asks its thread to do.
pub(crate) enum Command {
    /// Continue a token list.
    Run { request: Request, events: Sender<Message>, cancel: Arc<AtomicBool> },
    /// Keep only the first tokens.
    Truncate(usize),
    /// Go back to the resume point.
    Resume,
    /// End the thread.
    Quit,
}

/// The backend with its memory.
pub(crate) struct Worker {
    model: Arc<Model>,
    options: Options,
    cpu: Cpu,
    scratch: Scratch<Cpu>,
    cache: Cache,
    pages: Vec<u32>,
    /// Tokens in the cache.
    len: usize,
    /// Logits after the last one.
    logits: Vec<f32>,
    /// Windows and states before the last token of a prompt.
    saved: Option<Saved>,
    saved_len: usize,
}

/// One request's way out.
struct Reply {
    events: Sender<Message>,
    cancel: Arc<AtomicBool>,
}

impl Reply {
    fn send(&self, event: Event) {
        // A receiver that is gone has cancelled.
        let _ = self.events.send(Message::Event(event));
    }

    fn cancelled(&self) -> bool {
        self.cancel.load(Relaxed)
    }
}

impl Worker {
    pub(crate) fn new(model: Arc<Model>, options: Options) -> Self {
        let limits = options.limits();
        let shape = &model.weights.shape;
        let mut cpu = Cpu::new(shape, options.numerics, limits);
        let plan = cache_plan(limits);
        let cache = cpu.cache(&CacheLayout::new(shape, options.numerics.rows, plan));
        let scratch = Scratch::new(&mut cpu, shape, limits.tokens, 1);
        let pages = (0..plan.pages as u32).collect();
        let mut saved = None;
        cpu.save(&cache, 0, &mut saved);
        let logits = Vec::with_capacity(shape.vocab);
        Self { cpu, scratch, cache, pages, len: 0, logits, saved, saved_len: 0, model, options }
    }

    pub(crate) fn run(mut self, inbox: &Receiver<Command>) {
        for command in inbox {
            match command {
                Command::Run { request, events, cancel } => self.serve(&request, &Reply { events, cancel }),
                Command::Truncate(len) => self.len = len,
                Command::Resume => self.resume(),
                Command::Quit => return,
            }
        }
    }

    fn serve(&mut self, request: &Request, reply: &Reply) {
        let mut usage = Usage { prompt: request.tokens.len(), reused: self.len, ..Usage::default() };
        let start = Instant::now();
        let whole = self.prefill(request, reply);
        usage.prefill = start.elapsed();
        if !whole {
            return reply.send(Event::Finished(Finish::Cancelled, usage));
        }
        if request.observe == Observe::Logits {
            reply.send(Event::Observed(Observed::Logits(self.logits.clone())));
        }
        let start = Instant::now();
        let finish = self.generate(request, reply, &mut usage.generated);
        usage.decode = start.elapsed();
        reply.send(match finish {
            Some(finish) => Event::Finished(finish, usage),
            None => Event::Failed(format!("the model produced no finite logit after token {}", self.len)),
        });
    }

    /// Reads what the cache does not hold yet; false when cancelled.
    fn prefill(&mut self, request: &Request, reply: &Reply) -> bool {
        let total = request.tokens.len();
        reply.send(Event::Prefill { done: self.len, total });
        while self.len < total {
            if reply.cancelled() {
                return false;
            }
            if self.len + 1 == total {
                self.save(reply);
            }
            // Scores need the logits of every token; the last one stands alone, after the resume point.
            let step = if request.score_from.is_some() { 1 } else { self.options.limits().tokens };
            let end = if self.len + 1 == total { total } else { (total - 1).min(self.len + step) };
            let outputs = if end == total || request.score_from.is_some() { Outputs::Last } else { Outputs::None };
            self.step(&request.tokens[self.len..end], outputs, reply);
            reply.send(Event::Prefill { done: self.len, total });
            if let Some(&next) = request.tokens.get(self.len)
                && request.score_from.is_some_and(|from| self.len >= from)
            {
                let logprob = score(&self.logits, next, log_sum(&self.logits)).logprob;
                reply.send(Event::Scored { position: self.len, logprob });
            }
        }
        true
    }

    /// Draws tokens until one of the ends; none when there is nothing to draw.
    fn generate(&mut self, request: &Request, reply: &Reply, generated: &mut usize) -> Option<Finish> {
        let mut sampler = Sampler::new(request.sampling);
        let room = self.options.context - request.tokens.len();
        loop {
            if reply.cancelled() {
                return Some(Finish::Cancelled);
            }
            if *generated == request.max_tokens.min(room) {
                return Some(if *generated == request.max_tokens { Finish::Length } else { Finish::Context });
            }
            let id = sampler.draw(&self.logits)?;
            if request.stop.contains(&id) {
                return Some(Finish::Stop);
            }
            let observed = match request.observe {
                Observe::Top(n) => Some(top(&self.logits, id, n)),
                _ => None,
            };
            reply.send(Event::Token(Token { id, observed }));
            *generated += 1;
            if *generated < request.max_tokens.min(room) {
                self.step(&[id], Outputs::Last, reply);
            }
        }
    }

    /// Makes this the resume point: a next request that goes another way from the prompt's last token starts here.
    fn save(&mut self, reply: &Reply) {
        self.cpu.save(&self.cache, 0, &mut self.saved);
        self.saved_len = self.len;
        let _ = reply.events.send(Message::Saved);
    }

    fn resume(&mut self) {
        let saved = self.saved.as_ref().expect("saved when the worker was made");
        self.cpu.restore(&mut self.cache, 0, saved);
        self.len = self.saved_len;
    }

    /// Appends tokens to the sequence.
    fn step(&mut self, tokens: &[u32], outputs: Outputs, reply: &Reply) {
        let mut batch = Batch::new();
        batch.push(0, self.len as u32, tokens, &self.pages, outputs);
        self.cpu.begin(&batch);
        forward(&mut self.cpu, &self.model.weights, &mut self.scratch, &mut self.cache, &mut NoTap);
        if outputs != Outputs::None {
            self.logits.clear();
            self.cpu.read_logits(&self.scratch.logits, 0, &mut self.logits);
        }
        self.len += tokens.len();
        let _ = reply.events.send(Message::Holds(tokens.to_vec()));
    }
}

/// `ln Σ e^l`, from the largest logit and ids in ascending order; NaN counts as nothing.
fn log_sum(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().filter(|l| !l.is_nan()).map(|l| exp(l - max) as f64).sum();
    max as f64 + libm::log(sum)
}

fn score(logits: &[f32], id: u32, log_sum: f64) -> TokenScore {
    let logit = logits[id as usize];
    TokenScore { id, logit, logprob: logit as f64 - log_sum }
}

/// The token drawn and the `count` most probable ones, the lower id first among equals.
fn top(logits: &[f32], drawn: u32, count: usize) -> Observed {
    let log_sum = log_sum(logits);
    let mut ids: Vec<u32> = (0..logits.len() as u32).filter(|id| !logits[*id as usize].is_nan()).collect();
    let better = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if ids.len() > count && count > 0 {
        ids.select_nth_unstable_by(count - 1, better);
    }
    ids.truncate(count);
    ids.sort_unstable_by(better);
    Observed::Top(score(logits, drawn, log_sum), ids.iter().map(|id| score(logits, *id, log_sum)).collect())
}
