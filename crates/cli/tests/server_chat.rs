//! `/v1/chat/completions`.

mod common;

use common::server::{Event, Server, ask};
use serde_json::{Value, json};

/// Of the chunks of a stream: the contents of one field of all deltas.
fn joined(events: &[Event], field: &str) -> String {
    events.iter().filter(|e| e.data.starts_with('{')).filter_map(|e| part(&e.json(), field)).collect()
}

fn part(chunk: &Value, field: &str) -> Option<String> {
    chunk["choices"][0]["delta"][field].as_str().map(str::to_owned)
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

fn finish(answer: &Value) -> &str {
    answer["choices"][0]["finish_reason"].as_str().unwrap()
}

/// A request that thinks, with a seed.
fn think(prompt: &str, seed: u64) -> Value {
    json!({"messages": [{"role": "user", "content": prompt}], "seed": seed})
}

#[test]
fn a_whole_answer_has_the_known_shape() {
    // H073
    let server = Server::start(&[]);
    let answer = server.chat(ask("What is 7 + 8?"));
    let (usage, choice) = (&answer["usage"], &answer["choices"][0]);
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(choice["message"], json!({"role": "assistant", "content": "15"}));
    assert_eq!((&choice["index"], finish(&answer)), (&json!(0), "stop"));
    let count = |value: &Value| value.as_u64().unwrap();
    let prompt = count(&usage["prompt_tokens"]);
    assert_eq!(count(&usage["total_tokens"]), prompt + count(&usage["completion_tokens"]));
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 0);

    let again = server.chat(ask("What is 7 + 8?"));
    assert_eq!(content(&again), "15");
    assert_eq!(count(&again["usage"]["prompt_tokens_details"]["cached_tokens"]), prompt - 1, "the last is read again");
    assert_ne!(again["id"], answer["id"]);
    let computed = |answer: &Value| (count(&answer["timings"]["prompt_n"]), answer["timings"]["cache_source"].clone());
    assert_eq!((computed(&answer), computed(&again)), ((prompt, Value::Null), (1, json!("ram"))));
}

#[test]
fn a_next_turn_pays_only_for_what_is_new() {
    let server = Server::start(&[]);
    let mut body = ask("Reply with exactly: green falcon");
    let first = server.chat(body.clone());
    let turns = body["messages"].as_array_mut().unwrap();
    turns.push(first["choices"][0]["message"].clone());
    turns.push(json!({"role": "user", "content": "What is 7 + 8?"}));
    let next = server.chat(body);
    assert_eq!(content(&next), "15");
    let tokens = |answer: &Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    let cached = next["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached >= tokens(&first) - 1 && tokens(&next) > tokens(&first), "{}", next["usage"]);
}

#[test]
fn thinking_off_gives_plain_content_at_once() {
    // H074, H085
    let server = Server::start(&[]);
    let prompt = json!([{"role": "user", "content": "Reply with exactly: green falcon"}]);
    for off in [
        json!({"think": false}),
        json!({"thinking": false}),
        json!({"thinking": {"type": "disabled"}}),
        json!({"reasoning_effort": "none"}),
        json!({"model": "deepseek-chat"}),
        json!({"thinking": {"type": "enabled"}, "reasoning_effort": "none"}),
    ] {
        let mut body = json!({"messages": prompt, "max_tokens": 8, "temperature": 0});
        body.as_object_mut().unwrap().extend(off.as_object().unwrap().clone());
        let answer = server.chat(body);
        assert_eq!(answer["choices"][0]["message"], json!({"role": "assistant", "content": "green falcon"}), "{off}");
    }
}

#[test]
fn reasoning_is_kept_apart() {
    // H077, H085, H086
    let server = Server::start(&[]);
    for on in [
        json!({}),
        json!({"thinking": {"type": "adaptive"}}),
        json!({"think": true}),
        json!({"reasoning_effort": "high"}),
    ] {
        let mut body = think("What is 7 + 8?", 3);
        body.as_object_mut().unwrap().extend(on.as_object().unwrap().clone());
        let answer = server.chat(body);
        let message = &answer["choices"][0]["message"];
        assert!(!message["reasoning_content"].as_str().unwrap().is_empty(), "{message}");
        assert!(!message.to_string().contains("think>"), "{message}");
        assert!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap() > 0);
    }
    let error = server.post(
        "/v1/chat/completions",
        &json!({"messages": [{"role": "user", "content": "Hi"}], "reasoning_effort": "huge"}),
    );
    assert!(error.error(400).starts_with("reasoning_effort: unknown effort \"huge\""));
}

