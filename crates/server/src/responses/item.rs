//! Items, in which requests and answers of the responses API are told, to messages.

use ds4_chat::{Message, RawValue, Role, ToolCall};
use serde::Deserialize;
use serde_json::json;

use super::memory::Memory;
use super::tools::{Names, SEARCH, Tool, joined};
use crate::Error;
use crate::text::{FOUND, List, Part, TextOr, omitted, raw_text, reminder};

/// Most items of earlier answers that a request may name: each is looked for in all of its answer.
const MAX_REFERENCES: usize = 256;

/// An item of any type; keys come in any order, and those that are not here say nothing to the model.
#[derive(Debug, Deserialize)]
pub(crate) struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
    role: Option<String>,
    content: Option<TextOr<Part>>,
    summary: Option<TextOr<Part>>,
    name: Option<String>,
    namespace: Option<String>,
    call_id: Option<String>,
    arguments: Option<Box<RawValue>>,
    input: Option<String>,
    action: Option<Box<RawValue>>,
    output: Option<Box<RawValue>>,
    tools: Option<List<Tool>>,
}

impl Item {
    /// A user's message.
    pub(super) fn said(text: String) -> Self {
        let (kind, id, summary, name, namespace, call_id) = Default::default();
        let (arguments, input, action, output, tools) = Default::default();
        let (role, content) = (Some("user".into()), Some(TextOr::Text(text)));
        Self { kind, id, role, content, summary, name, namespace, call_id, arguments, input, action, output, tools }
    }

    /// Whether this is its name.
    pub(super) fn is(&self, id: &str) -> bool {
        self.id.as_deref() == Some(id)
    }
}

/// A conversation as it is read, item by item.
pub(super) struct Talk<'m> {
    memory: &'m Memory,
    pub(super) names: Names,
    /// What instructs the model, before everything else.
    pub(super) system: Vec<String>,
    pub(super) tools: Vec<Box<RawValue>>,
    pub(super) messages: Vec<Message>,
    /// Items of earlier answers so far.
    references: usize,
}

impl<'m> Talk<'m> {
    pub(super) fn new(memory: &'m Memory) -> Self {
        Self {
            memory,
            names: Names::default(),
            system: Vec::new(),
            tools: Vec::new(),
            messages: Vec::new(),
            references: 0,
        }
    }

    /// Reads the next item.
    pub(super) fn add(&mut self, item: Item) -> Result<(), Error> {
        let kind = item.kind.clone().unwrap_or_else(|| if item.role.is_some() { "message" } else { "part" }.into());
        match kind.as_str() {
            "message" => self.message(item),
            "reasoning" => {
                let shown = item.content.map(TextOr::into_text).filter(|text| !text.is_empty());
                let text = shown.or(item.summary.map(TextOr::into_text)).unwrap_or_default();
                append(&mut self.answer().reasoning, &text);
            }
            "function_call" => self.call(item, |item| item.arguments.map(|a| raw_text(&a)).unwrap_or_default()),
            "custom_tool_call" => self.call(item, |item| json!({"input": item.input.unwrap_or_default()}).to_string()),
            "tool_search_call" => {
                let item = Item { name: Some(SEARCH.into()), ..item };
                self.call(item, |item| item.arguments.map_or_else(|| "{}".into(), |a| raw_text(&a)));
            }
            "tool_search_output" => {
                let tools = self.names.found(item.tools.map(|tools| tools.0).unwrap_or_default())?;
                let content = if tools.is_empty() { "No tools were found." } else { FOUND };
                let id = item.call_id.or(item.id).unwrap_or_default();
                self.messages.push(Message { tools, ..Message::tool_result(id, content) });
            }
            "additional_tools" => {
                let tools = item.tools.map(|tools| tools.0).unwrap_or_default();
                self.tools.extend(self.names.offer(tools)?);
            }
            // Their texts are the client's, or no texts.
            "compaction" | "context_compaction" | "compaction_trigger" => {}
            "item_reference" => {
                let id = item.id.unwrap_or_default();
                self.references += 1;
                if self.references > MAX_REFERENCES {
                    return Err(Error::Invalid(format!(
                        "input: more than {MAX_REFERENCES} references; use previous_response_id, or replay the items"
                    )));
                }
                let item = self.memory.item(&id).filter(|item| item.kind.as_deref() != Some("item_reference"));
                return self.add(item.ok_or(Error::Forgotten { param: "input", id })?);
            }
            kind if kind.ends_with("_output") => {
                let text = item.output.map(|output| output_text(&output)).unwrap_or_default();
                let id = item.call_id.or(item.id).unwrap_or_default();
                self.messages.push(Message::tool_result(id, text));
            }
            // Calls of tools that a client has by itself, such as local_shell.
            kind if kind.ends_with("_call") && item.call_id.is_some() => {
                let item = Item { name: Some(kind.trim_end_matches("_call").into()), namespace: None, ..item };
                self.call(item, |item| item.action.or(item.arguments).map_or_else(|| "{}".into(), |a| raw_text(&a)));
            }
            // What was done in a cloud, such as web_search.
            kind if kind.ends_with("_call") => append(&mut self.answer().content, &omitted(Some(kind))),
            kind => self.messages.push(Message::new(Role::User, omitted(Some(kind)))),
        }
        Ok(())
    }

