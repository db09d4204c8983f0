//! Who waits, who leaves, and how the server ends.

mod common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::server::{Answer, Server, ask};
use serde_json::{Value, json};

/// Words that nobody wants to wait for; they fit into the context of [`server`].
const LONG: usize = 40_000;

/// A prompt of so many words, and an answer of one token.
fn words(count: usize) -> Value {
    let mut body = ask(&"river stone ".repeat(count / 2));
    body["max_tokens"] = 1.into();
    body
}

/// A prompt that nobody wants to wait for.
fn long() -> Value {
    words(LONG)
}

/// A prompt that takes this machine about a second to read: long enough for a test, short enough to wait for.
fn a_second(server: &Server) -> Value {
    let mut count = 200;
    loop {
        let other = format!("{count} ") + &"river ".repeat(count); // nothing of it is cached
        let start = Instant::now();
        server.chat(ask(&other));
        if start.elapsed() > Duration::from_millis(700) || 2 * count > LONG {
            return words(count);
        }
        count *= 2;
    }
}

/// One request runs at a time.
fn server(args: &[&str]) -> Server {
    Server::start(&[&["-c", "100000", "--sessions", "1"], args].concat())
}

/// Sends a request that streams, without waiting for its answer.
fn send(server: &Server, mut body: Value) -> Answer {
    body["stream"] = true.into();
    server.post("/v1/chat/completions", &body)
}

/// Sends a request that does not stream, without reading its answer.
fn send_whole(server: &Server, body: &Value) -> std::net::TcpStream {
    let mut stream = server.connect();
    let body = body.to_string();
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).unwrap();
    stream
}

fn running(server: &Server) -> u64 {
    server.health()["running"].as_u64().unwrap()
}

fn waiting(server: &Server) -> u64 {
    server.health()["waiting"].as_u64().unwrap()
}

#[test]
fn with_one_session_requests_run_one_at_a_time_in_order() {
    // H052
    let server = server(&[]);
    // Each has its place when its head arrives.
    let first = send(&server, words(100));
    let second = send(&server, ask("Reply with exactly: green falcon"));
    let third = send(&server, ask("What is 7 + 8?"));
    let ids: Vec<Value> = [first, second, third]
        .into_iter()
        .map(|answer| answer.events().iter().find(|e| e.data.starts_with('{')).unwrap().json()["id"].clone())
        .collect();
    server.wait(|| server.log().matches(": prompt ").count() == 3);
    let log = server.log();
    let places: Vec<usize> =
        ids.iter().map(|id| log.find(&format!("{}: prompt", id.as_str().unwrap())).unwrap()).collect();
    assert!(places.is_sorted(), "{log}");
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let server = server(&["--queue", "1"]);
    let _running = send(&server, long());
    server.wait(|| running(&server) == 1);
    let mut waits = send(&server, ask("Hi"));
    server.wait(|| waiting(&server) == 1);
    assert_eq!(waits.next_events().unwrap()[0].comment, "queued, 1 before this");
    for (path, kind) in [("/v1/chat/completions", "rate_limit_error"), ("/v1/messages", "rate_limit_error")] {
        let refused = server.post(path, &ask("Hi"));
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!(seconds >= 1);
        assert_eq!(refused.status, 429);
        let error = refused.json()["error"].clone();
        assert_eq!((&error["type"], &error["waiting"]), (&json!(kind), &json!(1)));
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .starts_with("the queue is full: 1 requests wait; this one would be number 2.")
        );
    }
}

