//! Lines on stderr, for people or for programs. No text of a request or an answer is ever among them.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::record::{Record, Times};
use crate::stats::Outcome;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, with colours on a terminal.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// Writes lines. Who reads the log may go away; the service stays, so that this cannot fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    format: LogFormat,
    colours: bool,
}

impl Log {
    pub(crate) fn new(format: LogFormat) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let can = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let colours = std::io::stderr().is_terminal() && wanted && can;
        Self { format, colours }
    }

    /// Says something about the server.
    pub(crate) fn say(&self, line: impl Display) {
        write(&match self.format {
            LogFormat::Text => format!("ds4: {line}"),
            LogFormat::Json => timed(json!({"event": "server", "message": line.to_string()})),
        });
    }

    /// Something about one request that is not its end.
    pub(crate) fn note(&self, id: &str, note: &str) {
        write(&match self.format {
            LogFormat::Text => format!("ds4: {id}: {note}"),
            LogFormat::Json => timed(json!({"event": "note", "id": id, "message": note})),
        });
    }

    /// A request that never reached the queue, at one of the server's endpoints.
    pub(crate) fn refused(&self, endpoint: &str, status: u16) {
        write(&match self.format {
            LogFormat::Text => self.red(&format!("ds4: {endpoint}: refused with {status}")),
            LogFormat::Json => timed(json!({"event": "refused", "endpoint": endpoint, "status": status})),
        });
    }

    /// A request has ended in this way, and this is how long it took.
    pub(crate) fn request(&self, record: &Record, outcome: Outcome, times: &Times) {
        write(&match self.format {
            LogFormat::Text if outcome == Outcome::Failed => self.red(&text(record, outcome, times)),
            LogFormat::Text => text(record, outcome, times),
            LogFormat::Json => timed(fields(record, outcome, times)),
        });
    }

    fn red(&self, line: &str) -> String {
        if self.colours { format!("\x1b[31m{line}\x1b[0m") } else { line.into() }
    }
}

fn write(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// With the seconds since 1970 in front.
fn timed(fields: Value) -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64());
    let mut line = json!({"time": (seconds * 1e3).round() / 1e3});
    if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
        line.extend(fields);
    }
    line.to_string()
}

fn text(record: &Record, outcome: Outcome, times: &Times) -> String {
    let Record { id, counts, source, .. } = record;
    match outcome {
        Outcome::Left if !record.has_started() => {
            format!("ds4: {id}: the client left after {:.1} s in the queue", times.queue.as_secs_f64())
        }
        Outcome::Left => format!("ds4: {id}: the client left after {} tokens", counts.generated),
        Outcome::Failed => format!("ds4: {id}: failed after {} tokens", counts.generated),
        _ => {
            let from = source.as_deref().map(|tier| format!(", also from {tier}")).unwrap_or_default();
            let prompt = format!("prompt {} tokens ({} cached{from})", counts.prompt, counts.cached);
            let [queue, prefill, decode] = [times.queue, times.prefill, times.decode].map(|t| t.as_secs_f64());
            let answer = format!("answer {} tokens, {}", counts.generated, outcome.name());
            format!("ds4: {id}: {prompt}, {answer}; queue {queue:.1} s, prefill {prefill:.1} s, decode {decode:.1} s")
        }
    }
}

fn fields(record: &Record, outcome: Outcome, times: &Times) -> Value {
    let Record { id, api, counts, source, .. } = record;
    let source = match source.as_deref() {
        Some(tier) => Some(tier),
        None => (counts.cached > 0).then_some("ram"),
    };
    let [queue, prefill, decode] = [times.queue, times.prefill, times.decode].map(|t| t.as_millis() as u64);
    json!({
        "event": "request",
        "id": id,
        "api": api,
        "status": status(outcome),
        "finish": outcome.name(),
        "prompt": counts.prompt,
        "cached": counts.cached,
        "cache": source,
        "generated": counts.generated,
        "reasoning": counts.reasoning,
        "queue_ms": queue,
        "prefill_ms": prefill,
        "decode_ms": decode,
    })
}

/// The HTTP status that says the same: 499 where the client left before there was an end. A stream's was 200 by then.
fn status(outcome: Outcome) -> u16 {
    match outcome {
        Outcome::Left => 499,
        Outcome::Failed => 500,
        _ => 200,
    }
}