    fn message(&mut self, item: Item) {
        let text = item.content.map(TextOr::into_text).unwrap_or_default();
        match item.role.as_deref() {
            Some("system" | "developer") if self.messages.is_empty() => self.system.push(text),
            Some("system" | "developer") => self.messages.push(Message::new(Role::User, reminder(&text))),
            Some("assistant") => append(&mut self.answer().content, &text),
            _ => self.messages.push(Message::new(Role::User, text)),
        }
    }

    fn call(&mut self, mut item: Item, arguments: impl FnOnce(Item) -> String) {
        let name = joined(item.namespace.as_deref(), item.name.as_deref().unwrap_or_default());
        let id = item.call_id.take().or(item.id.take()).unwrap_or_default();
        let call = ToolCall { id, name, arguments: arguments(item) };
        self.answer().tool_calls.push(call);
    }

    /// The answer that the items of one response belong to: all that the model said in a row.
    fn answer(&mut self) -> &mut Message {
        if self.messages.last().is_none_or(|last| last.role != Role::Assistant) {
            self.messages.push(Message::assistant("", ""));
        }
        let last = self.messages.len() - 1;
        &mut self.messages[last]
    }
}

fn append(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(more);
}

/// What a tool returned: a text, a list of parts, or any other JSON as it stands.
fn output_text(output: &RawValue) -> String {
    serde_json::from_str(output.get()).map_or_else(|_| output.get().to_owned(), TextOr::into_text)
}

#[cfg(test)]
mod tests {
    use ds4_chat::{Mode, Options, render};
    use serde_json::Value;

    use super::*;
    use crate::responses::Body;

    /// The text of a conversation, from the first user's turn on.
    fn read(input: Value) -> String {
        let (head, rest) = whole(json!({"input": input}));
        assert_eq!(head, "<｜begin▁of▁sentence｜>");
        rest
    }

    /// What stands before the first user's turn, and the rest.
    fn whole(body: Value) -> (String, String) {
        let request = Body::parse(body.to_string().as_bytes()).unwrap().into_request().unwrap();
        let options = Options { mode: Mode::Chat, ..Options::default() };
        let text = render(&request.conversation, &options).text;
        let at = text.find("<｜User｜>").unwrap_or(text.len());
        (text[..at].into(), text[at..].into())
    }

