//! What goes into a sequence and what comes out.

use std::sync::Arc;
use std::time::Duration;

use crate::{Guide, Sampling, Steering};

/// A token list to continue.
#[derive(Debug)]
pub struct Request {
    /// The complete text so far; whatever the sequence still holds of it is not computed again.
    pub tokens: Vec<u32>,
    /// How to draw what follows.
    pub sampling: Sampling,
    /// Added to the logits of these tokens before anything is drawn.
    pub bias: Vec<(u32, f32)>,
    /// Who else has a say in what is drawn.
    pub guide: Option<Box<dyn Guide>>,
    /// How it is steered.
    pub steering: Option<Steering>,
    /// Most tokens to generate; 0 only reads the prompt.
    pub max_tokens: usize,
    /// Tokens that end the answer; they are reported as [`Finish::Stop`], not as [`Event::Token`].
    pub stop: Vec<u32>,
    /// What to report besides the token drawn.
    pub observe: Observe,
    /// Report the log-probability of every prompt token from this place on ([`Event::Scored`]).
    pub score_from: Option<usize>,
    /// Whose prompts are read first.
    pub priority: Priority,
}

/// Whose prompts are read first, and who leaves the queue first; answers under way are all treated alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Nobody waits for it.
    Background,
    /// Usual.
    #[default]
    Normal,
    /// Before all others.
    High,
}

impl Request {
    /// Greedy continuation of `tokens`.
    pub fn greedy(tokens: Vec<u32>, max_tokens: usize, stop: u32) -> Self {
        Self {
            tokens,
            sampling: Sampling::GREEDY,
            bias: Vec::new(),
            guide: None,
            steering: None,
            max_tokens,
            stop: vec![stop],
            observe: Observe::Nothing,
            score_from: None,
            priority: Priority::Normal,
        }
    }
}

/// What a step reports about its logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observe {
    /// Nothing.
    Nothing,
    /// The most probable tokens, this many.
    Top(usize),
    /// All logits, before the first token is drawn.
    Logits,
}

/// A token and how probable it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenScore {
    /// The token.
    pub id: u32,
    /// Its logit.
    pub logit: f32,
    /// Natural logarithm of its probability, before any sampling setting.
    pub logprob: f64,
}

/// What [`Observe`] asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Observed {
    /// The token drawn, and the most probable ones, best first.
    Top(TokenScore, Vec<TokenScore>),
    /// All logits `[vocab]`.
    Logits(Vec<f32>),
}

/// A generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The token.
    pub id: u32,
    /// What was asked for.
    pub observed: Option<Observed>,
}

/// What happens to a request, in order: perhaps a place in the queue, progress, scores, tokens, one end.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Memory is short: it waits behind so many requests. It can come back into the queue while it runs.
    Queued {
        /// Requests that run or wait before it.
        ahead: usize,
    },
    /// So many of the prompt's tokens are read; the first event says how many need not be.
    Prefill {
        /// Tokens read or reused.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// Log-probability of the prompt token at `position`, given those before it.
    Scored {
        /// Place in the prompt.
        position: usize,
        /// Natural logarithm.
        logprob: f64,
    },
    /// The logits after the prompt ([`Observe::Logits`]).
    Observed(Observed),
    /// A token was drawn.
    Token(Token),
    /// The end.
    Finished(Finish, Usage),
    /// The end, by a failure.
    Failed(String),
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop token was drawn.
    Stop,
    /// `max_tokens` are there.
    Length,
    /// The context is full.
    Context,
    /// The receiver went away or cancelled.
    Cancelled,
}

/// What a request took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Of these, tokens that were computed before.
    pub reused: usize,
    /// The tier below RAM that a part of those came from.
    pub source: Option<Arc<str>>,
    /// Tokens generated.
    pub generated: usize,
    /// Time in the queue.
    pub queued: Duration,
    /// Time to read the prompt.
    pub prefill: Duration,
    /// Time to generate.
    pub decode: Duration,
}

impl Usage {
    /// Prompt tokens per second, of those that were computed.
    pub fn prefill_rate(&self) -> f64 {
        rate(self.prompt - self.reused, self.prefill)
    }

    /// Generated tokens per second.
    pub fn decode_rate(&self) -> f64 {
        rate(self.generated, self.decode)
    }
}

fn rate(tokens: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
}
