//! `/v1/messages` and `/v1/messages/count_tokens`.

mod common;

use common::server::{Event, Server};
use serde_json::{Value, json};

/// A request without thinking, always the most probable token.
fn ask(prompt: &str) -> Value {
    let thinking = json!({"type": "disabled"});
    json!({"messages": [{"role": "user", "content": prompt}], "thinking": thinking, "temperature": 0, "max_tokens": 100})
}

fn messages(server: &Server, body: Value) -> Value {
    server.post("/v1/messages", &body).ok()
}

/// The events of a stream, without signs of life; each event's name is its type.
fn stream(server: &Server, mut body: Value) -> Vec<Value> {
    body["stream"] = true.into();
    let events = server.post("/v1/messages", &body).events();
    let checked = |event: &Event| {
        let json = event.json();
        assert_eq!(json["type"], event.name.as_str());
        json
    };
    events.iter().map(checked).filter(|event| event["type"] != "ping").collect()
}

fn types(events: &[Value]) -> Vec<String> {
    let mut types: Vec<String> = events
        .iter()
        .map(|e| match e["delta"]["type"].as_str() {
            Some(delta) => delta.to_owned(),
            None => e["type"].as_str().unwrap().to_owned(),
        })
        .collect();
    types.dedup();
    types
}

#[test]
fn a_whole_answer_has_the_known_shape() {
    // H114, H117
    let server = Server::start(&[]);
    let answer = messages(&server, ask("What is 7 + 8?"));
    assert!(answer["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!((&answer["type"], &answer["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(answer["content"], json!([{"type": "text", "text": "15"}]));
    assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&json!("end_turn"), &Value::Null));

    // H121
    let input = answer["usage"]["input_tokens"].as_u64().unwrap();
    assert_eq!(answer["usage"]["cache_read_input_tokens"], 0);
    let again = messages(&server, ask("What is 7 + 8?"));
    assert_eq!(again["usage"]["input_tokens"], 1);
    assert_eq!(again["usage"]["cache_read_input_tokens"], input - 1);
    assert_eq!(again["usage"]["cache_creation_input_tokens"], 0);
}

#[test]
fn why_an_answer_ends_is_said() {
    // H117
    let server = Server::start(&[]);
    let mut body = ask("Reply with exactly: green falcon");
    body["max_tokens"] = 2.into();
    assert_eq!(messages(&server, body.clone())["stop_reason"], "max_tokens");
    body["max_tokens"] = 100.into();
    body["stop_sequences"] = json!(["nothing", "falcon"]);
    let answer = messages(&server, body.clone());
    assert_eq!(answer["content"][0]["text"], "green ");
    assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&json!("stop_sequence"), &json!("falcon")));
    let events = stream(&server, body);
    assert_eq!(events[events.len() - 2]["delta"], json!({"stop_reason": "stop_sequence", "stop_sequence": "falcon"}));
}

/// The types of a stream's events with these blocks.
fn whole(blocks: &[&[&'static str]]) -> Vec<&'static str> {
    [&["message_start"][..], &blocks.concat(), &["message_delta", "message_stop"]].concat()
}

#[test]
fn a_stream_opens_one_block_at_a_time() {
    // H118, H119
    let server = Server::start(&[]);
    let events = stream(&server, json!({"messages": [{"role": "user", "content": "What is 7 + 8?"}]}));
    let text = ["content_block_start", "text_delta", "content_block_stop"];
    let thinking = ["content_block_start", "thinking_delta", "signature_delta", "content_block_stop"];
    assert_eq!(types(&events), whole(&[&thinking, &text]));
    let mut open = None;
    for event in &events {
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap() {
            "content_block_start" => assert_eq!(open.replace(index.unwrap()), None, "two blocks are open"),
            "content_block_delta" => assert_eq!(open, index),
            "content_block_stop" => assert_eq!(open.take(), index),
            _ => assert_eq!(open, None),
        }
    }
    let message = &events[0]["message"];
    assert!(message["usage"]["input_tokens"].as_u64().unwrap() > 3);
    let signature = events.iter().find_map(|e| e["delta"]["signature"].as_str()).unwrap();
    assert_eq!(message["id"], signature);
    assert!(events[events.len() - 2]["usage"]["output_tokens"].as_u64().unwrap() > 3);

    assert_eq!(types(&stream(&server, ask("What is 7 + 8?"))), whole(&[&text]));
    // An answer without any text has an empty one.
    let mut cut = json!({"messages": [{"role": "user", "content": "What is 7 + 8?"}], "max_tokens": 1});
    let empty = ["content_block_start", "content_block_stop"];
    assert_eq!(types(&stream(&server, cut.clone())), whole(&[&thinking, &empty]));
    let answer = messages(&server, cut.clone());
    assert_eq!(answer["content"][0]["type"], "thinking");
    assert_eq!(answer["content"][0]["signature"], answer["id"]);
    assert_eq!(answer["content"][1], json!({"type": "text", "text": ""}));
    cut["max_tokens"] = 0.into();
    assert_eq!(messages(&server, cut)["content"], json!([{"type": "text", "text": ""}]));
}

#[test]
fn thinking_is_chosen_in_several_ways() {
    // H122
    let server = Server::start(&[]);
    let thinks = |field: &str, value: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "What is 7 + 8?"}], "max_tokens": 100});
        body[field] = value;
        messages(&server, body)["content"][0]["type"] == "thinking"
    };
    assert!(thinks("metadata", Value::Null));
    assert!(thinks("thinking", json!({"type": "adaptive", "display": "omitted"})));
    assert!(thinks("output_config", json!({"effort": "high"})));
    assert!(!thinks("thinking", json!({"type": "disabled"})));
    assert!(!thinks("output_config", json!({"effort": "none"})));
    assert!(!thinks("reasoning_effort", json!("none")));
    let empty = json!({"messages": [{"role": "user", "content": []}], "thinking": {"type": "disabled"}});
    let turn = server.post("/v1/messages/count_tokens", &empty).ok()["input_tokens"].as_u64().unwrap();
    assert_eq!(turn, 4, "a turn without content is a turn: beginning, user, assistant, end of thinking");
    let mut body = ask("Hi");
    body["output_config"] = json!({"effort": "huge"});
    let error = server.post("/v1/messages", &body).error(400);
    assert!(error.starts_with("output_config.effort: unknown effort \"huge\""), "{error}");
}