    #[test]
    fn a_text_and_items_of_messages() {
        // H127, H128
        assert_eq!(read(json!("hi")), "<｜User｜>hi<｜Assistant｜></think>");
        let parts = json!([{"type": "input_text", "text": "see"}, {"type": "input_image", "image_url": "x"}]);
        let items = json!([
            {"role": "developer", "content": "Be brief."},
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Be kind."}]},
            {"type": "message", "role": "user", "content": parts, "status": "completed"},
            {"id": "msg_1", "role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": []}]},
            {"role": "developer", "content": "Now in French."},
            {"role": "user", "content": "hi"},
        ]);
        let (head, rest) = whole(json!({"input": items, "instructions": "You code."}));
        assert_eq!(head, "<｜begin▁of▁sentence｜>You code.\n\nBe brief.\n\nBe kind.");
        assert_eq!(
            rest,
            "<｜User｜>see\n[image omitted: this model reads text only]<｜Assistant｜></think>a<｜end▁of▁sentence｜>\
             <｜User｜><system-reminder>\nNow in French.\n</system-reminder>\n\nhi<｜Assistant｜></think>",
            "what was said stays as it was when instructions come later"
        );
    }

    #[test]
    fn what_a_response_consists_of_is_one_turn() {
        // H134
        let items = json!([
            {"role": "user", "content": "q"},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "content": null},
            {"type": "message", "role": "assistant", "content": "I look."},
            {"type": "function_call", "name": "spawn", "namespace": "agents", "call_id": "1", "arguments": "{\"n\":1}"},
            {"type": "custom_tool_call", "name": "patch", "call_id": "2", "input": "a\nb"},
            {"type": "local_shell_call", "call_id": "3", "action": {"type": "exec", "command": ["ls"]}},
            {"type": "custom_tool_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "two"}]},
            {"type": "function_call_output", "call_id": "1", "output": "one"},
            {"type": "local_shell_call_output", "id": "3", "output": {"exit_code": 0}},
        ]);
        let parameter = |name: &str, string: bool, value: &str| {
            format!("<｜DSML｜parameter name=\"{name}\" string=\"{string}\">{value}</｜DSML｜parameter>\n")
        };
        let invoke =
            |name: &str, inside: &str| format!("<｜DSML｜invoke name=\"{name}\">\n{inside}</｜DSML｜invoke>\n");
        let calls = [
            invoke("agents__spawn", &parameter("n", false, "1")),
            invoke("patch", &parameter("input", true, "a\nb")),
            invoke("local_shell", &(parameter("type", true, "exec") + &parameter("command", false, "[\"ls\"]"))),
        ];
        let results = ["one", "two", "{\"exit_code\":0}"].map(|r| format!("<tool_result>{r}</tool_result>"));
        let expected = format!(
            "<｜User｜>q<｜Assistant｜></think>I look.\n\n<｜DSML｜tool_calls>\n{}</｜DSML｜tool_calls><｜end▁of▁sentence｜>\
             <｜User｜>{}<｜Assistant｜></think>",
            calls.concat(),
            results.join("\n\n")
        );
        assert_eq!(read(items), expected);
    }

    #[test]
    fn a_search_brings_tools_where_it_stands() {
        // H139
        let found = json!([{"type": "namespace", "name": "mcp", "tools": [{"type": "function", "name": "look"}]}]);
        let later = json!({"type": "function", "name": "later", "defer_loading": true});
        let (head, rest) = whole(json!({
            "tools": [{"type": "tool_search", "execution": "client", "parameters": {}}, later, {"type": "web_search"}],
            "input": [
                {"type": "additional_tools", "tools": [{"type": "function", "name": "more"}]},
                {"role": "user", "content": "q"},
                {"type": "tool_search_call", "call_id": "1", "execution": "client", "arguments": {"query": "look"}},
                {"type": "tool_search_output", "call_id": "1", "tools": found},
            ],
        }));
        assert!(head.contains("\n{\"name\": \"more\"}\n") && head.contains("\n{\"name\": \"tool_search\", "), "{head}");
        assert!(!head.contains("later") && !head.contains("web"), "{head}");
        assert!(rest.contains("<｜DSML｜invoke name=\"tool_search\">\n<｜DSML｜parameter name=\"query\""), "{rest}");
        let result = "<tool_result>These tools can be called now:\n{\"name\": \"mcp__look\"}</tool_result>";
        assert!(rest.contains(result), "{rest}");
        // Who has the server search gets them all at once.
        let tools = json!([{"type": "tool_search"}, {"type": "function", "name": "later", "defer_loading": true}]);
        assert!(whole(json!({"tools": tools, "input": "q"})).0.contains("{\"name\": \"later\"}"));
    }

    #[test]
    fn what_is_not_known_is_no_error() {
        // H140
        let items = json!([
            {"role": "user", "content": "q"},
            {"type": "web_search_call", "id": "ws_1", "status": "failed", "action": {"type": "search"}},
            {"type": "image_generation_call", "id": "ig_1", "result": "iVBOR"},
            {"type": "compaction", "encrypted_content": "x"},
            {"type": "context_compaction"},
            {"type": "hologram", "data": [1, 2]},
        ]);
        assert_eq!(
            read(items),
            "<｜User｜>q<｜Assistant｜></think>[web_search_call omitted: this model reads text only]\n\n\
             [image_generation_call omitted: this model reads text only]<｜end▁of▁sentence｜>\
             <｜User｜>[hologram omitted: this model reads text only]<｜Assistant｜></think>"
        );
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_place() {
        let error = |body: Value| Body::parse(body.to_string().as_bytes()).and_then(Body::into_request).unwrap_err();
        let items = json!([{"role": "user", "content": "q"}, {"role": "user", "content": 7}]);
        for (body, expected) in [
            (json!({}), "missing input"),
            (json!({"input": []}), "input: the list is empty, there is nothing to answer"),
            (
                json!({"input": 7}),
                "invalid JSON request: input: invalid type: integer `7`, expected a string or a list",
            ),
            (json!({"input": items}), "invalid JSON request: input[1].content: invalid type: integer `7`"),
            (json!({"input": "q", "text": {"format": 7}}), "invalid JSON request: text.format: invalid type"),
            (json!({"input": "q", "reasoning": {"effort": "huge"}}), "reasoning.effort: unknown effort \"huge\""),
        ] {
            let error = error(body).to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let function = json!({"type": "function", "name": "a__b"});
        let namespace = json!({"type": "namespace", "name": "a", "tools": [{"type": "function", "name": "b"}]});
        let error = error(json!({"input": "q", "tools": [function, namespace]})).to_string();
        assert_eq!(error, "tools: two of them would be \"a__b\" to the model; rename one");
    }
}
