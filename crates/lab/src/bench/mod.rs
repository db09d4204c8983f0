//! How fast a model runs here: prefill and decode at growing context lengths, beside what the machine allows.

mod limits;
mod plot;
mod profile;
mod report;
mod row;
mod sequences;
mod work;

use ds4_engine::{Engine, Error, Event, Finish, Observe, Observed, Request};
use ds4_model::{CacheLayout, CachePlan, PAGE_TOKENS};

pub use limits::Limits;
pub use profile::Profile;
pub use report::Report;
pub use row::Row;
pub use sequences::{Together, together};
pub use work::{AttentionWork, Work};

/// What to measure.
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
    /// Runs of which a row has the medians, at least 1.
    pub repeat: usize,
    /// Whether to report the logits at each context length.
    pub logits: bool,
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

/// Reads `tokens` up to each context length of `plan` and generates greedily from there, without regard to the end of
/// an answer. Each row goes on from the end of the one before, as far as it was read. `tokens` holds at least `plan.max` of them and
/// the engine's context one more than is read and generated. `see` gets each row and its logits, if the plan wants them,
/// in the last of the runs.
///
/// # Errors
/// What the engine or `see` says.
pub fn run<E: From<Error>>(
    engine: &Engine,
    tokens: &[u32],
    plan: &Plan,
    mut see: impl FnMut(&Row, &[f32]) -> Result<(), E>,
) -> Result<(), E> {
    let frontiers = plan.frontiers();
    let mut rows = vec![Vec::new(); frontiers.len()];
    for run in 1..=plan.repeat {
        engine.forget()?;
        let mut before = 0;
        for (&context, rows) in frontiers.iter().zip(&mut rows) {
            let (row, logits) = measure(engine, &tokens[..context], plan)?;
            rows.push(Row { prefilled: context - before, cache_bytes: cache_bytes(engine, context), ..row });
            if run == plan.repeat {
                see(&Row::median(rows), &logits)?;
            }
            before = context;
        }
    }
    Ok(())
}

/// Reads the rest of `tokens` and generates; the row lacks what only its neighbours and the engine know.
fn measure(engine: &Engine, tokens: &[u32], plan: &Plan) -> Result<(Row, Vec<f32>), Error> {
    // The first token is drawn from the prompt's logits and takes no step of its own: ask for one more.
    let mut request = Request { stop: Vec::new(), ..Request::greedy(tokens.to_vec(), plan.generate + 1, u32::MAX) };
    if plan.logits {
        request.observe = Observe::Logits;
    }
    let mut logits = Vec::new();
    for event in engine.submit(request)? {
        match event {
            Event::Finished(Finish::Length | Finish::Context, usage) => {
                let generated = usage.generated - 1;
                let row = Row {
                    context: tokens.len(),
                    prefilled: 0,
                    prefill_rate: usage.prefill_rate(),
                    generated,
                    decode_rate: generated as f64 / usage.decode.as_secs_f64().max(1e-9),
                    cache_bytes: 0,
                };
                return Ok((row, logits));
            }
            Event::Finished(finish, _) => return Err(Error::Stopped(format!("it ended with {finish:?}"))),
            Event::Failed(why) => return Err(Error::Stopped(why)),
            Event::Observed(Observed::Logits(all)) => logits = all,
            _ => {}
        }
    }
    Err(Error::Stopped("it ended without a word".into()))
}

fn cache_bytes(engine: &Engine, context: usize) -> usize {
    let options = engine.options();
    let plan = CachePlan { slots: 1, pages: context.div_ceil(PAGE_TOKENS), step: options.chunk() };
    CacheLayout::new(&engine.model().weights.shape, options.numerics.rows, plan).bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frontiers_grow_by_sum_or_product_and_end_at_the_last_one() {
        let plan = Plan { start: 2048, max: 7000, increment: 2048, factor: 1.0, generate: 1, repeat: 1, logits: false };
        assert_eq!(plan.frontiers(), [2048, 4096, 6144, 7000]);
        assert_eq!(Plan { start: 3, max: 10, factor: 1.5, ..plan }.frontiers(), [3, 5, 8, 10]);
        assert_eq!(Plan { start: 9, max: 4, ..plan }.frontiers(), [4]);
        assert_eq!(Plan { start: 4, max: 6, factor: 1.0001, ..plan }.frontiers(), [4, 5, 6]);
    }
}
