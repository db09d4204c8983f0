//! A request under way: what it wants next, and what comes of a step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use ds4_model::Outputs;

use crate::prefixes::Why;
use crate::scores::{log_sum, score, top};
use crate::steering::{PRIVATE, Steered, is_steered, name};
use crate::{Event, Finish, Observe, Observed, Priority, Request, Rule, Sampler, Token, Usage, When};

/// A request and its way out.
pub(crate) struct Job {
    /// Grows from job to job.
    arrival: u64,
    /// Its tokens grow with the answer.
    request: Request,
    /// What the cache calls these tokens; steered ones have other names.
    names: Vec<u32>,
    /// The number of the way it is steered.
    way: u32,
    /// Tokens of the prompt.
    prompt: usize,
    /// Most tokens of prompt and answer.
    context: usize,
    /// Tokens in the cache.
    len: usize,
    sampler: Sampler,
    events: Sender<Event>,
    cancel: Arc<AtomicBool>,
    usage: Usage,
    submitted: Instant,
    /// When it left the queue for the first time.
    started: Option<Instant>,
    /// When the prompt was read.
    read: Option<Instant>,
    /// Scores are told up to here.
    scored: usize,
    /// The place in the queue that its owner knows of.
    told: Option<usize>,
    /// Tokens of it that were there when it last started.
    kept: usize,
    /// The tier that a part of them came from.
    source: Option<Arc<str>>,
    /// Places on the way at which others want a resume point.
    cuts: Vec<usize>,
    /// Steps in a row in which other prompts were read and this one was not.
    pub(crate) passed: u32,
}

impl Job {
    pub(crate) fn new(
        arrival: u64,
        mut request: Request,
        way: u32,
        context: usize,
        events: Sender<Event>,
        cancel: Arc<AtomicBool>,
    ) -> Self {
        let prompt = request.tokens.len();
        let always = request.steering.as_ref().is_some_and(|steering| steering.when == When::Always);
        let way_of_prompt = if always { way } else { 0 };
        Self {
            names: request.tokens.iter().map(|token| name(*token, way_of_prompt)).collect(),
            way,
            arrival,
            prompt,
            context,
            len: 0,
            sampler: Sampler::new(request.sampling, std::mem::take(&mut request.bias), &request.tokens),
            usage: Usage { prompt, ..Usage::default() },
            request,
            events,
            cancel,
            submitted: Instant::now(),
            started: None,
            read: None,
            scored: 0,
            told: None,
            kept: 0,
            source: None,
            cuts: Vec::new(),
            passed: 0,
        }
    }

    /// Who goes first: ascending.
    pub(crate) fn rank(&self) -> impl Ord + use<> {
        (std::cmp::Reverse(self.request.priority), self.arrival)
    }

    pub(crate) fn priority(&self) -> Priority {
        self.request.priority
    }

    /// Prompt and answer so far, as the cache calls them.
    pub(crate) fn names(&self) -> &[u32] {
        &self.names
    }

    /// The next `count` tokens.
    pub(crate) fn next(&self, count: usize) -> &[u32] {
        &self.request.tokens[self.len..self.len + count]
    }

    /// Whether what it computes is not shared.
    pub(crate) fn is_private(&self) -> bool {
        self.way == PRIVATE
    }

    /// Which of the next `count` tokens are steered, and how; the first of them is row `first` of a step.
    pub(crate) fn steered(&self, count: usize, first: usize) -> impl Iterator<Item = Steered> {
        let names = &self.names[self.len..self.len + count];
        let mut at = first;
        let runs = names.chunk_by(|a, b| is_steered(*a) == is_steered(*b)).filter_map(move |run| {
            let rows = at..at + run.len();
            at = rows.end;
            is_steered(run[0]).then_some(rows)
        });
        runs.filter_map(|rows| Some((rows, self.request.steering.clone()?)))
    }

    /// Position of the next token.
    pub(crate) fn position(&self) -> u32 {
        self.len as u32
    }

    /// Tokens from here on must be computed, because someone asks for the logits after them.
    pub(crate) fn needed(&self) -> usize {
        let last = self.request.tokens.len() - 1;
        self.request.score_from.map_or(last, |from| from.saturating_sub(1).min(last))
    }

    /// Tokens that it may come to hold.
    pub(crate) fn most(&self) -> usize {
        self.prompt.saturating_add(self.request.max_tokens).min(self.context)
    }

    /// Tokens that are left to compute.
    pub(crate) fn left(&self) -> usize {
        self.request.tokens.len() - self.len
    }

    /// Tokens of the prompt.
    pub(crate) fn prompt(&self) -> usize {
        self.prompt
    }

    /// The tokens that are in the cache, as it calls them.
    pub(crate) fn computed(&self) -> &[u32] {
        &self.names[..self.len]
    }

    /// Tokens that a step can take: up to the next resume point, one every `every` tokens, one before the prompt's last
    /// token, and those that others want. Scores need the logits of every token.
    pub(crate) fn wants(&self, every: usize) -> usize {
        if self.request.score_from.is_some() {
            return 1;
        }
        let regular = (self.len / every + 1) * every;
        let cuts = self.cuts.iter().copied().chain([regular, self.prompt - 1]);
        cuts.filter(|cut| *cut > self.len).fold(self.left(), |most, cut| most.min(cut - self.len))
    }

