//! Damaged requests: each has an error for an answer, and the server goes on.

mod common;

use common::server::{Server, ask};
use serde_json::json;

/// A request of each API that has everything in it.
fn samples() -> [(&'static str, String); 3] {
    let chat = json!({
        "model": "m", "max_tokens": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": 7,
        "stop": ["a", "é🙂"], "stream": true, "stream_options": {"include_usage": true},
        "thinking": {"type": "disabled"}, "reasoning_effort": "high", "tool_choice": "auto",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "hé\n\u{1f642}"}, {"type": "image_url"}]},
            {"role": "assistant", "content": null, "reasoning_content": "r",
             "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\": [1]}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "done"},
        ],
    });
    let messages = json!({
        "model": "m", "max_tokens": 2, "stop_sequences": ["a"], "stream": false, "thinking": {"type": "enabled"},
        "output_config": {"effort": "low"}, "tools": [{"name": "f", "description": "d", "input_schema": {}}],
        "system": [{"type": "text", "text": "s"}],
        "messages": [
            {"role": "user", "content": "hé"},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"},
                                              {"type": "tool_use", "id": "u", "name": "f", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "u", "content": [{"type": "text"}]}]},
        ],
    });
    let messages = messages.to_string();
    [
        ("/v1/chat/completions", chat.to_string()),
        ("/v1/messages", messages.clone()),
        ("/v1/messages/count_tokens", messages),
    ]
}

/// A stream of numbers that is the same every time.
fn random() -> impl FnMut(usize) -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % below
    }
}

/// Damages a body in one of several ways.
fn damage(body: &str, next: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let mut bytes = body.as_bytes().to_vec();
    let at = next(bytes.len());
    match next(7) {
        0 => bytes.truncate(at),
        1 => bytes[at] = next(256) as u8,
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, b"{}[]\",:\\0-e.\xff"[next(13)]),
        4 => {
            let other = next(bytes.len());
            bytes.swap(at, other);
        }
        5 => {
            let from = next(bytes.len());
            let copied = bytes[from.min(at)..from.max(at)].to_vec();
            bytes.splice(at..at, copied);
        }
        _ => {
            let values = ["null", "true", "-1", "1e999", "[]", "{}", "\"\"", "\"\\ud800\"", "18446744073709551616"];
            let colons: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i] == b':').collect();
            let start = colons[next(colons.len())] + 1;
            let end = (start..bytes.len()).find(|i| b",}]".contains(&bytes[*i])).unwrap_or(bytes.len());
            bytes.splice(start..end, values[next(values.len())].bytes());
        }
    }
    bytes
}

#[test]
fn damaged_bodies_are_answered_and_the_server_goes_on() {
    let server = Server::start(&["-c", "100", "-n", "5"]);
    let mut next = random();
    let mut refused = 0;
    for i in 0..600 {
        let (path, body) = &samples()[i % 3];
        let body = damage(body, &mut next);
        let answer = server.open("POST", path, "", &body);
        let status = answer.status;
        let text = answer.text();
        let shown = String::from_utf8_lossy(&body).into_owned();
        match status {
            200 => assert!(!text.is_empty(), "{shown}"),
            400 => {
                refused += 1;
                let error: serde_json::Value = serde_json::from_str(&text).unwrap();
                let message = error["error"]["message"].as_str().unwrap();
                assert!(!message.is_empty() && !message.contains('\n'), "{message}");
            }
            other => panic!("{other}: {text}\n{shown}"),
        }
    }
    assert!(refused > 200, "only {refused} of 600 were refused");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert_eq!(server.health()["status"], "ok");
    assert_eq!(server.chat(ask("What is 7 + 8?"))["choices"][0]["message"]["content"], "15");
}

#[test]
fn damaged_http_is_answered_or_dropped_and_the_server_goes_on() {
    let server = Server::start(&["-c", "100", "-n", "5"]);
    let mut next = random();
    let mut answered = 0;
    for i in 0..600 {
        let (path, body) = &samples()[i % 3];
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        let request = head.clone() + body;
        // Most of the damage before the body.
        let bytes = match next(3) {
            0 => request.as_bytes()[..next(request.len())].to_vec(),
            1 => [damage(&(head + ":"), &mut next), body.clone().into_bytes()].concat(),
            _ => damage(&request, &mut next),
        };
        let answer = server.raw(&bytes);
        if let Some(status) = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)) {
            answered += 1;
            assert!(["200", "204", "400", "403", "404", "405", "413", "431", "501"].contains(&status), "{answer}");
        }
    }
    assert!(answered > 100, "only {answered} of 600 were answered");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    server.wait(|| server.health()["running"] == 0);
    assert_eq!(server.chat(ask("What is 7 + 8?"))["choices"][0]["message"]["content"], "15");
}
