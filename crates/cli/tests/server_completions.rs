//! `/v1/completions`.

mod common;

use common::server::Server;
use serde_json::{Value, json};

fn complete(server: &Server, body: &Value) -> Value {
    server.post("/v1/completions", body).ok()
}

#[test]
fn a_prompt_is_completed_whole_or_in_pieces() {
    // H113
    let server = Server::start(&["--trace", "trace.txt"]);
    let mut body = json!({"prompt": "Reply with exactly: green falcon", "think": false, "temperature": 0});
    let answer = complete(&server, &body);
    assert!(answer["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["choices"][0]["text"], "green falcon");
    assert_eq!((&answer["choices"][0]["index"], &answer["choices"][0]["finish_reason"]), (&json!(0), &json!("stop")));
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() > 1);
    let rendered = "<｜begin▁of▁sentence｜>You are a helpful assistant<｜User｜>Reply with exactly: green falcon\
                    <｜Assistant｜></think>\n";
    assert!(std::fs::read_to_string(server.home.file("trace.txt")).unwrap().contains(rendered));

    body["prompt"] = json!(["Reply with exactly: green falcon", "another"]);
    assert_eq!(complete(&server, &body)["choices"][0]["text"], "green falcon");

    (body["stream"], body["stream_options"]) = (true.into(), json!({"include_usage": true}));
    let events = server.post("/v1/completions", &body).events();
    let chunks: Vec<Value> = events.iter().filter(|e| e.data.starts_with('{')).map(|e| e.json()).collect();
    let text: String = chunks.iter().filter_map(|c| c["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "green falcon");
    let [.., finish, usage] = &chunks[..] else { panic!("{chunks:?}") };
    assert_eq!((&finish["choices"][0]["text"], &finish["choices"][0]["finish_reason"]), (&json!(""), &json!("stop")));
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"].is_u64()), (&json!([]), &true));
    assert_eq!(events.last().unwrap().data, "[DONE]");
}

#[test]
fn reasoning_is_part_of_the_text() {
    let server = Server::start(&[]);
    let answer = complete(&server, &json!({"prompt": "What is 7 + 8?", "seed": 3}));
    let text = answer["choices"][0]["text"].as_str().unwrap();
    assert_eq!(text.matches("</think>").count(), 1, "{text}");
}

#[test]
fn what_cannot_be_completed_is_named() {
    let server = Server::start(&["-c", "50"]);
    let error = |body: Value| server.post("/v1/completions", &body).error(400);
    assert_eq!(error(json!({})), "missing prompt");
    assert_eq!(error(json!({"prompt": []})), "missing prompt");
    assert!(error(json!({"prompt": [1, 2]})).contains("prompt[0]: invalid type: integer `1`, expected a string"));
    assert_eq!(error(json!({"prompt": "a", "n": 9})), "n: 9 answers, at most 8 are possible");
    let long = server.post("/v1/completions", &json!({"prompt": "river stone ".repeat(40)})).json();
    assert_eq!((&long["error"]["param"], &long["error"]["n_ctx"]), (&json!("prompt"), &json!(50)));
}
