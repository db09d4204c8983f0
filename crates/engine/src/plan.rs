//! How much memory a model will take, before anything is allocated.

use std::fmt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use ds4_cpu::{Cpu, Limits};
use ds4_model::{CacheLayout, CachePlan, Numerics, PAGE_TOKENS, Scratch};

use crate::{Error, Model};

/// Bytes that the process will hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Weights, mapped from the file: the system may drop and reread them.
    pub weights: u64,
    /// Rows and states of one sequence that fills the context, and a resume point.
    pub cache: u64,
    /// Working buffers of a step.
    pub scratch: u64,
    /// The tokenizer.
    pub tokenizer: u64,
    /// The program itself: stacks, norms and biases, small change.
    pub program: u64,
}

/// What the program holds besides what is counted, found by measuring.
const PROGRAM: u64 = 1 << 20;

impl Plan {
    /// The plan for one sequence of `context` tokens.
    pub fn new(model: &Model, numerics: Numerics, limits: Limits) -> Self {
        let shape = &model.weights.shape;
        let layout = CacheLayout::new(shape, numerics.rows, cache_plan(limits));
        let scratch = Scratch::<Cpu>::bytes(shape, limits.tokens, 1) + Cpu::bytes(shape, numerics, limits);
        Self {
            weights: model.file_bytes,
            cache: (layout.bytes() + layout.slot_bytes()) as u64,
            scratch: scratch as u64,
            tokenizer: model.tokenizer.memory(),
            program: PROGRAM + model.weights.vector_bytes() as u64,
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
        let way_out = match oversubscribe || self.anonymous() > machine.available {
            true => "lower --ctx",
            false => "lower --ctx, free memory, or pass --allow-oversubscribe to read weights from the disk as needed",
        };
        Err(Error::Memory(format!(
            "the model needs {} of memory, {} are available of {} ({self}); {way_out}",
            gib(needed),
            gib(machine.available),
            gib(machine.total)
        )))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { weights, cache, scratch, tokenizer, program } = *self;
        let anonymous = self.anonymous();
        let [weights, anonymous, cache, scratch, rest] =
            [weights, anonymous, cache, scratch, tokenizer + program].map(gib);
        write!(f, "weights {weights} mapped + {anonymous} anonymous: context {cache}, scratch {scratch}, other {rest}")
    }
}

/// The cache for one sequence.
pub(crate) fn cache_plan(limits: Limits) -> CachePlan {
    CachePlan { slots: 1, pages: limits.context.div_ceil(PAGE_TOKENS), step: limits.tokens }
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
