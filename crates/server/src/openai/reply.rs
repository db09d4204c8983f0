//! What `/v1/chat/completions` answers.

use axum::http::StatusCode;
use axum::response::Response;
use ds4_chat::{Event as Piece, ToolCall};
use serde_json::{Value, json};

use super::logprobs::Logprobs;
use super::several::Sum;
use crate::Error;
use crate::error::json_response;
use crate::progress::{Counts, End, Finish, Scored};
use crate::server::Label;
use crate::sse::Events;
use crate::whole::Whole;

/// Whole answers.
pub(super) fn answer(label: &Label, choices: Value, sum: &Sum) -> Response {
    json_response(StatusCode::OK, &with_usage(object(label, "chat.completion", choices), sum))
}

/// One of them.
pub(super) fn choice(index: usize, answer: &Whole, logprobs: Option<Value>) -> Value {
    let mut message = json!({"role": "assistant", "content": answer.text});
    if !answer.reasoning.is_empty() {
        message["reasoning_content"] = answer.reasoning.as_str().into();
    }
    if !answer.calls.is_empty() {
        message["tool_calls"] = answer.calls.iter().map(tool_call).collect();
    }
    let mut choice = json!({"index": index, "message": message, "finish_reason": finish_reason(&answer.end.why)});
    if let Some(logprobs) = logprobs {
        choice["logprobs"] = logprobs;
    }
    choice
}

/// The chunk that is to have the usage.
pub(super) fn last(label: &Label) -> Value {
    object(label, "chat.completion.chunk", json!([]))
}

/// The end of a stream: usage in a last chunk if it is wanted, `[DONE]`.
pub(super) fn end(last: Option<Value>) -> impl FnOnce(&[End]) -> String + Send + 'static {
    move |ends| {
        let last = last.map(|last| data(&with_usage(last, &Sum::of(ends))));
        last.unwrap_or_default() + "data: [DONE]\n\n"
    }
}

/// An answer that says what it took.
pub(super) fn with_usage(mut body: Value, Sum { counts, timings }: &Sum) -> Value {
    (body["usage"], body["timings"]) = (usage(counts), timings.json(counts));
    body
}

/// A call that is complete.
fn tool_call(call: &ToolCall) -> Value {
    let function = json!({"name": call.name, "arguments": call.arguments});
    json!({"id": call.id, "type": "function", "function": function})
}

/// The answer in chunks: role, reasoning, content, calls, finish.
pub(crate) struct Chunks {
    label: Label,
    /// Which of several answers it is.
    choice: usize,
    /// Of the call under way, or the next.
    index: usize,
    logprobs: Logprobs,
}

impl Chunks {
    pub(super) fn new(label: Label, choice: usize, logprobs: Logprobs) -> Self {
        Self { label, choice, index: 0, logprobs }
    }

    /// A chunk with more of the text.
    fn text(&mut self, part: &str) -> String {
        let mut choice = json!({"index": self.choice, "delta": {"content": part}, "finish_reason": null});
        if let Some(logprobs) = self.logprobs.chat() {
            choice["logprobs"] = logprobs;
        }
        data(&object(&self.label, "chat.completion.chunk", json!([choice])))
    }

    fn chunk(&self, delta: Value, finish_reason: Option<&str>) -> String {
        let choice = json!({"index": self.choice, "delta": delta, "finish_reason": finish_reason});
        data(&object(&self.label, "chat.completion.chunk", json!([choice])))
    }
}

impl Events for Chunks {
    fn started(&mut self, _: &Counts) -> String {
        self.chunk(json!({"role": "assistant"}), None)
    }

    fn scored(&mut self, scored: Scored) {
        self.logprobs.push([scored]);
    }

    fn piece(&mut self, piece: Piece) -> String {
        match piece {
            Piece::Reasoning(part) => self.chunk(json!({"reasoning_content": part}), None),
            Piece::Text(part) => self.text(&part),
            Piece::Call(call) => {
                let function = json!({"name": call.name, "arguments": ""});
                let begun = json!({"index": self.index, "id": call.id, "type": "function", "function": function});
                self.chunk(json!({"tool_calls": [begun]}), None)
            }
            Piece::Arguments(part) => {
                let more = json!({"index": self.index, "function": {"arguments": part}});
                self.chunk(json!({"tool_calls": [more]}), None)
            }
            // Who was told of a call that broke off knows by its arguments, which are no JSON.
            Piece::Called(_) | Piece::Broken(_) => {
                self.index += 1;
                String::new()
            }
        }
    }

    fn ended(&mut self, end: &End) -> String {
        self.chunk(json!({}), Some(finish_reason(&end.why)))
    }

    fn failed(&mut self, error: &Error) -> String {
        format!("event: error\n{}", data(&error.openai()))
    }
}

fn object(label: &Label, kind: &str, choices: Value) -> Value {
    json!({"id": label.id, "object": kind, "created": label.created, "model": label.model, "choices": choices})
}

pub(crate) fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

pub(crate) fn finish_reason(why: &Finish) -> &'static str {
    match why {
        Finish::Stop | Finish::StopString(_) => "stop",
        Finish::Length => "length",
        Finish::Calls => "tool_calls",
        Finish::Unterminated { .. } => "error",
    }
}

pub(crate) fn usage(counts: &Counts) -> Value {
    json!({
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.generated,
        "total_tokens": counts.prompt + counts.generated,
        "prompt_tokens_details": {"cached_tokens": counts.cached},
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning},
    })
}
