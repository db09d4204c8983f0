//! What `/v1/responses` answers.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use ds4_chat::{Event as Piece, ToolCall};
use serde_json::{Value, json};

use super::memory::{Kept, Memory};
use super::output::{Call, Item, content, summary};
use super::tools::{Form, Names};
use crate::Error;
use crate::error::json_response;
use crate::progress::{Counts, End, Finish};
use crate::server::Label;
use crate::sse::Events;
use crate::whole::Whole;

/// What an answer needs to know of its request.
pub(super) struct Asked {
    /// Fields that come back as they were understood.
    pub(super) echo: Value,
    /// Whether the client wants to see what the model thinks.
    pub(super) shows_reasoning: bool,
    /// What the model's calls are to the client.
    pub(super) names: Names,
    /// What is to be remembered, if anything is.
    pub(super) keep: Option<Kept>,
}

/// The answer as items, one open at a time: reasoning, message, calls.
pub(super) struct Items {
    label: Label,
    asked: Asked,
    memory: Arc<Memory>,
    /// Number of the next event.
    sequence: u64,
    /// Items that are complete, or broke off.
    output: Vec<Value>,
    /// The item under way, and its id.
    open: Option<(String, Item)>,
}

impl Items {
    pub(super) fn new(label: Label, asked: Asked, memory: Arc<Memory>) -> Self {
        Self { label, asked, memory, sequence: 0, output: Vec::new(), open: None }
    }

    /// The whole answer, which is how the stream of its pieces would end.
    pub(super) fn whole(mut self, answer: &Whole) -> Response {
        if !answer.reasoning.is_empty() {
            self.piece(Piece::Reasoning(answer.reasoning.clone()));
        }
        if !answer.text.is_empty() {
            self.piece(Piece::Text(answer.text.clone()));
        }
        for call in &answer.calls {
            self.piece(Piece::Call(call.clone()));
            self.piece(Piece::Called(call.clone()));
        }
        let (_, response) = self.finish(&answer.end);
        json_response(StatusCode::OK, &response)
    }

    /// An event: its type first, then its number.
    fn event(&mut self, kind: &str, data: Value) -> String {
        let number = self.sequence;
        self.sequence += 1;
        numbered(kind, number, data)
    }

    /// An event about the item `id`, which is the next of the output.
    fn item_event(&mut self, kind: &str, id: &str, data: Value) -> String {
        let place = json!({"item_id": id, "output_index": self.output.len()});
        self.event(kind, joined(place, data))
    }

    /// Opens an item after completing the one before.
    fn open(&mut self, item: Item) -> String {
        let before = self.close("completed");
        let place = self.label.id.trim_start_matches("resp_");
        let id = format!("{}_{place}-{}", item.prefix(), self.output.len());
        let added = json!({"output_index": self.output.len(), "item": item.json(&id, "in_progress")});
        let mut text = before + &self.event("response.output_item.added", added);
        text += &match &item {
            Item::Reasoning(_) => {
                let part = json!({"summary_index": 0, "part": summary("")});
                self.item_event("response.reasoning_summary_part.added", &id, part)
            }
            Item::Message(_) => {
                let part = json!({"content_index": 0, "part": content("")});
                self.item_event("response.content_part.added", &id, part)
            }
            Item::Call(_) => String::new(),
        };
        self.open = Some((id, item));
        text
    }

    /// More of what the open item says; there is none if it is not meant for the client.
    fn more(&mut self, part: String) -> String {
        let Some((id, mut item)) = self.open.take() else { return String::new() };
        let event = match &mut item {
            Item::Reasoning(text) => {
                text.push_str(&part);
                let delta = json!({"summary_index": 0, "delta": part});
                self.item_event("response.reasoning_summary_text.delta", &id, delta)
            }
            Item::Message(text) => {
                text.push_str(&part);
                let delta = json!({"content_index": 0, "delta": part, "logprobs": []});
                self.item_event("response.output_text.delta", &id, delta)
            }
            Item::Call(call) => match call.wire.form {
                Form::Function => {
                    self.item_event("response.function_call_arguments.delta", &id, json!({"delta": part}))
                }
                Form::Custom => match call.input_of(&part) {
                    input if input.is_empty() => String::new(),
                    input => self.item_event("response.custom_tool_call_input.delta", &id, json!({"delta": input})),
                },
                Form::Search => String::new(),
            },
        };
        self.open = Some((id, item));
        event
    }

    /// Completes the open item, if there is one.
    fn close(&mut self, status: &str) -> String {
        let Some((id, item)) = self.open.take() else { return String::new() };
        let mut text = match &item {
            Item::Reasoning(text) => {
                let (done, part) =
                    (json!({"summary_index": 0, "text": text}), json!({"summary_index": 0, "part": summary(text)}));
                self.item_event("response.reasoning_summary_text.done", &id, done)
                    + &self.item_event("response.reasoning_summary_part.done", &id, part)
            }
            Item::Message(text) => {
                let (done, part) = (
                    json!({"content_index": 0, "text": text, "logprobs": []}),
                    json!({"content_index": 0, "part": content(text)}),
                );
                self.item_event("response.output_text.done", &id, done)
                    + &self.item_event("response.content_part.done", &id, part)
            }
            Item::Call(call) => self.called(&id, call),
        };
        let item = item.json(&id, status);
        text += &self.event("response.output_item.done", json!({"output_index": self.output.len(), "item": item}));
        self.output.push(item);
        text
    }

