//! Answers that clients bring back, each in its own way, have the tokens with which they were sampled.

mod common;

use common::server::{Server, ask};
use serde_json::{Value, json};

const QUESTION: &str = "Tell a long tale of ünïcode 🙂 knots and xylophones.";

/// A question at temperature 1, and the message that answers it.
fn answered(server: &Server, seed: u64) -> (Value, Value) {
    let mut body = ask(QUESTION);
    (body["temperature"], body["seed"], body["max_tokens"]) = (1.into(), seed.into(), 24.into());
    let message = server.chat(body.clone())["choices"][0]["message"].clone();
    (body, message)
}

/// How many answers of the last prompt were put back as sampled.
fn replayed(server: &Server) -> u64 {
    let trace = std::fs::read_to_string(server.home.file("trace.txt")).unwrap();
    let line = trace.lines().rfind(|line| line.contains(" prompt: ")).unwrap().to_owned();
    let (before, _) = line.split_once(" answers as sampled").unwrap();
    before.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// Asks on after `message` as the assistant's, and returns the answer.
fn ask_on(server: &Server, mut body: Value, message: Value) -> Value {
    let turns = body["messages"].as_array_mut().unwrap();
    turns.extend([message, json!({"role": "user", "content": "And?"})]);
    body["max_tokens"] = 1.into();
    server.chat(body)
}

#[test]
fn every_way_to_echo_an_answer_brings_its_tokens_back() {
    let server = Server::start(&["--trace", "trace.txt"]);
    let (body, message) = answered(&server, 1);
    let text = message["content"].as_str().unwrap();
    let assistant = |content: Value| json!({"role": "assistant", "content": content});
    for echo in [
        message.clone(),
        assistant(text.trim().into()),
        assistant(json!([{"type": "text", "text": text}])),
        assistant(json!([{"type": "text", "text": format!("{text}\n"), "cache_control": {"type": "ephemeral"}}])),
        json!({"role": "assistant", "content": text, "reasoning": "", "refusal": null}),
    ] {
        ask_on(&server, body.clone(), echo);
        assert_eq!(replayed(&server), 1);
    }
    ask_on(&server, body, assistant(format!("{text} edited").into()));
    assert_eq!(replayed(&server), 0);
}

#[test]
fn the_other_api_finds_the_turn_too() {
    let server = Server::start(&["--trace", "trace.txt"]);
    let (body, message) = answered(&server, 2);
    let content = json!([{"type": "text", "text": message["content"], "cache_control": {"type": "ephemeral"}}]);
    let messages =
        json!([body["messages"][0], {"role": "assistant", "content": content}, {"role": "user", "content": "And?"}]);
    let thinking = json!({"type": "disabled"});
    server.post("/v1/messages", &json!({"max_tokens": 1, "thinking": thinking, "messages": messages})).json();
    assert_eq!(replayed(&server), 1);
}

#[test]
fn nothing_of_the_old_conversation_is_computed_again() {
    // H141: the client shows neither the reasoning nor the spaces around the text.
    let server = Server::start(&["--trace", "trace.txt"]);
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
    let mut body =
        json!({"messages": [{"role": "user", "content": QUESTION}], "tools": [tool], "seed": 3, "max_tokens": 24});
    for turn in 1..=5 {
        let answer = server.chat(body.clone());
        let count = |name: &str| answer["usage"][name].as_u64().unwrap();
        let said = count("prompt_tokens") + count("completion_tokens");
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap().trim().to_owned();
        let turns = body["messages"].as_array_mut().unwrap();
        turns.extend([json!({"role": "assistant", "content": text}), json!({"role": "user", "content": QUESTION})]);
        let next = server.chat(body.clone());
        let cached = next["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
        // The last token of an answer is drawn and never read.
        assert!(cached >= said - 1, "turn {turn}: {cached} of {said} tokens");
        assert_eq!(replayed(&server), turn);
    }
}

#[test]
fn a_switch_tokenises_answers_again() {
    // H108
    let server = Server::start(&["--trace", "trace.txt", "--disable-exact-dsml-tool-replay"]);
    let (body, message) = answered(&server, 1);
    ask_on(&server, body, message);
    assert_eq!(replayed(&server), 0);
}

#[test]
fn only_so_many_answers_are_remembered() {
    // H109
    let server = Server::start(&["--trace", "trace.txt", "--tool-memory-max-ids", "1"]);
    let (body, message) = answered(&server, 1);
    ask_on(&server, body.clone(), message.clone());
    assert_eq!(replayed(&server), 1);
    ask_on(&server, body, message);
    assert_eq!(replayed(&server), 0, "the second answer has taken the place of the first");
}
