//! What `/v1/messages` answers.

use axum::http::StatusCode;
use axum::response::Response;
use ds4_chat::Event as Piece;
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
    content.push(json!({"type": "text", "text": answer.text}));
    let mut message = message(label, content.into(), &answer.end.counts);
    let (reason, sequence) = stop_reason(&answer.end.why);
    message["stop_reason"] = reason.into();
    message["stop_sequence"] = sequence;
    json_response(StatusCode::OK, &message)
}

/// The answer as blocks, one open at a time.
pub(crate) struct Blocks {
    label: Label,
    /// What the open block holds; none before the first.
    open: Option<Kind>,
    index: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Thinking,
    Text,
}

impl Blocks {
    pub(crate) fn new(label: Label) -> Self {
        Self { label, open: None, index: 0 }
    }

    /// Opens a block, unless one of its kind is open.
    fn switch(&mut self, kind: Kind) -> String {
        if self.open == Some(kind) {
            return String::new();
        }
        let closed = self.close();
        self.open = Some(kind);
        let block = match kind {
            Kind::Thinking => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Kind::Text => json!({"type": "text", "text": ""}),
        };
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
    fn started(&mut self, counts: &Counts) -> String {
        event("message_start", json!({"message": message(&self.label, json!([]), counts)}))
    }

    fn piece(&mut self, piece: Piece) -> String {
        match piece {
            Piece::Reasoning(part) => {
                self.switch(Kind::Thinking) + &self.delta(json!({"type": "thinking_delta", "thinking": part}))
            }
            Piece::Text(part) => self.switch(Kind::Text) + &self.delta(json!({"type": "text_delta", "text": part})),
        }
    }

    fn ended(&mut self, end: &End) -> String {
        // An answer has a text, even if it is empty.
        let mut text = self.switch(Kind::Text) + &self.close();
        let (reason, sequence) = stop_reason(&end.why);
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        text += &event("message_delta", json!({"delta": delta, "usage": usage(&end.counts)}));
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
        Finish::Length => ("max_tokens", Value::Null),
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
