//! How much memory a model will take, before anything is allocated.

use std::fmt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use ds4_cpu::Cpu;
use ds4_model::{CacheLayout, PAGE_TOKENS, Scratch};

use crate::{Error, Model, Options};

/// Bytes that the process will hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Weights, mapped from the file: the system may drop and reread them.
    pub weights: u64,
    /// The pages that sequences share, each one's window and states, and resume points.
    pub cache: u64,
    /// Sequences that live at once.
    pub sessions: usize,
    /// Working buffers of a step.
    pub scratch: u64,
    /// The tokenizer.
    pub tokenizer: u64,
    /// The program itself: stacks, norms and biases, texts and token ids, small change.
    pub program: u64,
}

/// What the program holds besides what is counted: relocated data, the main stack, settings, pieces of heap between
/// others. With the built-in model and two threads 0.8 to 1.2 MiB were measured; the rest is room.
const PROGRAM: usize = 2 << 20;
/// What a thread touches of its stack and heap.
const THREAD: usize = 64 << 10;
/// A token's text, and its id in the lists of conversation, request and sequence: 31 to 38 bytes measured over 3,000 tokens.
const TOKEN: usize = 40;

impl Plan {
    /// The plan for an engine with these options.
    pub fn new(model: &Model, options: &Options) -> Self {
        let (shape, limits, numerics) = (&model.weights.shape, options.limits(), options.numerics);
        let layout = layout(model, options);
        let scratch = Scratch::<Cpu>::bytes(shape, limits.tokens, options.sessions);
        let scratch = scratch + Cpu::bytes(shape, numerics, limits);
        // The logits of a step, and what each answer is drawn from.
        let drawing = (4 + 12 * options.sessions) * shape.vocab;
        let program = PROGRAM + THREAD * options.threads + TOKEN * options.pool_tokens();
        Self {
            weights: model.file_bytes,
            sessions: options.sessions,
            cache: (layout.bytes() + options.point_budget(&layout)) as u64,
            scratch: scratch as u64,
            tokenizer: model.tokenizer.memory(),
            program: (program + model.weights.vector_bytes() + drawing) as u64,
        }
    }

    /// Everything that is not mapped from the file.
    pub fn anonymous(&self) -> u64 {
        self.cache + self.scratch + self.tokenizer + self.program
    }

    /// Refuses what does not fit. With `oversubscribe` the weights may be larger than memory and are read from the disk
    /// again and again.
    pub fn check(&self, machine: &Machine, oversubscribe: bool) -> Result<(), Error> {
        let needed = self.anonymous() + if oversubscribe { 0 } else { self.weights };
        if needed <= machine.available {
            return Ok(());
        }
        let lower = if self.sessions > 1 { "lower --ctx or --sessions" } else { "lower --ctx" };
        let more = match oversubscribe || self.anonymous() > machine.available {
            true => "",
            false => ", free memory, or pass --allow-oversubscribe to read weights from the disk as needed",
        };
        Err(Error::Memory(format!(
            "the model needs {} of memory, {} are available of {} ({self}); {lower}{more}",
            gib(needed),
            gib(machine.available),
            gib(machine.total)
        )))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { weights, cache, scratch, tokenizer, program, .. } = *self;
        let anonymous = self.anonymous();
        let [weights, anonymous, cache, scratch, rest] =
            [weights, anonymous, cache, scratch, tokenizer + program].map(gib);
        write!(f, "weights {weights} mapped + {anonymous} anonymous: context {cache}, scratch {scratch}, other {rest}")
    }
}

fn layout(model: &Model, options: &Options) -> CacheLayout {
    CacheLayout::new(&model.weights.shape, options.numerics.rows, options.cache_plan())
}

/// Sequences at once, unless someone says how many.
const SESSIONS: usize = 8;

impl Options {
    /// These options with as many sessions as `wanted`, or up to 8, and a pool that suits `machine`: all their contexts,
    /// or what half of the memory that one sequence leaves free holds (nothing more where that is not known). One context always
    /// has room.
    pub fn fit(self, model: &Model, machine: Option<&Machine>, wanted: Option<usize>) -> Self {
        let with = |sessions, pool| Self { sessions, pool: Some(pool), ..self };
        let one = Plan::new(model, &with(1, self.context));
        let weights = if self.oversubscribe { 0 } else { one.weights };
        let half = machine.map_or(0, |m| m.available.saturating_sub(one.anonymous() + weights) / 2);
        // What sessions take beyond pages, if they may take at most a part of that half.
        let extra = |sessions| Plan::new(model, &with(sessions, self.context)).anonymous() - one.anonymous();
        let most = (1..=SESSIONS).rev().find(|n| extra(*n) <= half / 2).unwrap_or(1);
        let sessions = wanted.unwrap_or(most);
        let rest = half.saturating_sub(extra(sessions));
        let more_pages = rest / layout(model, &with(1, self.context)).page_bytes().max(1) as u64;
        let more = usize::try_from(more_pages).unwrap_or(usize::MAX).saturating_mul(PAGE_TOKENS);
        let all = sessions.saturating_mul(self.context.next_multiple_of(PAGE_TOKENS));
        with(sessions, self.context.saturating_add(more).min(all))
    }
}

/// The memory of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Bytes in all, within the limits set for this process.
    pub total: u64,
    /// Bytes that can be had without swapping; cached files count.
    pub available: u64,
}

impl Machine {
    /// Asks the system; none where it cannot be asked.
    pub fn measure() -> Option<Self> {
        let mut system = sysinfo::System::new().ok()?;
        system.refresh_memory();
        let (mut total, mut available) = (system.total_memory(), system.available_memory());
        if let Some(limits) = system.cgroup_limits() {
            // Not its free memory: that counts cached files as taken.
            total = total.min(limits.total_memory);
            available = available.min(limits.total_memory.saturating_sub(limits.rss));
        }
        (total > 0).then_some(Self { total, available })
    }

    /// Bytes of memory that this process takes, mapped weights included; none where the system does not say.
    pub fn resident() -> Option<u64> {
        use sysinfo::{ProcessRefreshKind, ProcessesToUpdate};
        let own = sysinfo::get_current_pid().ok()?;
        let mut system = sysinfo::System::new().ok()?;
        let memory = ProcessRefreshKind::nothing().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), false, memory);
        Some(system.process(own)?.memory()).filter(|bytes| *bytes > 0)
    }
}

/// Bytes per second at which parts of a file come from the disk (or from memory, if the system has them cached).
pub fn disk_rate(path: &Path) -> Result<f64, std::io::Error> {
    const PART: usize = 4 << 20;
    const PARTS: u64 = 32;
    let file = std::fs::File::open(path)?;
    let size = file.metadata()?.len();
    let mut buffer = vec![0; PART];
    let start = Instant::now();
    let mut read = 0;
    for part in 0..PARTS {
        read += file.read_at(&mut buffer, size / PARTS * part)?;
    }
    Ok(read as f64 / start.elapsed().as_secs_f64().max(1e-9))
}

/// Bytes for people.
fn gib(bytes: u64) -> String {
    let mib = bytes as f64 / (1 << 20) as f64;
    if mib < 1000.0 { format!("{mib:.1} MiB") } else { format!("{:.2} GiB", mib / 1024.0) }
}
