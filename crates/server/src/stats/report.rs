//! `/v1/stats`: what goes on, for the page at `/` and for whoever asks. Small, and without anyone's text or names.

use std::time::{Duration, Instant};

use ds4_engine::{Machine, Plan};
use serde_json::{Value, json};

use super::{Activity, Outcome, Phase, Totals};
use crate::server::Server;

/// Most requests that are shown one by one.
const SHOWN: usize = 32;

impl Server {
    /// What goes on now, and what happened so far.
    pub(crate) fn report(&self) -> Value {
        let (running, totals) = self.ledger.stats.look();
        let load = self.queue.load();
        let mut now: Vec<Value> = running.iter().take(SHOWN).map(activity).collect();
        now.extend(self.queue.waiting(SHOWN - now.len()).into_iter().map(waiting));
        let mut ended = json!({});
        for outcome in Outcome::ALL {
            ended[outcome.name()] = totals.ended[outcome as usize].into();
        }
        json!({
            "status": self.status(),
            "uptime_s": seconds(self.started.elapsed()),
            "model": {"id": self.identity.id, "name": self.identity.name, "context_length": self.context},
            "requests": {
                "running": load.running,
                "running_limit": load.places,
                "waiting": load.waiting,
                "waiting_limit": load.limit,
                "now": now,
                "started": totals.started,
                "ended": ended,
                "refused": totals.refused,
            },
            "tokens": tokens(&totals),
            "cache": self.cache(),
            "memory": self.memory(),
        })
    }

    fn cache(&self) -> Value {
        let metrics = self.engine.metrics();
        let tiers = metrics.tiers.iter().map(|tier| {
            json!({
                "name": tier.name,
                "kept_bytes": tier.kept_bytes,
                "read_bytes": tier.read.bytes,
                "written_bytes": tier.written.bytes,
                "failures": tier.failures + tier.damaged,
            })
        });
        json!({
            "computed_tokens": metrics.tokens_computed,
            "memory_tokens": metrics.tokens_from_ram,
            "tier_tokens": metrics.tokens_from_below,
            "pages": metrics.pages,
            "pages_used": metrics.pages_used,
            "pages_kept": metrics.pages_kept,
            "tiers": tiers.collect::<Vec<_>>(),
        })
    }

    fn memory(&self) -> Value {
        let plan = self.engine.plan().map(|plan| {
            let Plan { weights, cache, scratch, tokenizer, program, .. } = *plan;
            json!({"weights": weights, "context": cache, "scratch": scratch, "other": tokenizer + program})
        });
        let machine = Machine::measure();
        json!({
            "plan_bytes": plan,
            "resident_bytes": Machine::resident(),
            "machine_bytes": machine.map(|m| m.total),
            "available_bytes": machine.map(|m| m.available),
        })
    }
}

fn tokens(totals: &Totals) -> Value {
    let first_token =
        (totals.first_tokens > 0).then(|| totals.first_token_time.as_secs_f64() / totals.first_tokens as f64);
    json!({
        "prompt": totals.prompt_tokens,
        "cached": totals.cached_tokens,
        "generated": totals.generated_tokens,
        "reasoning": totals.reasoning_tokens,
        "first_token_s": first_token.map(round),
    })
}

/// A request that runs.
fn activity(activity: &Activity) -> Value {
    let phase = match activity.phase {
        Phase::Memory => "waiting for memory",
        Phase::Prompt => "prompt",
        Phase::Thinking => "thinking",
        Phase::Answer => "answer",
    };
    // The first token is the end of the prompt's work; the others took the time since.
    let rate = activity.first_token.filter(|_| activity.generated > 1).map(|first| {
        let seconds = first.elapsed().as_secs_f64().max(1e-3);
        round((activity.generated - 1) as f64 / seconds)
    });
    json!({
        "phase": phase,
        "age_s": seconds(activity.since.elapsed()),
        "prompt_tokens": activity.prompt,
        "read_tokens": activity.read,
        "cached_tokens": activity.cached,
        "generated_tokens": activity.generated,
        "tokens_per_second": rate,
    })
}

/// A request in the queue: since when, and how many tokens its prompt has.
fn waiting((since, prompt): (Instant, usize)) -> Value {
    json!({
        "phase": "queued",
        "age_s": seconds(since.elapsed()),
        "prompt_tokens": prompt,
        "read_tokens": 0,
        "cached_tokens": 0,
        "generated_tokens": 0,
        "tokens_per_second": null,
    })
}

fn seconds(time: Duration) -> f64 {
    round(time.as_secs_f64())
}

/// Hundredths are enough.
fn round(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}