#[test]
fn who_leaves_is_given_up_wherever_the_request_is() {
    // H066
    let server = server(&[]);
    // In prefill, streamed or not: the prompt would take far longer than what comes after it.
    for streams in [true, false] {
        let before = server.log().matches("the client left after 0 tokens").count();
        let running_one: Box<dyn std::any::Any> =
            if streams { Box::new(send(&server, long())) } else { Box::new(send_whole(&server, &long())) };
        server.wait(|| running(&server) == 1);
        // While waiting.
        let waiting_one = send(&server, long());
        server.wait(|| waiting(&server) == 1);
        drop(waiting_one);
        server.wait(|| waiting(&server) == 0);
        assert_eq!(running(&server), 1);
        server.wait(|| server.log().matches(" s in the queue").count() == before + 1);
        drop(running_one);
        server.wait(|| running(&server) == 0);
        server.wait(|| server.log().matches("the client left after 0 tokens").count() == before + 1);
    }
    assert_eq!(server.chat(ask("What is 7 + 8?"))["choices"][0]["message"]["content"], "15");

    // While the answer is written: of several that may be long, one is.
    let left =
        |log: &str| log.lines().filter(|l| l.contains("the client left after") && !l.contains("after 0 ")).count();
    for seed in 1..20 {
        let mut body = ask("Hello");
        (body["temperature"], body["min_p"], body["seed"]) = (100.into(), 0.into(), seed.into());
        let mut answer = send(&server, body);
        while answer.next_events().is_some_and(|events| events.iter().all(|e| !e.data.contains("\"content\""))) {}
        drop(answer);
        server.wait(|| running(&server) == 0);
        if left(&server.log()) > 0 {
            break;
        }
    }
    server.wait(|| left(&server.log()) > 0);
}

#[test]
fn who_leaves_the_queue_is_in_the_log_and_in_the_numbers() {
    let server = server(&["--log-format", "json"]);
    let _running = send(&server, long());
    server.wait(|| running(&server) == 1);
    let mut waiting_one = send(&server, ask("Hi"));
    server.wait(|| waiting(&server) == 1);
    waiting_one.next_events().unwrap();
    drop(waiting_one);
    server.wait_for_log("\"left\"");
    let log = server.log();
    let line = log.lines().find(|line| line.contains("\"left\"")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["event"], &line["api"], &line["status"]), (&json!("request"), &json!("openai"), &json!(499)));
    assert!(line["prompt"].as_u64() > Some(0) && line["generated"] == 0, "{line}");
    assert!(line["queue_ms"].is_u64() && line["prefill_ms"] == 0 && line["decode_ms"] == 0, "{line}");
    let stats = server.get("/v1/stats").ok();
    assert_eq!((&stats["requests"]["ended"]["left"], &stats["requests"]["started"]), (&json!(1), &json!(2)));
    assert!(server.get("/metrics").text().contains("ds4_answers_total{finish=\"left\"} 1"));
}

#[test]
fn the_first_signal_lets_the_running_request_end() {
    // H051, H068
    for signal in ["TERM", "INT"] {
        let mut server = server(&[]);
        let running_one = send(&server, a_second(&server));
        server.wait(|| running(&server) == 1);
        let waiting_one = send(&server, ask("Hi"));
        server.wait(|| waiting(&server) == 1);
        // Half a request, the rest of which comes too late.
        let text = ask("Hi").to_string();
        let mut late = server.connect();
        let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", text.len());
        late.write_all(head.as_bytes()).unwrap();
        late.write_all(&text.as_bytes()[..9]).unwrap();
        server.wait(|| server.health()["status"] == "ok");

        server.signal(signal);
        server.wait_for_log("shutting down after the running request");
        late.write_all(&text.as_bytes()[9..]).unwrap();
        let mut refused = String::new();
        late.read_to_string(&mut refused).unwrap();
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("server shutting down"), "{refused}");
        assert!(refused.to_ascii_lowercase().contains("\r\nretry-after: "), "{refused}");
        let events = waiting_one.events();
        let last = events.last().unwrap();
        assert_eq!((last.name.as_str(), &last.json()["error"]["code"]), ("error", &json!("shutting_down")));

        let events = running_one.events();
        assert_eq!(events.last().unwrap().data, "[DONE]", "the running request ends as if nothing were");
        assert_eq!(server.exit().code(), Some(0));
    }
}

#[test]
fn the_second_signal_ends_at_once() {
    // H051
    let mut server = server(&[]);
    let _running = send(&server, long());
    server.wait(|| running(&server) == 1);
    server.signal("TERM");
    server.wait_for_log("a second signal ends it at once");
    server.signal("INT");
    assert_eq!(server.exit().code(), Some(130));
}

#[test]
fn an_idle_server_ends_at_once() {
    let mut server = server(&[]);
    let _idle = server.connect();
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
}