#[test]
fn a_stream_has_its_parts_in_order() {
    // H078, H079
    let server = Server::start(&[]);
    let mut body = think("What is 7 + 8?", 3);
    let whole = server.chat(body.clone());
    body["stream_options"] = json!({"include_usage": true});
    let events = server.stream(body);
    let kinds: Vec<&str> = events
        .iter()
        .filter(|e| e.comment.is_empty())
        .map(|event| match event.data.as_str() {
            "[DONE]" => "done",
            data if data.contains("\"choices\":[]") => "usage",
            data if data.contains("\"role\"") => "role",
            data if data.contains("\"reasoning_content\"") => "reasoning",
            data if data.contains("\"content\"") => "content",
            data if data.contains("\"delta\":{}") => "finish",
            other => panic!("{other}"),
        })
        .collect();
    let mut order = kinds.clone();
    order.dedup();
    assert_eq!(order, ["role", "reasoning", "content", "finish", "usage", "done"]);
    for event in &events[..events.len() - 1] {
        if event.comment.is_empty() {
            let chunk = event.json();
            assert_eq!(
                (&chunk["object"], &chunk["id"]),
                (&json!("chat.completion.chunk"), &events[events.len() - 2].json()["id"])
            );
        }
    }
    // Streamed or not, the answer is the same.
    let message = &whole["choices"][0]["message"];
    assert_eq!(joined(&events, "content"), content(&whole));
    assert_eq!(joined(&events, "reasoning_content"), message["reasoning_content"].as_str().unwrap());
    let usage = &events[events.len() - 2].json()["usage"];
    assert_eq!(usage["completion_tokens"], whole["usage"]["completion_tokens"]);
    assert!(usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0);
    assert_eq!(events[events.len() - 3].json()["choices"][0]["finish_reason"], "stop");

    let without = server.stream(ask("What is 7 + 8?"));
    assert!(without.iter().all(|e| !e.data.contains("\"usage\"")));
}

#[test]
fn a_prefill_says_that_it_lives() {
    // H069; what a long one says: server sse::tests
    let events = Server::start(&[]).stream(ask("Hello"));
    assert!(events.iter().any(|e| e.comment.starts_with("prefill 0/")), "{events:?}");
}

#[test]
fn stop_strings_end_the_answer_before_them() {
    // H081
    let server = Server::start(&[]);
    let mut body = ask("Reply with exactly: green falcon");
    for (stop, rest) in [
        (json!("fal"), "green "),
        (json!(["nothing", "n f"]), "gree"),
        (json!(["en falcon"]), "gre"),
        (json!("green"), ""),
        (json!([""]), "green falcon"),
        (json!("falcon!"), "green falcon"),
        (Value::Null, "green falcon"),
    ] {
        body["stop"] = stop.clone();
        let answer = server.chat(body.clone());
        assert_eq!((content(&answer), finish(&answer)), (rest, "stop"), "{stop}");
        assert_eq!(joined(&server.stream(body.clone()), "content"), rest, "{stop}");
    }
    // In the reasoning too.
    let mut body = think("What is 7 + 8?", 3);
    let reasoning =
        server.chat(body.clone())["choices"][0]["message"]["reasoning_content"].as_str().unwrap().to_owned();
    let (before, stop) = reasoning.split_at(reasoning.len() / 2);
    body["stop"] = stop.into();
    let message = &server.chat(body)["choices"][0]["message"];
    assert_eq!((&message["reasoning_content"], &message["content"]), (&json!(before), &json!("")));

    body = ask("Hi");
    body["stop"] = json!(vec!["x"; 65]);
    assert_eq!(server.post("/v1/chat/completions", &body).error(400), "stop: 65 strings, at most 64 are possible");
}

#[test]
fn lengths_are_honoured() {
    // H072, H082, H083
    let server = Server::start(&["-n", "3"]);
    let prompt = "Reply with exactly: green falcon";
    let tokens = |body: Value| {
        let answer = server.chat(body);
        (
            answer["usage"]["completion_tokens"].as_u64().unwrap(),
            finish(&answer).to_owned(),
            content(&answer).to_owned(),
        )
    };
    let length = "length".to_string();
    let (count, why, text) = tokens(ask(prompt));
    assert_eq!((count, &why), (3, &length), "-n is the default");
    assert!("green falcon".starts_with(&text));
    for field in ["max_tokens", "max_completion_tokens"] {
        let mut body = ask(prompt);
        body[field] = 2.into();
        let (count, why, _) = tokens(body.clone());
        assert_eq!((count, &why), (2, &length));
        body[field] = 0.into();
        assert_eq!(tokens(body.clone()), (0, length.clone(), String::new()));
        body[field] = 50.into();
        assert_eq!(tokens(body).1, "stop");
    }
    // The context's end is a length too.
    let prompt_tokens = server.chat(ask(prompt))["usage"]["prompt_tokens"].as_u64().unwrap();
    let server = Server::start(&["-c", &(prompt_tokens + 2).to_string()]);
    let answer = server.chat(ask(prompt));
    assert_eq!((answer["usage"]["completion_tokens"].as_u64(), finish(&answer)), (Some(2), "length"));
}