    /// What is still to be said of a call that is complete.
    fn called(&mut self, id: &str, call: &Call) -> String {
        match call.wire.form {
            Form::Function => {
                let mut done = json!({"name": call.wire.name, "arguments": call.call.arguments});
                if let Some(namespace) = &call.wire.namespace {
                    done["namespace"] = namespace.as_str().into();
                }
                self.item_event("response.function_call_arguments.done", id, done)
            }
            Form::Custom => {
                let input = call.input();
                let rest = input.strip_prefix(&call.told).filter(|rest| !rest.is_empty());
                let rest = rest.map(|rest| json!({"delta": rest}));
                let rest = rest.map(|rest| self.item_event("response.custom_tool_call_input.delta", id, rest));
                let done = self.item_event("response.custom_tool_call_input.done", id, json!({"input": input}));
                rest.unwrap_or_default() + &done
            }
            Form::Search => String::new(),
        }
    }

    /// The open item broke off: it is in the output, but nobody is told that it is done.
    fn break_off(&mut self) {
        if let Some((id, item)) = self.open.take() {
            self.output.push(item.json(&id, "incomplete"));
        }
    }

    /// The last events of the items, and the response that has ended.
    fn finish(&mut self, end: &End) -> (String, Value) {
        let reasoning = matches!(&self.open, Some((_, Item::Reasoning(_))));
        let (status, details, error) = match &end.why {
            Finish::Stop | Finish::StopString(_) | Finish::Calls => ("completed", Value::Null, Value::Null),
            Finish::Length | Finish::Unterminated { by_length: true } => {
                ("incomplete", json!({"reason": "max_output_tokens"}), Value::Null)
            }
            Finish::Unterminated { by_length: false } => {
                let message = "the model broke off inside a tool call";
                ("failed", Value::Null, json!({"code": "server_error", "message": message}))
            }
        };
        let last = match status {
            "failed" => "incomplete",
            _ if reasoning => "incomplete", // it never ended
            status => status,
        };
        let text = self.close(last);
        let mut response = self.response(status, usage(&end.counts));
        (response["incomplete_details"], response["error"]) = (details, error);
        response["timings"] = end.timings.json(&end.counts);
        if let Some(keep) = self.asked.keep.take().filter(|_| status != "failed") {
            self.memory.put(&self.label.id, Kept { output: response["output"].to_string(), ..keep });
        }
        (text, response)
    }

    /// The response as it is now.
    fn response(&self, status: &str, usage: Value) -> Value {
        let Label { id, model, created } = &self.label;
        let response = json!({
            "id": id,
            "object": "response",
            "created_at": created,
            "status": status,
            "model": model,
            "error": null,
            "incomplete_details": null,
            "instructions": null,
            "output": self.output,
            "tools": [],
            "truncation": "disabled",
            "usage": usage,
        });
        joined(response, self.asked.echo.clone())
    }
}

impl Events for Items {
    fn opened(&mut self) -> String {
        let response = self.response("in_progress", Value::Null);
        self.event("response.created", json!({"response": response}))
    }

    /// An event, for a comment does not start the timers of Codex anew. It takes no number: it has the last one's.
    fn alive(&mut self, _: &str) -> String {
        numbered("keepalive", self.sequence.saturating_sub(1), json!({}))
    }

    fn started(&mut self, _: &Counts) -> String {
        let response = self.response("in_progress", Value::Null);
        self.event("response.in_progress", json!({"response": response}))
    }

    fn piece(&mut self, piece: Piece) -> String {
        match piece {
            Piece::Reasoning(_) if !self.asked.shows_reasoning => String::new(),
            Piece::Reasoning(part) => {
                let opened = match &self.open {
                    Some((_, Item::Reasoning(_))) => String::new(),
                    _ => self.open(Item::Reasoning(String::new())),
                };
                opened + &self.more(part)
            }
            Piece::Text(part) => {
                let opened = match &self.open {
                    Some((_, Item::Message(_))) => String::new(),
                    _ => self.open(Item::Message(String::new())),
                };
                opened + &self.more(part)
            }
            Piece::Call(call) => {
                let wire = self.asked.names.wire(&call.name);
                self.open(Item::Call(Call::new(ToolCall { arguments: String::new(), ..call }, wire)))
            }
            Piece::Arguments(part) => self.more(part),
            Piece::Called(call) => {
                if let Some((_, Item::Call(open))) = &mut self.open {
                    open.call = call;
                }
                self.close("completed")
            }
            Piece::Broken(_) => {
                self.break_off();
                String::new()
            }
        }
    }

    fn ended(&mut self, end: &End) -> String {
        let (text, response) = self.finish(end);
        let kind = match response["status"].as_str() {
            Some("completed") => "response.completed",
            Some("incomplete") => "response.incomplete",
            _ => "response.failed",
        };
        text + &self.event(kind, json!({"response": response}))
    }

    fn failed(&mut self, error: &Error) -> String {
        self.break_off();
        let mut response = self.response("failed", Value::Null);
        response["error"] = json!({"code": "server_error", "message": error.to_string()});
        self.event("response.failed", json!({"response": response}))
    }
}

/// An event whose name is also its type.
fn numbered(kind: &str, number: u64, data: Value) -> String {
    let value = joined(json!({"type": kind, "sequence_number": number}), data);
    format!("event: {kind}\ndata: {value}\n\n")
}

/// The members of one object and then of another.
fn joined(mut first: Value, mut then: Value) -> Value {
    if let (Some(first), Some(then)) = (first.as_object_mut(), then.as_object_mut()) {
        first.append(then);
    }
    first
}

fn usage(counts: &Counts) -> Value {
    json!({
        "input_tokens": counts.prompt,
        "input_tokens_details": {"cached_tokens": counts.cached},
        "output_tokens": counts.generated,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.prompt + counts.generated,
    })
}
