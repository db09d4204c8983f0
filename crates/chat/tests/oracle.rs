//! Conversations rendered by the official encoder (April) and by vLLM 0.33 (the 0731 release's effort).

use ds4_chat::{Conversation, Effort, Message, Mode, Options, RawValue, Release, Role, Task, ToolCall, render};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    mode: String,
    reasoning_effort: Option<String>,
    messages: Vec<CaseMessage>,
    official: String,
    vllm_0_33: String,
}

/// OpenAI's form of a message, with the official encoder's extra members.
#[derive(Deserialize)]
struct CaseMessage {
    role: String,
    content: String,
    #[serde(default)]
    reasoning_content: String,
    #[serde(default)]
    tool_calls: Vec<CaseCall>,
    #[serde(default)]
    tool_call_id: String,
    #[serde(default)]
    tools: Vec<CaseTool>,
    response_format: Option<Box<RawValue>>,
    task: Option<String>,
}

#[derive(Deserialize)]
struct CaseTool {
    function: Box<RawValue>,
}

#[derive(Deserialize)]
struct CaseCall {
    id: String,
    function: CaseFunction,
}

#[derive(Deserialize)]
struct CaseFunction {
    name: String,
    arguments: String,
}

impl From<CaseMessage> for Message {
    fn from(case: CaseMessage) -> Self {
        let role = match case.role.as_str() {
            "system" => Role::System,
            "developer" => Role::Developer,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            "latest_reminder" => Role::LatestReminder,
            other => panic!("unknown role {other}"),
        };
        let task = case.task.map(|task| match task.as_str() {
            "action" => Task::Action,
            "query" => Task::Query,
            "authority" => Task::Authority,
            "domain" => Task::Domain,
            "read_url" => Task::ReadUrl,
            "title" => Task::Title,
            other => panic!("unknown task {other}"),
        });
        let call =
            |call: CaseCall| ToolCall { id: call.id, name: call.function.name, arguments: call.function.arguments };
        Self {
            reasoning: case.reasoning_content,
            tool_calls: case.tool_calls.into_iter().map(call).collect(),
            tool_call_id: case.tool_call_id,
            tools: case.tools.into_iter().map(|tool| tool.function).collect(),
            response_format: case.response_format,
            task,
            ..Self::new(role, case.content)
        }
    }
}

/// Calls `check` with what names a case, its conversation, its mode and effort, and the official and the vLLM text.
fn each_case(check: impl Fn(&str, &Conversation, Options, &str, &str)) {
    let Some(dir) = ds4_testkit::oracle("chat") else { return };
    let cases = std::fs::read_to_string(dir.join("cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&cases).unwrap();
    assert_eq!(cases.len(), 44);
    for case in cases {
        let mode = if case.mode == "thinking" { Mode::Thinking } else { Mode::Chat };
        let effort = match case.reasoning_effort.as_deref() {
            None => Effort::Default,
            Some("high") => Effort::High,
            Some("max") => Effort::Max,
            Some(other) => panic!("unknown effort {other}"),
        };
        let conversation = Conversation { messages: case.messages.into_iter().map(Message::from).collect() };
        let label = format!("{} {mode:?} {effort:?}", case.name);
        let options = Options { mode, effort, release: Release::April };
        check(&label, &conversation, options, &case.official, &case.vllm_0_33);
    }
}

#[test]
fn oracle_chat_official() {
    each_case(|label, conversation, options, official, _| {
        assert_eq!(render(conversation, &options).text, official, "{label}");
    });
}

#[test]
fn oracle_chat_vllm_0_33() {
    each_case(|label, conversation, options, _, vllm| {
        let options = Options { release: Release::July0731, ..options };
        assert_eq!(render(conversation, &options).text, vllm, "{label}");
    });
}

/// The messages of the cases hold no special strings, so every added token in the text must be marked.
#[test]
fn oracle_chat_specials_are_all_added_tokens() {
    let Some(dir) = ds4_testkit::oracle("tok") else { return };
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("tokenizer.json")).unwrap()).unwrap();
    let added: Vec<_> =
        file["added_tokens"].as_array().unwrap().iter().map(|t| t["content"].as_str().unwrap()).collect();
    each_case(|label, conversation, options, _, _| {
        let rendered = render(conversation, &options);
        let mut expected: Vec<_> = added
            .iter()
            .flat_map(|token| rendered.text.match_indices(token).map(|(at, token)| at..at + token.len()))
            .collect();
        expected.sort_by_key(|range| range.start);
        assert_eq!(rendered.specials, expected, "{label}");
    });
}
