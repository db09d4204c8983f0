//! How much more several sequences decode together than one alone.

use std::time::Instant;

use ds4_engine::{Engine, Error, Event, ExpertsUsed, Request, Sampling};

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Together {
    /// Sequences at once.
    pub sequences: usize,
    /// Tokens that each one read before.
    pub context: usize,
    /// Tokens that each one generated.
    pub generated: usize,
    /// Tokens per second of all together.
    pub rate: f64,
    /// Tokens per second of the first one alone.
    pub alone: f64,
    /// Distinct experts of a layer in a step, on average; 0 unless the engine counts them.
    pub experts: f64,
    /// The same of the first one alone.
    pub experts_alone: f64,
}

impl Together {
    /// The columns of [`Together::csv`].
    pub const HEADER: &str = "sequences,ctx_tokens,gen_tokens,gen_tps,gen_tps_alone,ratio,experts,experts_alone";

    /// One line of the table.
    pub fn csv(&self) -> String {
        let Self { sequences, context, generated, rate, alone, experts, experts_alone } = self;
        let ratio = rate / alone;
        format!("{sequences},{context},{generated},{rate:.2},{alone:.2},{ratio:.2},{experts:.1},{experts_alone:.1}")
    }
}

/// Each of `prompts`, all of one length, is read by a sequence of its own, which then generates `generate` tokens as the
/// model draws them, without regard to the end of an answer: the first one alone, then all at once.
///
/// # Errors
/// What the engine says.
pub fn together(engine: &Engine, prompts: &[&[u32]], generate: usize) -> Result<Together, Error> {
    for prompt in prompts {
        times(engine, prompt, 0, 0)?;
    }
    let start = engine.experts_used();
    // The first token is drawn from the prompt's logits: ask for one more.
    let alone = times(engine, prompts[0], generate + 1, 1)?;
    let middle = engine.experts_used();
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = prompts
            .iter()
            .zip(1..)
            .map(|(prompt, seed)| scope.spawn(move || times(engine, prompt, generate + 1, seed)))
            .collect();
        let ended = |t: std::thread::ScopedJoinHandle<'_, _>| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
        threads.into_iter().map(ended).collect::<Result<Vec<_>, Error>>()
    })?;
    Ok(Together {
        sequences: prompts.len(),
        context: prompts[0].len(),
        generated: generate,
        rate: rate(&all),
        alone: rate(&[alone]),
        experts: mean(middle, engine.experts_used()),
        experts_alone: mean(start, middle),
    })
}

/// When each token came.
fn times(engine: &Engine, prompt: &[u32], tokens: usize, seed: u64) -> Result<Vec<Instant>, Error> {
    let sampling = Sampling { temperature: 1.0, min_p: 0.05, seed, ..Sampling::GREEDY };
    let request = Request { sampling, stop: Vec::new(), ..Request::greedy(prompt.to_vec(), tokens, u32::MAX) };
    let mut times = Vec::with_capacity(tokens);
    for event in engine.submit(request)? {
        match event {
            Event::Token(_) => times.push(Instant::now()),
            Event::Failed(why) => return Err(Error::Stopped(why)),
            _ => {}
        }
    }
    Ok(times)
}

/// Tokens per second while all of these were generating; while any was, if they never all did.
fn rate(all: &[Vec<Instant>]) -> f64 {
    let (first, last) = (all.iter().filter_map(|times| times.first()), all.iter().filter_map(|times| times.last()));
    let all_did = first.clone().max().zip(last.clone().min()).filter(|(from, to)| from < to);
    let Some((from, to)) = all_did.or(first.min().zip(last.max())) else { return 0.0 };
    let tokens = all.iter().flatten().filter(|at| *at > from && *at <= to).count();
    tokens as f64 / to.saturating_duration_since(*from).as_secs_f64().max(1e-9)
}

/// Distinct experts a layer between two counts.
fn mean(from: ExpertsUsed, to: ExpertsUsed) -> f64 {
    (to.distinct - from.distinct) as f64 / (to.layers - from.layers).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_rate_counts_what_came_while_all_were_generating() {
        let start = Instant::now();
        let times = |seconds: [u64; 4]| seconds.map(|s| start + Duration::from_secs(s)).to_vec();
        // From 3 to 6: two of the first one, three of the other.
        assert_eq!(rate(&[times([1, 2, 4, 6]), times([3, 4, 5, 6])]), 5.0 / 3.0);
        assert_eq!(rate(&[times([1, 2, 3, 4])]), 1.0);
        assert_eq!(rate(&[times([1, 2, 3, 4]), times([5, 6, 7, 8])]), 1.0, "one after the other");
    }
}
