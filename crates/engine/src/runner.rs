//! The backend with its memory: runs a step.

use std::sync::Arc;

use ds4_cpu::{Cache, Cpu, Saved};
use ds4_model::{Batch, CacheLayout, NoTap, Ops, Scratch, forward};

use crate::experts::{Counter, Counts};
use crate::{Model, Options};

/// The backend with its memory.
pub(crate) struct Runner {
    model: Arc<Model>,
    cpu: Cpu,
    scratch: Scratch<Cpu>,
    cache: Cache,
    /// Windows and states at each slot's resume point.
    saved: Vec<Option<Saved>>,
    logits: Vec<f32>,
    experts: Option<Counter>,
}

impl Runner {
    /// Allocates everything; `counts` are kept if the options ask for it.
    pub(crate) fn new(model: Arc<Model>, options: &Options, counts: Arc<Counts>) -> Self {
        let (shape, limits) = (&model.weights.shape, options.limits());
        let mut cpu = Cpu::new(shape, options.numerics, limits);
        let cache = cpu.cache(&CacheLayout::new(shape, options.numerics.rows, options.cache_plan()));
        let scratch = Scratch::new(&mut cpu, shape, limits.tokens, options.sessions);
        let mut saved = Vec::new();
        saved.resize_with(options.sessions, || None);
        saved.iter_mut().enumerate().for_each(|(slot, saved)| cpu.save(&cache, slot, saved));
        let logits = Vec::with_capacity(shape.vocab);
        let experts = options.count_experts.then(|| Counter::new(counts));
        Self { cpu, scratch, cache, saved, logits, experts, model }
    }

    /// Computes a step.
    pub(crate) fn run(&mut self, batch: &Batch) {
        let Self { cpu, scratch, cache, model, .. } = self;
        cpu.begin(batch);
        match &mut self.experts {
            Some(counter) => forward(cpu, &model.weights, scratch, cache, counter),
            None => forward(cpu, &model.weights, scratch, cache, &mut NoTap),
        }
    }

    /// The logits of the last step's output `index`.
    pub(crate) fn logits(&mut self, index: usize) -> &[f32] {
        self.logits.clear();
        self.cpu.read_logits(&self.scratch.logits, index, &mut self.logits);
        &self.logits
    }

    /// Makes this the slot's resume point.
    pub(crate) fn save(&mut self, slot: usize) {
        self.cpu.save(&self.cache, slot, &mut self.saved[slot]);
    }

    /// Goes back to the slot's resume point.
    pub(crate) fn restore(&mut self, slot: usize) {
        let saved = self.saved[slot].as_ref().expect("saved when the runner was made");
        self.cpu.restore(&mut self.cache, slot, saved);
    }
}
