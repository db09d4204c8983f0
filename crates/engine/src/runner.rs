//! The backend with its memory: runs a step.

use std::sync::Arc;

use ds4_cpu::{Cache, Cpu};
use ds4_model::{Batch, CacheLayout, NoTap, Ops, Scratch, forward};

use crate::experts::{Counter, Counts};
use crate::seat::Seat;
use crate::steering::{Steer, Steered};
use crate::{Model, Options};

/// The backend with its memory.
pub(crate) struct Runner {
    model: Arc<Model>,
    cpu: Cpu,
    scratch: Scratch<Cpu>,
    cache: Cache,
    logits: Vec<f32>,
    experts: Option<Counter>,
}

impl Runner {
    /// Allocates everything; `counts` are kept if the options ask for it.
    pub(crate) fn new(model: Arc<Model>, options: &Options, layout: &CacheLayout, counts: Arc<Counts>) -> Self {
        let (shape, limits) = (&model.weights.shape, options.limits());
        let mut cpu = Cpu::new(shape, options.numerics, limits);
        let cache = cpu.cache(layout);
        let scratch = Scratch::new(&mut cpu, shape, limits.tokens, options.sessions);
        let logits = Vec::with_capacity(shape.vocab);
        let experts = options.count_experts.then(|| Counter::new(counts));
        Self { cpu, scratch, cache, logits, experts, model }
    }

    /// Computes a step, of which some rows are steered.
    pub(crate) fn run(&mut self, batch: &Batch, steered: &[Steered]) {
        let Self { cpu, scratch, cache, model, .. } = self;
        cpu.begin(batch);
        match &mut self.experts {
            Some(counter) if steered.is_empty() => forward(cpu, &model.weights, scratch, cache, counter),
            None if steered.is_empty() => forward(cpu, &model.weights, scratch, cache, &mut NoTap),
            _ => forward(cpu, &model.weights, scratch, cache, &mut Steer(steered)),
        }
    }

    /// The logits of the last step's output `index`.
    pub(crate) fn logits(&mut self, index: usize) -> &[f32] {
        self.logits.clear();
        self.cpu.read_logits(&self.scratch.logits, index, &mut self.logits);
        &self.logits
    }

    /// What a sequence of `len` tokens needs to go on, here or elsewhere.
    pub(crate) fn export_point(&mut self, seat: &Seat, len: usize) -> Arc<[u8]> {
        let mut bytes = Vec::new();
        self.cpu.export_point(&self.cache, seat.slot, len, &seat.table, &mut bytes);
        bytes.into()
    }

    /// The rows of a page.
    pub(crate) fn export_page(&mut self, page: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.cpu.export_page(&self.cache, page, &mut bytes);
        bytes
    }

    /// Fills a page.
    pub(crate) fn import_page(&mut self, page: u32, bytes: &[u8]) {
        self.cpu.import_page(&mut self.cache, page, bytes);
    }

    /// Lets a sequence go on after `len` tokens.
    pub(crate) fn import_point(&mut self, seat: &Seat, len: usize, bytes: &[u8]) {
        self.cpu.import_point(&mut self.cache, seat.slot, len, &seat.table, bytes);
    }
}
