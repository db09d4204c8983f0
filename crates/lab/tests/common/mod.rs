//! Runs small models step by step.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::Path;
use std::sync::atomic::AtomicBool;

use ds4_cpu::{Cache, Cpu, Limits};
use ds4_gguf::{File, Format};
use ds4_lab::convert::{Options, Recipe, convert};
use ds4_model::{
    Batch, CacheLayout, CachePlan, NoTap, Numerics, Ops, Outputs, PAGE_TOKENS, Scratch, Shape, Tap, Weights, forward,
};

/// Converts a checkpoint folder to a file in memory-backed storage that is deleted at once, and binds it.
pub(crate) fn load(checkpoint: &Path, recipe: Recipe) -> Weights {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("model.gguf");
    let options = Options { recipe, ..options(checkpoint) };
    convert(&options, &out, &AtomicBool::new(false), &mut |_| {}).expect("the checkpoint converts");
    Weights::load(&File::open(&out).expect("the result opens")).expect("the result loads")
}

/// Plain conversion of a checkpoint folder.
pub(crate) fn options(checkpoint: &Path) -> Options<'_> {
    let recipe = exact_recipe();
    Options { checkpoint, vocabulary: None, name: "test", recipe, mtp: false, overwrite: false, threads: 3 }
}

/// Every weight as it is in the checkpoint.
pub(crate) fn exact_recipe() -> Recipe {
    Recipe::uniform(Format::F32)
}

/// A model with one sequence.
pub(crate) struct Runner<'w> {
    pub(crate) weights: &'w Weights,
    pub(crate) cpu: Cpu,
    pub(crate) scratch: Scratch<Cpu>,
    pub(crate) cache: Cache,
    pub(crate) pages: Vec<u32>,
    pub(crate) tokens: usize,
}

/// Most tokens that a test puts into one step.
const STEP: usize = 512;

impl<'w> Runner<'w> {
    pub(crate) fn new(weights: &'w Weights, numerics: Numerics, threads: usize, context: usize) -> Self {
        let shape = &weights.shape;
        let pages = context.div_ceil(PAGE_TOKENS);
        let mut cpu = Cpu::new(shape, numerics, Limits { threads, tokens: STEP, context });
        let plan = CachePlan { slots: 1, pages, step: STEP };
        let cache = cpu.cache(&CacheLayout::new(shape, numerics.rows, plan));
        let scratch = Scratch::new(&mut cpu, shape, STEP, STEP);
        // Physical pages in another order than the sequence's, so that nothing can do without the page table.
        let pages = (0..pages as u32).rev().collect();
        Self { weights, cpu, scratch, cache, pages, tokens: 0 }
    }

    /// Appends tokens and returns the logits after each, `[tokens][vocab]`.
    pub(crate) fn feed(&mut self, tokens: &[u32]) -> Vec<f32> {
        self.feed_tapped(tokens, &mut NoTap)
    }

    pub(crate) fn feed_tapped(&mut self, tokens: &[u32], tap: &mut impl Tap<Cpu>) -> Vec<f32> {
        let batch = self.batch(tokens);
        self.cpu.begin(&batch);
        forward(&mut self.cpu, self.weights, &mut self.scratch, &mut self.cache, tap);
        self.tokens += tokens.len();
        let mut logits = Vec::new();
        (0..tokens.len()).for_each(|i| self.cpu.read_logits(&self.scratch.logits, i, &mut logits));
        logits
    }

    /// [`Runner::feed`] in pieces of the given lengths, cycled.
    pub(crate) fn feed_chunks(&mut self, tokens: &[u32], chunks: &[usize]) -> Vec<f32> {
        let (mut rest, mut logits) = (tokens, Vec::new());
        for &chunk in chunks.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(chunk.clamp(1, STEP).min(rest.len()));
            logits.extend(self.feed(now));
            rest = later;
        }
        logits
    }

    pub(crate) fn batch(&self, tokens: &[u32]) -> Batch {
        let mut batch = Batch::new();
        batch.push(0, self.tokens as u32, tokens, &self.pages, Outputs::All);
        batch
    }

    /// Takes the last `n` tokens back.
    pub(crate) fn rollback(&mut self, n: usize) {
        self.tokens -= n;
    }
}

pub(crate) fn shape_of(folder: &Path) -> Shape {
    ds4_lab::convert::shape_from_config(&folder.join("config.json"), "oracle").expect("config.json is read")
}
