//! How many prompt tokens fit into the time that a step may spend on them.

use std::time::Duration;

/// Prompt tokens of a step before anything was measured.
const FIRST: usize = 16;
/// A step reads at most this many times the prompt tokens of the one before: rates change with the size.
const GROWTH: usize = 2;
/// Steps with prompts and answers after which one goes without prompts, to see what the answers alone take.
const LOOK: u32 = 16;

/// Learns from the steps before what a prompt token costs beside the answers' tokens.
pub(crate) struct Quantum {
    limit: Duration,
    /// Seconds of a step without prompts.
    decode: Option<f64>,
    /// Seconds that a prompt token adds.
    token: Option<f64>,
    /// Prompt tokens of the last step that had any.
    last: usize,
    /// Steps with prompts and answers since the last one without prompts.
    mixed: u32,
}

impl Quantum {
    /// At most `limit` a step.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, decode: None, token: None, last: FIRST, mixed: LOOK }
    }

    /// Prompt tokens of the next step that has answers: none now and then, else at least one, so that prompts end.
    pub(crate) fn tokens(&self) -> usize {
        if self.mixed >= LOOK {
            return 0;
        }
        let Some(token) = self.token else { return FIRST };
        let fit = (self.limit.as_secs_f64() / token.max(1e-9)) as usize;
        fit.min(self.last * GROWTH).max(1)
    }

    /// A step with so many prompt tokens and tokens of answers took so long.
    pub(crate) fn learn(&mut self, prompt: usize, answers: usize, took: Duration) {
        let took = took.as_secs_f64();
        let mean = |old: Option<f64>, new: f64| Some(old.map_or(new, |old| (old + new) / 2.0));
        if prompt == 0 {
            (self.decode, self.mixed) = (Some(took), 0);
            return;
        }
        self.mixed += u32::from(answers > 0);
        // Something is always the prompt's.
        let least = took * prompt as f64 / (prompt + answers) as f64 / 2.0;
        let decode = if answers > 0 { self.decode.unwrap_or(0.0) } else { 0.0 };
        self.token = mean(self.token, (took - decode).max(least) / prompt as f64);
        self.last = prompt;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which steps cost a start, then so much a token.
    fn seconds(prompt: usize, answers: usize) -> Duration {
        Duration::from_secs_f64(0.1 + 0.01 * prompt as f64 + 0.02 * answers as f64)
    }

    #[test]
    fn prompts_take_the_time_they_may_and_no_more() {
        let mut quantum = Quantum::new(Duration::from_millis(250));
        let alone = seconds(0, 4);
        quantum.learn(0, 4, alone);
        for _ in 0..40 {
            let n = quantum.tokens();
            quantum.learn(n, 4, seconds(n, 4));
            assert!(seconds(n, 4) - alone <= Duration::from_millis(320), "{n} tokens");
        }
        assert!((22..=25).contains(&quantum.tokens()), "{}", quantum.tokens());
    }

    #[test]
    fn what_was_learnt_alone_serves_in_company() {
        let mut quantum = Quantum::new(Duration::from_millis(250));
        quantum.learn(0, 1, seconds(0, 1));
        for _ in 0..5 {
            quantum.learn(256, 0, seconds(256, 0));
        }
        assert!((20..=25).contains(&quantum.tokens()), "{}", quantum.tokens());
    }

    #[test]
    fn prompts_go_on_however_slow_the_machine_is() {
        let mut quantum = Quantum::new(Duration::ZERO);
        quantum.learn(0, 1, Duration::from_secs(30));
        quantum.learn(16, 1, Duration::from_secs(60));
        assert_eq!(quantum.tokens(), 1);
    }

    #[test]
    fn answers_that_take_long_leave_prompts_their_time() {
        // The answers alone take longer than the quantum, and a prompt was waiting before any of them began.
        let took = |prompt: usize| Duration::from_secs_f64(0.4 + 0.01 * prompt as f64);
        let mut quantum = Quantum::new(Duration::from_millis(250));
        let mut last = 0;
        for _ in 0..40 {
            let n = quantum.tokens();
            quantum.learn(n, 4, took(n));
            last = if n == 0 { last } else { n };
        }
        assert!((16..=25).contains(&last), "{last}");
    }
}