#[test]
fn a_conversation_of_blocks_becomes_the_official_text() {
    // H115, H116
    let server = Server::start(&["--trace", "trace.txt"]);
    messages(
        &server,
        json!({
            "max_tokens": 1,
            "thinking": {"type": "disabled"},
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "string"}}},
            "system": [
                {"type": "text", "text": "x-anthropic-billing-header: abc"},
                {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}},
                {"text": "Be brief.", "type": "text"},
            ],
            "tools": [
                {"input_schema": {"type": "object", "properties": {}}, "description": "d", "name": "look"},
                {"type": "web_search_20250305", "name": "web_search"},
                {"name": "fetch", "input_schema": {}, "defer_loading": true},
                {"name": "later", "input_schema": {}, "defer_loading": true},
            ],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "first"}]},
                {"role": "system", "content": "Later rules."},
                {"role": "assistant", "content": [
                    {"thinking": "hm", "signature": "", "type": "thinking"},
                    {"type": "text", "text": "I look."},
                    {"input": {"b": 1, "a": "x"}, "name": "look", "id": "t1", "type": "tool_use"},
                    {"type": "tool_use", "id": "t2", "name": "look", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"content": "two", "tool_use_id": "t2", "type": "tool_result"},
                    {"type": "tool_result", "tool_use_id": "t1", "content": [
                        {"text": "one", "type": "text"}, {"type": "image", "source": {}},
                        {"type": "tool_reference", "tool_name": "fetch"}]},
                    {"type": "text", "text": "and?"},
                ]},
            ],
        }),
    );
    let trace = std::fs::read_to_string(server.home.file("trace.txt")).unwrap();
    for part in [
        "<｜begin▁of▁sentence｜>Be kind.\nBe brief.\n\n## Tools\n\n",
        "\n{\"name\": \"look\", \"description\": \"d\", \"parameters\": {\"type\": \"object\", \"properties\": {}}}\n\n",
        "schema to reply:\n{\"type\": \"string\"}<｜User｜>first\n\n<system-reminder>\nLater rules.\n</system-reminder><｜Assistant｜></think>I look.\n\n<｜DSML｜tool_calls>\n",
        "<｜DSML｜parameter name=\"b\" string=\"false\">1</｜DSML｜parameter>\n\
         <｜DSML｜parameter name=\"a\" string=\"true\">x</｜DSML｜parameter>\n",
        "<｜User｜><tool_result>one\n[image omitted: this model reads text only]\n\
         These tools can be called now:\n{\"name\": \"fetch\", \"parameters\": {}}</tool_result>\
         \n\n<tool_result>two</tool_result>\n\nand?<｜Assistant｜></think>\n",
    ] {
        assert!(trace.contains(part), "{part}\n---\n{trace}");
    }
    assert!(!trace.contains("billing") && !trace.contains("web_search") && !trace.contains("later\""));
}

#[test]
fn tokens_are_counted_as_they_will_be_read() {
    // H125 (in this model's tokens), H126
    let server = Server::start(&["-c", "200000"]);
    let body = json!({"messages": [{"role": "user", "content": "Count me"}]});
    let count = server.post("/v1/messages/count_tokens?beta=true", &body).ok()["input_tokens"].as_u64().unwrap();
    let mut asked = body.clone();
    asked["max_tokens"] = 1.into();
    assert_eq!(messages(&server, asked)["usage"]["input_tokens"], count);

    // While something else runs.
    let mut long = json!({"messages": [{"role": "user", "content": "river stone ".repeat(45_000)}], "stream": true});
    long["max_tokens"] = 1.into();
    let running = server.post("/v1/messages", &long);
    server.wait(|| server.health()["running"] == 1);
    // As many at once as a client asks to show what fills its context.
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = || server.post("/v1/messages/count_tokens?beta=true", &body).ok()["input_tokens"].clone();
        let asked: Vec<_> = (0..23).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| *answer == count), "{answers:?}");
    assert_eq!(server.health()["running"], 1, "the other one runs on");
    assert_eq!(server.health()["running"], 1);
    drop(running);
}
