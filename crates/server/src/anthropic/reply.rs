//! What `/v1/messages` answers.

use axum::http::StatusCode;
use axum::response::Response;
use ds4_chat::{Event as Piece, ToolCall};
use serde_json::{Value, json};

use crate::Error;
use crate::error::json_response;
use crate::progress::{Counts, End, Finish};
use crate::server::Label;
use crate::sse::Events;
use crate::whole::Whole;

/// The whole answer.
pub(crate) fn whole(label: &Label, answer: &Whole) -> Response {
    let mut content = Vec::new();
    if !answer.reasoning.is_empty() {
        content.push(json!({"type": "thinking", "thinking": answer.reasoning, "signature": label.id}));
    }
    if !answer.text.is_empty() || answer.calls.is_empty() {
        content.push(json!({"type": "text", "text": answer.text}));
    }
    for ToolCall { id, name, arguments } in &answer.calls {
        let input: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
        content.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
    }
    let mut message = message(label, content.into(), &answer.end.counts);
    let (reason, sequence) = stop_reason(&answer.end.why);
    message["stop_reason"] = reason.into();
    message["stop_sequence"] = sequence;
    message["timings"] = answer.end.timings.json(&answer.end.counts);
    json_response(StatusCode::OK, &message)
}

/// The answer as blocks, one open at a time.
pub(crate) struct Blocks {
    label: Label,
    /// What the open block holds; none before the first.
    open: Option<Kind>,
    index: usize,
    /// Whether there was more than thinking.
    said: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Thinking,
    Text,
    ToolUse,
}

impl Blocks {
    pub(crate) fn new(label: Label) -> Self {
        Self { label, open: None, index: 0, said: false }
    }

    /// Opens a block of thinking or text, unless one is open.
    fn switch(&mut self, kind: Kind) -> String {
        match kind {
            _ if self.open == Some(kind) => String::new(),
            Kind::Thinking => self.open(kind, json!({"type": "thinking", "thinking": "", "signature": ""})),
            _ => self.open(kind, json!({"type": "text", "text": ""})),
        }
    }

    /// Opens a block after closing the one before.
    fn open(&mut self, kind: Kind, block: Value) -> String {
        let closed = self.close();
        self.open = Some(kind);
        self.said |= kind != Kind::Thinking;
        closed + &event("content_block_start", json!({"index": self.index, "content_block": block}))
    }

    /// Closes the open block, if there is one.
    fn close(&mut self) -> String {
        let Some(kind) = self.open.take() else { return String::new() };
        let mut text = String::new();
        if kind == Kind::Thinking {
            text += &self.delta(json!({"type": "signature_delta", "signature": self.label.id}));
        }
        text += &event("content_block_stop", json!({"index": self.index}));
        self.index += 1;
        text
    }

    fn delta(&self, delta: Value) -> String {
        event("content_block_delta", json!({"index": self.index, "delta": delta}))
    }
}

impl Events for Blocks {
    fn alive(&mut self, _: &str) -> String {
        event("ping", json!({}))
    }

    fn started(&mut self, counts: &Counts) -> String {
        event("message_start", json!({"message": message(&self.label, json!([]), counts)}))
    }

    fn piece(&mut self, piece: Piece) -> String {
        match piece {
            Piece::Reasoning(part) => {
                self.switch(Kind::Thinking) + &self.delta(json!({"type": "thinking_delta", "thinking": part}))
            }
            Piece::Text(part) => self.switch(Kind::Text) + &self.delta(json!({"type": "text_delta", "text": part})),
            Piece::Call(ToolCall { id, name, .. }) => {
                self.open(Kind::ToolUse, json!({"type": "tool_use", "id": id, "name": name, "input": {}}))
            }
            Piece::Arguments(part) => self.delta(json!({"type": "input_json_delta", "partial_json": part})),
            // Who was told of a call that broke off knows by its input, which is no JSON.
            Piece::Called(_) | Piece::Broken(_) => self.close(),
        }
    }

    fn ended(&mut self, end: &End) -> String {
        // An answer that calls nothing has a text, even if it is empty.
        let empty = if self.said { String::new() } else { self.switch(Kind::Text) };
        let mut text = empty + &self.close();
        let (reason, sequence) = stop_reason(&end.why);
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        text += &event(
            "message_delta",
            json!({"delta": delta, "usage": usage(&end.counts), "timings": end.timings.json(&end.counts)}),
        );
        text + &event("message_stop", json!({}))
    }

    fn failed(&mut self, error: &Error) -> String {
        format!("event: error\ndata: {}\n\n", error.anthropic())
    }
}

fn message(label: &Label, content: Value, counts: &Counts) -> Value {
    json!({
        "id": label.id,
        "type": "message",
        "role": "assistant",
        "model": label.model,
        "content": content,
        "stop_reason": null,
        "stop_sequence": null,
        "usage": usage(counts),
    })
}

/// An event whose name is also its type.
fn event(name: &str, mut data: Value) -> String {
    let mut value = json!({"type": name});
    if let (Some(all), Some(data)) = (value.as_object_mut(), data.as_object_mut()) {
        all.append(data);
    }
    format!("event: {name}\ndata: {value}\n\n")
}

fn stop_reason(why: &Finish) -> (&'static str, Value) {
    match why {
        Finish::Stop => ("end_turn", Value::Null),
        Finish::StopString(stop) => ("stop_sequence", stop.as_str().into()),
        Finish::Length | Finish::Unterminated { by_length: true } => ("max_tokens", Value::Null),
        Finish::Unterminated { by_length: false } => ("end_turn", Value::Null),
        Finish::Calls => ("tool_use", Value::Null),
    }
}

fn usage(counts: &Counts) -> Value {
    json!({
        "input_tokens": counts.prompt - counts.cached,
        "cache_read_input_tokens": counts.cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": counts.generated,
    })
}