#[test]
fn a_seed_repeats_a_text() {
    // H088, H089
    let server = Server::start(&[]);
    let draw = |seed: u64, temperature: f64| {
        let mut body = ask("Hello");
        (body["temperature"], body["min_p"], body["seed"]) = (temperature.into(), 0.into(), seed.into());
        body["max_tokens"] = 30.into();
        content(&server.chat(body)).to_owned()
    };
    assert_eq!(draw(42, 5.0), draw(42, 5.0));
    assert_ne!(draw(42, 5.0), draw(43, 5.0));
    assert_ne!(draw(0, 5.0), draw(0, 5.0), "0 is no seed");
    assert_eq!(draw(1, 0.0), draw(2, 0.0), "at temperature 0 nothing is drawn");

    // One candidate is no choice.
    let one = |field: &str, value: Value| {
        let mut body = ask("What is 7 + 8?");
        (body["temperature"], body[field]) = (50.into(), value);
        content(&server.chat(body)).to_owned()
    };
    assert_eq!(one("top_k", json!(1)), "15");
    assert_eq!(one("top_p", json!(0.000001)), "15");
    assert_eq!(one("min_p", json!(1)), "15");
    assert_eq!(server.chat(think("What is 7 + 8?", 9))["choices"], server.chat(think("What is 7 + 8?", 9))["choices"]);
}

#[test]
fn contents_come_in_several_forms() {
    // H075, H076
    let server = Server::start(&["--trace", "trace.txt"]);
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
    server.chat(json!({"think": false, "max_tokens": 1, "messages": [
        {"role": "user", "content": [{"type": "text", "text": "first"}, {"type": "text", "text": "second"}, image, {"type": "file"}]},
        {"role": "assistant", "content": null},
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": ["third"]},
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
    ]}));
    let trace = std::fs::read_to_string(server.home.file("trace.txt")).unwrap();
    let prompt = "<｜begin▁of▁sentence｜>Be kind.\n\nBe brief.<｜User｜>first\nsecond\n\
                  [image omitted: this model reads text only]\n[file omitted: this model reads text only]<｜Assistant｜></think><｜end▁of▁sentence｜><｜User｜>third\
                  <｜Assistant｜></think>\n";
    assert!(trace.contains(prompt), "{trace}");
}

#[test]
fn tools_are_shown_to_the_model_and_its_calls_come_back_as_text() {
    let server = Server::start(&["--trace", "trace.txt"]);
    let schema = json!({"name": "get_weather", "description": "d", "parameters": {"type": "object"}});
    let mut body = json!({
        "think": false, "temperature": 0, "max_tokens": 60,
        "tools": [{"type": "function", "function": schema}, {"type": "web_search"}],
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "What is the weather in Rome?"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\":\"Rome\"}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        ],
    });
    let answer = server.chat(body.clone());
    assert!(answer["choices"][0]["message"].get("tool_calls").is_none());
    assert!(["stop", "length"].contains(&finish(&answer)), "{answer}");
    let trace = || std::fs::read_to_string(server.home.file("trace.txt")).unwrap();
    for part in [
        "Be kind.\n\n## Tools\n\n",
        "{\"name\": \"get_weather\", \"description\": \"d\", \"parameters\": {\"type\": \"object\"}}\n\n",
        "<｜DSML｜parameter name=\"city\" string=\"true\">Rome</｜DSML｜parameter>",
        "<｜User｜><tool_result>sunny</tool_result><｜Assistant｜>",
    ] {
        assert!(trace().contains(part), "{part}: {}", trace());
    }
    body["tool_choice"] = "none".into();
    body["messages"] = json!([{"role": "user", "content": "no tools here"}]);
    server.chat(body);
    assert!(trace().contains("<｜begin▁of▁sentence｜><｜User｜>no tools here<｜Assistant｜>"));
}

#[test]
fn what_would_change_the_answer_and_is_not_there_is_refused_by_name() {
    let server = Server::start(&[]);
    let refuse = |field: &str, value: Value| {
        let mut body = ask("Hi");
        body[field] = value;
        server.post("/v1/chat/completions", &body).error(400)
    };
    assert_eq!(refuse("n", json!(9)), "n: 9 answers, at most 8 are possible");
    assert!(refuse("tools", json!([{"function": 7}])).contains("tools[0].function: not an object"));
    assert!(refuse("temperature", json!("hot")).contains("temperature: invalid type: string \"hot\""));
}

#[test]
fn characters_arrive_whole() {
    // H080: the answers' chunks are checked wherever they are read.
    let server = Server::start(&[]);
    for seed in 1..6 {
        let mut body = ask("日本語 🙂 é");
        (body["temperature"], body["min_p"], body["seed"], body["max_tokens"]) =
            (100.into(), 0.into(), seed.into(), 200.into());
        let whole = server.chat(body.clone());
        assert_eq!(joined(&server.stream(body), "content"), content(&whole));
    }
}
