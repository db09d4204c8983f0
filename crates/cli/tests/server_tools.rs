//! Tools on the built-in model, which has learned to call them.

mod common;

use common::server::{Event, Server};
use serde_json::{Value, json};

const SAID: &str = "Use get_weather with city Paris and days 3.";

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    })
}

fn chat(think: bool) -> Value {
    let function = json!({"name": "get_weather", "description": "Get the weather", "parameters": schema()});
    let messages = json!([{"role": "user", "content": SAID}]);
    let tools = json!([{"type": "function", "function": function}]);
    json!({"messages": messages, "tools": tools, "temperature": 0, "think": think, "seed": 1})
}

fn arguments() -> Value {
    json!({"city": "Paris", "days": 3})
}

/// Asks on with the result of the call.
fn with_result(mut body: Value, message: &Value) -> Value {
    let result = json!({"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "ok"});
    body["messages"].as_array_mut().unwrap().extend([message.clone(), result]);
    body
}

#[test]
fn a_tool_is_called_and_its_result_answered_and_only_that_is_new() {
    // H092, H107, H112
    let server = Server::start(&[]);
    for think in [false, true] {
        let body = chat(think);
        let called = server.chat(body.clone());
        let choice = &called["choices"][0];
        let (message, call) = (&choice["message"], &choice["message"]["tool_calls"][0]);
        assert_eq!((&choice["finish_reason"], &message["content"]), (&json!("tool_calls"), &json!("")), "{called}");
        assert_eq!(message["reasoning_content"].is_string(), think);
        assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("get_weather")));
        let said: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
        assert_eq!(said, arguments());

        let answered = server.chat(with_result(body, message));
        assert_eq!(answered["choices"][0]["message"]["content"], "Done.");
        let cached = answered["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        let old = called["usage"]["total_tokens"].as_u64().unwrap();
        assert!(cached >= old - 1, "only the last token may never have been read: {cached} of {old}");
    }
}

#[test]
fn a_streamed_call_is_the_same() {
    // H093, H095, H111
    let server = Server::start(&[]);
    let body = chat(false);
    let whole = server.chat(body.clone())["choices"][0]["message"]["tool_calls"].clone();
    let events = server.stream(body);
    let chunks = events.iter().filter(|e| e.data.starts_with('{')).map(Event::json);
    let deltas: Vec<Value> = chunks.map(|c| c["choices"][0]["delta"]["tool_calls"][0].clone()).collect();
    let deltas: Vec<_> = deltas.iter().filter(|delta| delta.is_object()).collect();
    let arguments: String = deltas.iter().filter_map(|d| d["function"]["arguments"].as_str()).collect();
    assert!(deltas.len() > 3 && deltas.iter().all(|delta| delta["index"] == 0));
    assert_eq!(deltas[0]["id"], whole[0]["id"], "the seed gives the id");
    assert_eq!(whole[0]["function"], json!({"name": deltas[0]["function"]["name"], "arguments": arguments}));
}

#[test]
fn anthropics_clients_use_it_too() {
    // H120, H123
    let server = Server::start(&[]);
    let tools = json!([{"name": "get_weather", "description": "Get the weather", "input_schema": schema()}]);
    let thinking = json!({"type": "disabled"});
    let mut body = json!({"max_tokens": 100, "messages": [{"role": "user", "content": SAID}], "tools": tools});
    (body["temperature"], body["thinking"]) = (0.into(), thinking);
    let used = server.post("/v1/messages", &body).ok();
    let block = &used["content"][0];
    assert_eq!(
        (&used["stop_reason"], &block["type"], &block["input"]),
        (&json!("tool_use"), &json!("tool_use"), &arguments())
    );
    let result = json!([{"type": "tool_result", "tool_use_id": block["id"], "content": "ok"}]);
    let next = json!([{"role": "assistant", "content": used["content"]}, {"role": "user", "content": result}]);
    body["messages"].as_array_mut().unwrap().extend(next.as_array().unwrap().clone());
    let answered = server.post("/v1/messages", &body).ok();
    assert_eq!((&answered["content"][0]["text"], &answered["stop_reason"]), (&json!("Done."), &json!("end_turn")));
    let usage = |answer: &Value, field: &str| answer["usage"][field].as_u64().unwrap();
    let old = usage(&used, "input_tokens") + usage(&used, "cache_read_input_tokens") + usage(&used, "output_tokens");
    assert!(usage(&answered, "cache_read_input_tokens") >= old - 1);
}

#[test]
fn without_a_choice_there_is_no_call() {
    // H097
    let server = Server::start(&[]);
    let mut body = chat(false);
    body["tool_choice"] = "none".into();
    assert!(server.chat(body)["choices"][0]["message"].get("tool_calls").is_none());
}
