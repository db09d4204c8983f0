//! What those who run `ds4 serve` see: readiness, metrics, tokens, the log.

mod common;

use std::collections::{HashMap, HashSet};

use common::Home;
use common::server::{Server, ask};
use serde_json::{Value, json};

/// The values of `/metrics`, by name and labels. Every value belongs to a family that is described before it.
fn metrics(server: &Server) -> HashMap<String, f64> {
    let answer = server.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    let (mut families, mut values) = (HashSet::new(), HashMap::new());
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind) && families.insert(name), "{line}");
        } else if !line.starts_with("# HELP ds4_") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let bare = name.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| bare.strip_suffix(end)).unwrap_or(bare);
            assert!(families.contains(family) || families.contains(bare), "{line}");
            assert_eq!(values.insert(name.to_owned(), value.parse().unwrap()), None, "{line}");
        }
    }
    values
}

#[test]
fn metrics_say_what_was_done_and_what_is_there() {
    let server = Server::start(&["--sessions", "2", "--queue", "5", "--kv-disk-dir", "kv"]);
    let before = metrics(&server);
    assert_eq!((before["ds4_healthy"], before["ds4_prompt_tokens_total"]), (1.0, 0.0));
    assert_eq!((before["ds4_requests_running_limit"], before["ds4_requests_waiting_limit"]), (2.0, 5.0));

    let answers = [server.chat(ask("What is 7 + 8?")), server.chat(ask("What is 7 + 8?"))];
    let events = server.stream(ask("Hello"));
    assert!(events.len() > 3);
    assert_eq!(server.post("/v1/messages", &json!({})).status, 400);
    assert_eq!(server.get("/nowhere/at/all").status, 404);
    let sum = |pointer: &str| -> f64 { answers.iter().map(|a| a.pointer(pointer).unwrap().as_f64().unwrap()).sum() };
    let prompts = sum("/usage/prompt_tokens");
    let cached = sum("/usage/prompt_tokens_details/cached_tokens");
    assert!(cached > 0.0);
    let after = metrics(&server);
    assert_eq!(after[r#"ds4_http_responses_total{endpoint="/v1/chat/completions",status="200"}"#], 3.0);
    assert_eq!(after[r#"ds4_http_responses_total{endpoint="/v1/messages",status="400"}"#], 1.0);
    assert_eq!(after[r#"ds4_http_responses_total{endpoint="unknown",status="404"}"#], 1.0);
    assert_eq!(after[r#"ds4_answers_total{finish="stop"}"#], 3.0);
    assert!(after["ds4_prompt_tokens_total"] > prompts && after["ds4_prompt_tokens_cached_total"] >= cached);
    assert!(after["ds4_generated_tokens_total"] > sum("/usage/completion_tokens"));
    assert_eq!(after["ds4_first_token_seconds_count"], 3.0);
    assert_eq!(after["ds4_first_token_seconds_bucket{le=\"+Inf\"}"], 3.0);
    assert!(after["ds4_prefill_seconds_total"] > 0.0 && after["ds4_decode_seconds_total"] > 0.0);
    assert_eq!(after[r#"ds4_cache_tokens_total{from="ram"}"#], after["ds4_prompt_tokens_cached_total"]);
    assert!(after["ds4_pages"] >= after["ds4_pages_used"] && after["ds4_resume_points_total"] > 0.0);
    assert!(after[r#"ds4_memory_plan_bytes{part="weights"}"#] > 1e6);
    assert_eq!(after[r#"ds4_tier_failures_total{tier="disk"}"#], 0.0);
    assert_eq!(after[&format!(r#"ds4_build_info{{version="{}",model="v4-mini"}}"#, env!("CARGO_PKG_VERSION"))], 1.0);
}

#[test]
fn a_server_is_ready_until_it_ends() {
    let mut server = Server::start(&["-c", "100000"]);
    assert_eq!(server.get("/ready").ok(), json!({"status": "ready"}));
    let mut long = ask("Hello");
    (long["stream"], long["max_tokens"]) = (true.into(), json!(100_000));
    let mut running = server.post("/v1/chat/completions", &long);
    running.next_events().unwrap();
    // A connection that is there before the port closes, in the middle of a request.
    let mut other = server.connect();
    std::io::Write::write_all(&mut other, b"POST /detokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{")
        .unwrap();
    assert_eq!(server.get("/ready").status, 200);
    server.signal("TERM");
    server.wait_for_log("shutting down");
    std::io::Write::write_all(&mut other, b"\"tokens\": []}").unwrap();
    let (text, _) = common::server::Answer::read_head(std::io::BufReader::new(other)).text_and_rest();
    assert!(text.contains("content"), "what was begun is answered: {text}");
    drop(running);
    assert_eq!(server.exit().code(), Some(0));
}

#[test]
fn tokens_of_a_text_and_of_a_chat_and_back() {
    let server = Server::start(&["-c", "500"]);
    let tokens = |body: Value| server.post("/tokenize", &body).ok()["tokens"].clone();
    let text = "naïve 🙂 text <｜User｜>";
    let plain = tokens(json!({"content": text}));
    assert_eq!(server.post("/detokenize", &json!({"tokens": plain})).ok(), json!({"content": text}));
    let marked = tokens(json!({"content": text, "add_special": true}));
    assert_eq!(marked.as_array().unwrap()[1..], plain.as_array().unwrap()[..]);
    let begin = server.post("/detokenize", &json!({"tokens": [marked[0]]})).ok();
    assert_eq!(begin["content"], "<｜begin▁of▁sentence｜>");

    let pieces = tokens(json!({"content": "🙂 a", "with_pieces": true}));
    let bytes = pieces.as_array().unwrap().iter().flat_map(|token| match &token["piece"] {
        Value::String(text) => text.clone().into_bytes(),
        bytes => serde_json::from_value(bytes.clone()).unwrap(),
    });
    assert_eq!(String::from_utf8(bytes.collect()).unwrap(), "🙂 a");

    // A chat has the tokens that it would be read as.
    let chat = ask("What is 7 + 8?");
    let prompt = tokens(chat.clone());
    let used = server.chat(chat)["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(prompt.as_array().unwrap().len() as u64, used);
    let read = server.post("/detokenize", &json!({"tokens": prompt})).ok();
    assert!(read["content"].as_str().unwrap().contains("What is 7 + 8?<｜Assistant｜>"), "{read}");

    let error = |path: &str, body: Value| server.post(path, &body).error(400);
    assert_eq!(
        error("/tokenize", json!({"content": "a".repeat((1 << 20) + 1)})),
        "content: 1048577 bytes, at most 1048576 are possible"
    );
    assert_eq!(error("/tokenize", json!({})), "missing messages");
    assert!(error("/tokenize", json!({"content": 5})).contains("content: invalid type"));
    assert!(error("/detokenize", json!({})).contains("missing field `tokens`"));
    assert!(error("/detokenize", json!({"tokens": [-1]})).contains("tokens[0]: invalid value"));
    assert!(
        error("/detokenize", json!({"tokens": [1, 4_000_000_000_u32]}))
            .starts_with("tokens[1]: there is no token 4000000000")
    );
    assert!(error("/detokenize", json!({"tokens": vec![1; (1 << 17) + 1]})).contains("more than 131072 items"));
}

#[test]
fn other_servers_own_pages_are_not_imitated() {
    // Clients that look for them would take this server for another and expect the rest.
    let server = Server::start(&[]);
    for path in ["/props", "/slots", "/api/tags", "/api/show", "/api/version"] {
        assert_eq!(server.get(path).error(404), format!("unknown endpoint: {path}"));
    }
}

#[test]
fn the_log_can_be_read_by_programs() {
    let server = Server::start(&["--log-format", "json"]);
    let answer = server.chat(ask("Reply with exactly: green falcon"));
    assert_eq!(server.post("/v1/messages", &json!({"messages": "green falcon"})).status, 400);
    server.wait_for_log("refused");
    let log = server.log();
    assert!(!log.contains("falcon"), "{log}");
    let lines: Vec<Value> =
        log.lines().skip_while(|l| !l.starts_with('{')).map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines[0]["message"].as_str().unwrap().starts_with("listening at http://127.0.0.1:"));
    assert!(lines.iter().all(|line| line["time"].as_f64().unwrap() > 1.7e9));
    let request = lines.iter().find(|line| line["event"] == "request").unwrap();
    assert_eq!((&request["id"], &request["api"]), (&answer["id"], &json!("openai")));
    assert_eq!((&request["status"], &request["finish"]), (&json!(200), &json!("stop")));
    assert_eq!(request["prompt"], answer["usage"]["prompt_tokens"]);
    assert_eq!(request["generated"], answer["usage"]["completion_tokens"]);
    assert_eq!((&request["cached"], &request["cache"]), (&json!(0), &Value::Null));
    assert!(["queue_ms", "prefill_ms", "decode_ms"].iter().all(|field| request[field].is_u64()), "{request}");
    let refused = lines.iter().find(|line| line["event"] == "refused").unwrap();
    assert_eq!((&refused["endpoint"], &refused["status"]), (&json!("/v1/messages"), &json!(400)));
    Home::new()
        .ds4(&["serve", "--log-format", "xml"])
        .fails(2, "ds4: invalid value for --log-format: xml (one of text, json)");
}

#[test]
fn tracing_is_said_at_the_start() {
    let server = Server::start(&["--trace", "trace.txt"]);
    assert!(server.log().contains("prompts and answers are stored in trace.txt (--trace)"), "{}", server.log());
    assert!(!Server::start(&[]).log().contains("are stored"));
}
