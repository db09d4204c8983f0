//! How fast a model runs here: prefill and decode at growing context lengths, beside what the machine allows.

mod work;

use ds4_engine::{Engine, Error, Event, Finish, Request, Usage};
use ds4_model::{CacheLayout, CachePlan, PAGE_TOKENS};

pub use work::Work;

/// Context lengths to measure at, and how much to generate at each.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// First context length.
    pub start: usize,
    /// Last one.
    pub max: usize,
    /// Added to get the next one, while `factor` is 1.
    pub increment: usize,
    /// Multiplied by, rounded up, to get the next one.
    pub factor: f64,
    /// Tokens to generate at each.
    pub generate: usize,
}

impl Plan {
    /// The context lengths: growing, the last one is `max`.
    pub fn frontiers(&self) -> Vec<usize> {
        let mut frontiers = Vec::new();
        let mut context = self.start.min(self.max);
        while context < self.max {
            frontiers.push(context);
            let next = if self.factor == 1.0 {
                context.saturating_add(self.increment)
            } else {
                (context as f64 * self.factor).ceil() as usize
            };
            context = next.max(context + 1);
        }
        frontiers.push(self.max);
        frontiers
    }
}

/// What was measured at one context length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Tokens of context.
    pub context: usize,
    /// Tokens read to get there from the row before.
    pub prefilled: usize,
    /// Tokens read per second.
    pub prefill_rate: f64,
    /// Tokens generated.
    pub generated: usize,
    /// Tokens generated per second.
    pub decode_rate: f64,
    /// Bytes that a sequence of this length holds.
    pub cache_bytes: usize,
}

impl Row {
    /// The columns of [`Row::csv`].
    pub const HEADER: &str = "ctx_tokens,prefill_tokens,prefill_tps,gen_tokens,gen_tps,kvcache_bytes";

    /// One line of the table.
    pub fn csv(&self) -> String {
        let Self { context, prefilled, prefill_rate, generated, decode_rate, cache_bytes } = self;
        format!("{context},{prefilled},{prefill_rate:.2},{generated},{decode_rate:.2},{cache_bytes}")
    }
}

/// Reads `tokens` up to each context length of `plan` and generates greedily from there, without regard to the end of
/// an answer. Between rows the sequence goes back to the context length. `tokens` holds at least `plan.max` of them and
/// the engine's context one more than is read and generated.
///
/// # Errors
/// What the engine says.
pub fn run<E: From<Error>>(
    engine: &Engine,
    tokens: &[u32],
    plan: &Plan,
    mut row: impl FnMut(&Row) -> Result<(), E>,
) -> Result<(), E> {
    let mut sequence = engine.sequence()?;
    let mut before = 0;
    for context in plan.frontiers() {
        // The first token is drawn from the prompt's logits and takes no step of its own: ask for one more.
        let request =
            Request { stop: Vec::new(), ..Request::greedy(tokens[..context].to_vec(), plan.generate + 1, u32::MAX) };
        let usage = finish(sequence.submit(request)?)?;
        row(&Row {
            context,
            prefilled: context - before,
            prefill_rate: usage.prefill_rate(),
            generated: usage.generated - 1,
            decode_rate: (usage.generated - 1) as f64 / usage.decode.as_secs_f64().max(1e-9),
            cache_bytes: cache_bytes(engine, context),
        })?;
        before = context;
    }
    Ok(())
}

fn finish(run: ds4_engine::Run<'_, '_>) -> Result<Usage, Error> {
    for event in run {
        match event {
            Event::Finished(Finish::Length | Finish::Context, usage) => return Ok(usage),
            Event::Finished(finish, _) => return Err(Error::Stopped(format!("it ended with {finish:?}"))),
            Event::Failed(why) => return Err(Error::Stopped(why)),
            _ => {}
        }
    }
    Err(Error::Stopped("it ended without a word".into()))
}

fn cache_bytes(engine: &Engine, context: usize) -> usize {
    let options = engine.options();
    let plan = CachePlan { slots: 1, pages: context.div_ceil(PAGE_TOKENS), step: options.limits().tokens };
    CacheLayout::new(&engine.model().weights.shape, options.numerics.rows, plan).bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frontiers_grow_by_sum_or_product_and_end_at_the_last_one() {
        let plan = Plan { start: 2048, max: 7000, increment: 2048, factor: 1.0, generate: 1 };
        assert_eq!(plan.frontiers(), [2048, 4096, 6144, 7000]);
        assert_eq!(Plan { start: 3, max: 10, factor: 1.5, ..plan }.frontiers(), [3, 5, 8, 10]);
        assert_eq!(Plan { start: 9, max: 4, ..plan }.frontiers(), [4]);
        assert_eq!(Plan { start: 4, max: 6, factor: 1.0001, ..plan }.frontiers(), [4, 5, 6]);
    }
}
