//! How an engine runs.

use std::time::Duration;

use ds4_cpu::Limits;
use ds4_model::{CacheLayout, CachePlan, Numerics, PAGE_TOKENS};

/// Ends of prompts and answers that are kept for each session.
const ENDS: usize = 4;

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
    /// Requests that run at once.
    pub sessions: usize,
    /// Tokens that all sequences hold together, in pages that they share; at least a context. None: as many as all their
    /// contexts.
    pub pool: Option<usize>,
    /// Time that a step may spend on prompts while answers are written.
    pub prefill_quantum: Duration,
    /// Tokens between resume points: at most so many are computed again after an edit. Whole pages.
    pub resume_every: usize,
    /// Tokens from which on the end of a prompt or an answer is saved to the tiers below RAM.
    pub save_from: usize,
    /// Run although the weights do not fit into memory, reading them from the disk again and again.
    pub oversubscribe: bool,
    /// Count the experts that steps use ([`crate::Engine::experts_used`]).
    pub count_experts: bool,
}

impl Default for Options {
    /// One sequence of 32,768 tokens on all processors.
    fn default() -> Self {
        Self {
            numerics: Numerics::DEFAULT,
            context: 32768,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            step: 256,
            sessions: 1,
            pool: None,
            prefill_quantum: Duration::from_millis(250),
            resume_every: 2048,
            save_from: 512,
            oversubscribe: false,
            count_experts: false,
        }
    }
}

impl Options {
    /// Most tokens of one sequence in one step.
    pub fn chunk(&self) -> usize {
        self.step.min(self.context).max(1)
    }

    /// What the backend is made for: prompts' tokens, and one of every other sequence.
    pub fn limits(&self) -> Limits {
        Limits { threads: self.threads, tokens: self.chunk() + self.sessions - 1, context: self.context }
    }

    /// Tokens that all sequences hold together: whole pages.
    pub fn pool_tokens(&self) -> usize {
        self.cache_plan().pages * PAGE_TOKENS
    }

    /// Most bytes of resume points: one for each stretch of the pool, and some ends of prompts and answers for each
    /// session.
    pub(crate) fn point_budget(&self, layout: &CacheLayout) -> usize {
        let points = self.pool_tokens().div_ceil(self.resume_every) + ENDS * self.sessions;
        points * layout.point_bytes(self.pool_tokens().max(PAGE_TOKENS) - 1)
    }

    /// The cache of all sequences.
    pub(crate) fn cache_plan(&self) -> CachePlan {
        let context = self.context.div_ceil(PAGE_TOKENS);
        let all = self.sessions.saturating_mul(context);
        let pages = self.pool.map_or(all, |tokens| tokens.div_ceil(PAGE_TOKENS).clamp(context, all));
        CachePlan { slots: self.sessions, pages, step: self.chunk() }
    }
}
