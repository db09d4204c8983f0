//! Where the time goes, by operation.

use std::fmt;
use std::time::{Duration, Instant};

use ds4_cpu::{Cache, Cpu};
use ds4_engine::{Model, Options};
use ds4_model::{
    Batch, CacheLayout, CachePlan, NoTap, OperationTime, Ops, Outputs, PAGE_TOKENS, Scratch, Timed, Weights, forward,
};

/// Where the time of a decoded token and of a step of prompt tokens went. Measured in a run of its own, so that other
/// runs pay nothing for it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Tokens of context.
    pub context: usize,
    /// Prompt tokens of the step.
    pub step: usize,
    /// The step.
    pub prefill: Part,
    /// Tokens decoded.
    pub generated: usize,
    /// All of them together.
    pub decode: Part,
}

/// Steps of one kind.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// By operation, in the order in which they come.
    pub operations: Vec<OperationTime>,
    /// From the first operation's beginning to the last one's end.
    pub wall: Duration,
}

impl Profile {
    /// Reads `tokens`, the last full step of them and then `generate` more with a watch on every operation. Holds as much
    /// memory as an engine with these options, which must not live at the same time where memory is short. The options'
    /// context has room for both.
    pub fn measure(model: &Model, options: &Options, tokens: &[u32], generate: usize) -> Self {
        let mut runner = Runner::new(&model.weights, options);
        let (last, prompt) = tokens.split_last().expect("a prompt has tokens");
        let most = options.chunk();
        let step = most.min(prompt.len());
        let (before, watched) = prompt.split_at(prompt.len() - step);
        before.chunks(most).for_each(|part| runner.step(part, Outputs::None));
        let prefill = runner.watch(|r| {
            if !watched.is_empty() {
                r.step(watched, Outputs::None);
            }
        });
        runner.step(&[*last], Outputs::Last);
        let decode = runner.watch(|r| (0..generate).for_each(|_| r.step(&[r.best()], Outputs::Last)));
        Self { context: tokens.len(), step, prefill, generated: generate, decode }
    }
}

/// A watched backend with one sequence, as the engine has it.
struct Runner<'m> {
    weights: &'m Weights,
    ops: Timed<Cpu>,
    scratch: Scratch<Timed<Cpu>>,
    cache: Cache,
    pages: Vec<u32>,
    len: usize,
    logits: Vec<f32>,
}

impl<'m> Runner<'m> {
    fn new(weights: &'m Weights, options: &Options) -> Self {
        let (shape, limits) = (&weights.shape, options.limits());
        let mut ops = Timed::new(Cpu::new(shape, options.numerics, limits));
        let plan = CachePlan { slots: 1, pages: limits.context.div_ceil(PAGE_TOKENS), step: limits.tokens };
        let cache = ops.cache(&CacheLayout::new(shape, options.numerics.rows, plan));
        let scratch = Scratch::new(&mut ops, shape, limits.tokens, 1);
        let pages = (0..plan.pages as u32).collect();
        Self { weights, ops, scratch, cache, pages, len: 0, logits: Vec::new() }
    }

    fn step(&mut self, tokens: &[u32], outputs: Outputs) {
        let mut batch = Batch::new();
        batch.push(0, self.len as u32, tokens, &self.pages, outputs);
        self.ops.begin(&batch);
        forward(&mut self.ops, self.weights, &mut self.scratch, &mut self.cache, &mut NoTap);
        if outputs != Outputs::None {
            self.logits.clear();
            self.ops.read_logits(&self.scratch.logits, 0, &mut self.logits);
        }
        self.len += tokens.len();
    }

    /// The most probable next token.
    fn best(&self) -> u32 {
        (0..self.logits.len()).max_by(|a, b| self.logits[*a].total_cmp(&self.logits[*b])).unwrap_or(0) as u32
    }

    fn watch(&mut self, steps: impl FnOnce(&mut Self)) -> Part {
        self.ops.take();
        let start = Instant::now();
        steps(self);
        Part { wall: start.elapsed(), operations: self.ops.take() }
    }
}

impl Part {
    fn find(&self, like: &OperationTime) -> Option<&OperationTime> {
        self.operations.iter().find(|o| o.operation == like.operation && o.detail == like.detail)
    }

    /// Milliseconds a step and share of the whole, for steps of which there were `steps`.
    fn cells(&self, time: Option<Duration>, steps: usize) -> String {
        let Some(time) = time else { return " ".repeat(20) };
        let milliseconds = 1e3 * time.as_secs_f64() / steps.max(1) as f64;
        let share = 100.0 * time.as_secs_f64() / self.wall.as_secs_f64().max(1e-9);
        format!("{milliseconds:>11.3} {share:>6.1} %")
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { context, step, prefill, generated, decode } = self;
        writeln!(f, "milliseconds, and shares of the time, after {context} tokens of context")?;
        writeln!(f, "{:<36}{:>20}{:>20}", "", "a decoded token", format!("{step} prompt tokens"))?;
        let mut line = |name: &str, decoded, read| {
            let cells = [decode.cells(decoded, *generated), prefill.cells(read, 1)];
            writeln!(f, "{}", format!("{name:<36}{}{}", cells[0], cells[1]).trim_end())
        };
        let only_prefill = prefill.operations.iter().filter(|o| decode.find(o).is_none());
        for like in decode.operations.iter().chain(only_prefill) {
            let name = format!("{} {}", like.operation, like.detail);
            line(&name, decode.find(like).map(|o| o.time), prefill.find(like).map(|o| o.time))?;
        }
        let rest = |part: &Part| part.wall.saturating_sub(part.operations.iter().map(|o| o.time).sum());
        line("between operations", Some(rest(decode)), Some(rest(prefill)))?;
        line("all", Some(decode.wall), Some(prefill.wall))
    }
}
