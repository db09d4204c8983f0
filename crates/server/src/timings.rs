//! How long the parts of an answer took, as its client hears it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::progress::Counts;

/// The parts of an answer's time, and where the beginning of its prompt came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Timings {
    /// Until its turn came and memory was there.
    pub(crate) queue: Duration,
    /// From then to the first token.
    pub(crate) prefill: Duration,
    /// From there to the end.
    pub(crate) decode: Duration,
    /// The tier below RAM that a part of what was cached came from.
    pub(crate) source: Option<Arc<str>>,
}

impl Timings {
    /// `{"queue_ms", "prompt_n", "prompt_ms", "prompt_per_second", "predicted_n", "predicted_ms", "predicted_per_second",
    /// "cache_source"}`, where prompt tokens are those that were computed.
    pub(crate) fn json(&self, counts: &Counts) -> Value {
        let computed = counts.prompt - counts.cached;
        let source = self.source.as_deref().or((counts.cached > 0).then_some("ram"));
        json!({
            "queue_ms": millis(self.queue),
            "prompt_n": computed,
            "prompt_ms": millis(self.prefill),
            "prompt_per_second": rate(computed, self.prefill),
            "predicted_n": counts.generated,
            "predicted_ms": millis(self.decode),
            "predicted_per_second": rate(counts.generated, self.decode),
            "cache_source": source,
        })
    }
}

/// Milliseconds to a thousandth.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// Tokens a second to a hundredth; 0 where no time has passed.
fn rate(tokens: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { (tokens as f64 / time.as_secs_f64() * 100.0).round() / 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_what_was_computed() {
        let timings = Timings {
            queue: Duration::from_micros(1500),
            prefill: Duration::from_secs(2),
            decode: Duration::from_millis(500),
            source: None,
        };
        let counts = Counts { prompt: 110, cached: 10, generated: 7, reasoning: 0 };
        let expected = json!({
            "queue_ms": 1.5, "prompt_n": 100, "prompt_ms": 2000.0, "prompt_per_second": 50.0,
            "predicted_n": 7, "predicted_ms": 500.0, "predicted_per_second": 14.0, "cache_source": "ram",
        });
        assert_eq!(timings.json(&counts), expected);
        let cold = Timings { source: None, ..Timings::default() }.json(&Counts { cached: 0, ..counts });
        assert_eq!((&cold["cache_source"], &cold["prompt_per_second"]), (&Value::Null, &json!(0.0)));
        let disk = Timings { source: Some("disk".into()), ..timings };
        assert_eq!(disk.json(&counts)["cache_source"], "disk");
    }
}