    /// Whether there should be a resume point here, and why.
    pub(crate) fn resume_point(&self, every: usize) -> Option<Why> {
        match self.len + 1 == self.prompt {
            true if self.len - self.kept >= every => Some(Why::EndOfLongPrompt),
            true => Some(Why::End),
            false => (self.len.is_multiple_of(every) || self.cuts.contains(&self.len)).then_some(Why::OnTheWay),
        }
    }

    /// A part of it came from this tier.
    pub(crate) fn came_from(&mut self, tier: Option<String>) {
        self.source = tier.map(Into::into);
    }

    /// A flag that is set when nobody wants it any more.
    pub(crate) fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }

    /// Since when it is here.
    pub(crate) fn age(&self) -> Duration {
        self.submitted.elapsed()
    }

    /// Grows from job to job.
    pub(crate) fn arrival(&self) -> u64 {
        self.arrival
    }

    /// What it took so far.
    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Somebody wants a resume point after so many tokens.
    pub(crate) fn cut_at(&mut self, len: usize) {
        if !self.cuts.contains(&len) {
            self.cuts.push(len);
        }
    }

    /// Whether it takes one token a step, as one does that writes an answer.
    pub(crate) fn writes(&self, every: usize) -> bool {
        self.wants(every) == 1
    }

    /// Which logits a step of `count` tokens needs.
    pub(crate) fn outputs(&self, count: usize) -> Outputs {
        let wanted = self.request.score_from.is_some() || count == self.left();
        if wanted { Outputs::Last } else { Outputs::None }
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.cancel.load(Relaxed)
    }

    fn send(&self, event: Event) {
        // A receiver that is gone has cancelled.
        let _ = self.events.send(event);
    }

    /// Requests before it in the queue.
    pub(crate) fn waits(&mut self, ahead: usize) {
        if self.told.replace(ahead) != Some(ahead) {
            self.send(Event::Queued { ahead });
        }
    }

    /// It leaves the queue, and `kept` of its tokens need not be computed; true if that is the first time.
    pub(crate) fn starts(&mut self, kept: usize) -> bool {
        (self.len, self.kept, self.told, self.passed) = (kept, kept, None, 0);
        let first = self.started.is_none();
        if first {
            self.started = Some(Instant::now());
            self.usage.queued = self.submitted.elapsed();
            self.usage.reused = kept;
            self.usage.source = self.source.clone();
            self.send(Event::Prefill { done: kept, total: self.prompt });
        }
        first
    }

    /// It is back in the queue, and must compute everything again.
    pub(crate) fn stops(&mut self) {
        self.len = 0;
    }

    /// `count` more tokens are in the cache. True when that was the end.
    pub(crate) fn advance(&mut self, count: usize, logits: Option<&[f32]>) -> bool {
        self.len += count;
        // Also when it is read again, so that nobody thinks it still waits.
        if self.read.is_none() || self.len <= self.prompt {
            self.send(Event::Prefill { done: self.len.min(self.prompt), total: self.prompt });
        }
        let Some(logits) = logits else { return false };
        if let Some(&next) = self.request.tokens.get(self.len) {
            if self.len < self.prompt
                && self.request.score_from.is_some_and(|from| self.len >= from)
                && self.len > self.scored
            {
                self.scored = self.len;
                let logprob = score(logits, next, log_sum(logits)).logprob;
                self.send(Event::Scored { position: self.len, logprob });
            }
            return false;
        }
        if self.read.is_none() {
            self.usage.prefill = self.started.map_or_else(Default::default, |started| started.elapsed());
            self.read = Some(Instant::now());
            if self.request.observe == Observe::Logits {
                self.send(Event::Observed(Observed::Logits(logits.to_vec())));
            }
        }
        self.draw(logits)
    }

    /// Draws the next token; true at the end of the answer.
    fn draw(&mut self, logits: &[f32]) -> bool {
        if self.is_full() {
            return true;
        }
        let rule = self.request.guide.as_mut().map_or(Rule::default(), |guide| guide.rule());
        let Some(id) = self.sampler.draw(logits, rule) else {
            self.send(Event::Failed(format!("the model produced no finite logit after token {}", self.len)));
            return true;
        };
        if let Some(guide) = &mut self.request.guide {
            guide.drawn(id);
        }
        if self.request.stop.contains(&id) {
            self.finish(Finish::Stop);
            return true;
        }
        let observed = match self.request.observe {
            Observe::Top(n) => Some(top(logits, id, n)),
            _ => None,
        };
        self.send(Event::Token(Token { id, observed }));
        self.usage.generated += 1;
        let steers = match self.request.steering.as_ref().map(|steering| steering.when) {
            None => false,
            Some(When::Always | When::Decoding) => true,
            Some(When::Guided) => self.request.guide.as_ref().is_some_and(|guide| guide.steers()),
        };
        self.names.push(name(id, if steers { self.way } else { 0 }));
        self.request.tokens.push(id);
        self.is_full()
    }

    /// Ends the answer when it is as long as it may be.
    fn is_full(&mut self) -> bool {
        let (generated, most) = (self.usage.generated, self.request.max_tokens);
        let full = generated == most.min(self.context - self.prompt);
        if full {
            self.finish(if generated == most { Finish::Length } else { Finish::Context });
        }
        full
    }

    /// Tells the end.
    pub(crate) fn finish(&mut self, finish: Finish) {
        match (self.started, self.read) {
            (_, Some(read)) => self.usage.decode = read.elapsed(),
            (Some(started), None) => self.usage.prefill = started.elapsed(),
            (None, None) => self.usage.queued = self.submitted.elapsed(),
        }
        self.send(Event::Finished(finish, self.usage.clone()));
    }
}
