//! `ds4 serve`: what `/v1/stats` shows.

mod common;

use common::server::{Server, ask};
use serde_json::{Value, json};

fn stats(server: &Server) -> Value {
    server.get("/v1/stats").ok()
}

#[test]
fn what_was_done_is_counted_without_anyones_text() {
    let server = Server::start(&["-c", "2000", "--sessions", "2", "--queue", "3"]);
    let before = stats(&server);
    assert_eq!(before["status"], "ok");
    assert_eq!(before["model"]["context_length"], 2000);
    let requests = &before["requests"];
    assert_eq!((&requests["running"], &requests["running_limit"]), (&json!(0), &json!(2)));
    assert_eq!((&requests["waiting"], &requests["waiting_limit"]), (&json!(0), &json!(3)));
    assert_eq!((&requests["now"], &before["tokens"]["first_token_s"]), (&json!([]), &json!(null)));
    let plan = &before["memory"]["plan_bytes"];
    assert!(plan["weights"].as_u64() > Some(1 << 20) && plan["context"].as_u64() > Some(0), "{plan}");

    let secret = "Reply with exactly: green falcon";
    let usage = server.chat(ask(secret))["usage"].take();
    server.chat(ask(secret));
    let after = server.get("/v1/stats");
    assert_eq!(after.header("cache-control"), Some("no-store"));
    let after = after.text();
    assert!(!after.contains("falcon") && after.len() < 2000, "{after}");
    let after: Value = serde_json::from_str(&after).unwrap();
    let ended = json!({"stop": 2, "length": 0, "tool_calls": 0, "unterminated": 0, "left": 0, "failed": 0});
    assert_eq!((&after["requests"]["started"], &after["requests"]["ended"]), (&json!(2), &ended));
    let tokens = &after["tokens"];
    assert_eq!(tokens["prompt"], 2 * usage["prompt_tokens"].as_u64().unwrap());
    assert!(tokens["cached"].as_u64() > Some(0) && tokens["cached"] == after["cache"]["memory_tokens"], "{after}");
    assert!(after["cache"]["pages"].as_u64() > Some(0), "{after}");
    assert_eq!(tokens["generated"].as_u64().unwrap() % 2, 0);
    assert!(tokens["first_token_s"].is_f64(), "{tokens}");
}

#[test]
fn a_request_is_seen_while_it_waits_and_while_it_runs_and_is_gone_with_its_client() {
    let server = Server::start(&["-c", "100000", "--sessions", "1"]);
    let mut long = ask(&"river stone ".repeat(20_000));
    long["stream"] = true.into();
    let first = server.post("/v1/chat/completions", &long);
    let second = server.post("/v1/chat/completions", &long);
    server.wait(|| stats(&server)["requests"]["waiting"] == 1 && stats(&server)["requests"]["running"] == 1);
    let now = stats(&server)["requests"]["now"].take();
    assert_eq!((&now[0]["phase"], &now[1]["phase"]), (&json!("prompt"), &json!("queued")));
    assert!(now[0]["prompt_tokens"].as_u64() > Some(20_000) && now[0]["prompt_tokens"] == now[1]["prompt_tokens"]);
    drop(second);
    drop(first);
    server.wait(|| stats(&server)["requests"]["now"] == json!([]));
    assert_eq!(stats(&server)["requests"]["ended"]["left"], 2);
}
