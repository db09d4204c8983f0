//! The items of an answer, as JSON.

use ds4_chat::ToolCall;
use serde_json::{Value, json};

use super::tools::{Form, Wire};

/// An item.
pub(super) enum Item {
    Reasoning(String),
    Message(String),
    Call(Call),
}

/// A call.
pub(super) struct Call {
    pub(super) call: ToolCall,
    pub(super) wire: Wire,
    /// What was told of a custom tool's input.
    pub(super) told: String,
    /// Whether the arguments that come are the inside of that input.
    quoted: bool,
}

impl Item {
    /// How its id begins.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Reasoning(_) => "rs",
            Self::Message(_) => "msg",
            Self::Call(call) => match call.wire.form {
                Form::Function => "fc",
                Form::Custom => "ctc",
                Form::Search => "tsc",
            },
        }
    }

    /// The item as far as it has come.
    pub(super) fn json(&self, id: &str, status: &str) -> Value {
        match self {
            Self::Reasoning(text) => {
                json!({"id": id, "type": "reasoning", "status": status, "summary": parts(text, &summary(text))})
            }
            Self::Message(text) => {
                let content = parts(text, &content(text));
                json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
            }
            Self::Call(call) => call.json(id, status),
        }
    }
}

/// A list of one part, or of none as long as nothing is said.
fn parts(text: &str, part: &Value) -> Value {
    if text.is_empty() { json!([]) } else { json!([part]) }
}

/// What reasoning consists of.
pub(super) fn summary(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

/// What a message consists of.
pub(super) fn content(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

impl Call {
    pub(super) fn new(call: ToolCall, wire: Wire) -> Self {
        Self { call, wire, told: String::new(), quoted: false }
    }

    fn json(&self, id: &str, status: &str) -> Value {
        let Self { call, wire, .. } = self;
        let mut item = match wire.form {
            Form::Function => json!({
                "id": id,
                "type": "function_call",
                "status": status,
                "name": wire.name,
                "call_id": call.id,
                "arguments": call.arguments,
            }),
            Form::Custom => json!({
                "id": id,
                "type": "custom_tool_call",
                "status": status,
                "name": wire.name,
                "call_id": call.id,
                "input": self.input(),
            }),
            Form::Search => json!({
                "id": id,
                "type": "tool_search_call",
                "status": status,
                "call_id": call.id,
                "execution": "client",
                "arguments": serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({})),
            }),
        };
        if let Some(namespace) = &wire.namespace {
            item["namespace"] = namespace.as_str().into();
        }
        item
    }

    /// The input of a custom tool: its only argument, whatever the model called it; else all that it wrote.
    pub(super) fn input(&self) -> String {
        let arguments = &self.call.arguments;
        let Ok(Value::Object(members)) = serde_json::from_str(arguments) else { return arguments.clone() };
        let input = members.get("input").or_else(|| members.values().next().filter(|_| members.len() == 1));
        input.and_then(Value::as_str).unwrap_or(if members.is_empty() { "" } else { arguments }).to_owned()
    }

    /// More of a custom tool's input, out of a piece of the arguments. What cannot be told by pieces is told in the end.
    pub(super) fn input_of(&mut self, piece: &str) -> String {
        if piece == "{\"input\":\"" {
            self.quoted = true;
            return String::new();
        }
        let text = serde_json::from_str(&format!("\"{piece}\"")).ok().filter(|_| self.quoted);
        let text: String = text.unwrap_or_else(|| {
            self.quoted = false;
            String::new()
        });
        self.told += &text;
        text
    }
}
