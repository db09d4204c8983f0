//! Several requests at once, and what each conversation keeps.

mod common;

use common::Home;
use common::server::{Answer, Server, ask};
use serde_json::{Value, json};

fn server(sessions: &str) -> Server {
    Server::start(&["-c", "100000", "--sessions", sessions])
}

/// A prompt that nobody wants to wait for.
fn long() -> Value {
    let mut body = ask(&"river stone ".repeat(20_000));
    body["max_tokens"] = 1.into();
    body
}

/// Sends a request that streams, without waiting for its answer.
fn send(server: &Server, mut body: Value) -> Answer {
    body["stream"] = true.into();
    server.post("/v1/chat/completions", &body)
}

fn running(server: &Server) -> u64 {
    server.health()["running"].as_u64().unwrap()
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

fn cached(answer: &Value) -> u64 {
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

#[test]
fn a_short_request_does_not_wait_for_a_long_one() {
    let server = server("2");
    let long = send(&server, long());
    server.wait(|| running(&server) == 1);
    assert_eq!(content(&server.chat(ask("What is 7 + 8?"))), "15");
    let health = server.health();
    assert_eq!((&health["running"], &health["running_limit"]), (&json!(1), &json!(2)), "the long one still runs");
    drop(long);
    server.wait(|| running(&server) == 0);
}

#[test]
fn more_requests_than_sessions_wait_in_order() {
    let server = server("2");
    let first = send(&server, long());
    let _second = send(&server, long());
    server.wait(|| running(&server) == 2);
    let mut third = send(&server, ask("What is 7 + 8?"));
    assert_eq!(third.next_events().unwrap()[0].comment, "queued, 2 before this");
    drop(first);
    let text: String = third
        .events()
        .iter()
        .filter(|e| e.data.starts_with('{'))
        .filter_map(|e| e.json()["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, "15");
}

#[test]
fn a_side_request_leaves_a_conversation_alone() {
    let server = server("2");
    let user = |text: &str| json!({"role": "user", "content": text});
    let system = json!({"role": "system", "content": "Be short."});
    let mut body = ask("");
    let question = "The river is wide and the stone is old. ".repeat(4) + "What is 7 + 8?";
    body["messages"] = json!([system, user(&question)]);
    let first = server.chat(body.clone());
    // The same system text, another conversation.
    body["messages"] = json!([system, user("What is 3 + 4?")]);
    assert_eq!(cached(&server.chat(body.clone())), 0);

    let said = json!({"role": "assistant", "content": content(&first)});
    body["messages"] = json!([system, user(&question), said, user("What is 2 + 2?")]);
    let next = server.chat(body);
    let prompt = first["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(cached(&next) >= prompt - 1, "{}", next["usage"]);
}

#[test]
fn answers_in_company_are_those_given_alone() {
    let server = server("4");
    let bodies: Vec<Value> = (1..=4)
        .map(|seed| {
            let text = "Tell me about the river. ".repeat(seed * 9);
            json!({"messages": [{"role": "user", "content": text}], "seed": seed, "max_tokens": 60})
        })
        .collect();
    let together: Vec<Value> = std::thread::scope(|scope| {
        let threads: Vec<_> = bodies.iter().map(|body| scope.spawn(|| server.chat(body.clone()))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for (body, answer) in bodies.into_iter().zip(together) {
        let alone = server.chat(body);
        assert_eq!(alone["choices"], answer["choices"]);
    }
}

#[test]
fn sessions_are_counted_and_planned() {
    let server = server("3");
    assert!(server.log().contains("context 100000 for each of 3 sessions, 300288 tokens in all"), "{}", server.log());
    let home = Home::new();
    home.ds4(&["serve", "--sessions", "0"])
        .fails(2, "ds4: invalid value for --sessions: 0 (a whole number from 1 to 256)");
    home.ds4(&["serve", "--prefill-quantum", "-1"])
        .fails(2, "ds4: invalid value for --prefill-quantum: -1 (a whole number from 0 to 60000)");
}
