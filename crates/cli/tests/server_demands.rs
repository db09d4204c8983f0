//! What a request can demand of its answer, on the built-in model.

mod common;

use common::server::{Server, ask};
use serde_json::{Value, json};

/// A question, without thinking, drawn so hot that nothing comes right by itself.
fn hot(more: Value) -> Value {
    let mut body = ask("Tell me about Ada.");
    let fields = json!({"think": false, "temperature": 1.5, "seed": 7, "max_tokens": 300});
    for (key, value) in fields.as_object().unwrap().iter().chain(more.as_object().unwrap()) {
        body[key] = value.clone();
    }
    body
}

fn tools() -> Value {
    let tool = |name: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
    let city =
        json!({"city": {"type": "string", "enum": ["Paris", "Rome"]}, "days": {"type": "integer", "maximum": 9}});
    let weather = json!({"type": "object", "properties": city, "required": ["city", "days"]});
    json!([tool("get_weather", weather), tool("now", json!({"type": "object", "properties": {}}))])
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

#[test]
fn an_answer_has_the_form_that_was_demanded() {
    let server = Server::start(&[]);
    let person = json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "born": {"type": "integer", "minimum": 1000, "maximum": 2100}},
        "required": ["name", "born"],
        "additionalProperties": false,
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "person", "schema": person}});
    for seed in 1..4 {
        let answer = server.chat(hot(json!({"response_format": format, "seed": seed})));
        assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
        let person: Value = serde_json::from_str(content(&answer)).unwrap();
        assert!(person["name"].is_string() && (1000..=2100).contains(&person["born"].as_i64().unwrap()), "{person}");
    }
    let answer = server.post("/v1/responses", &json!({
        "input": "Tell me about Ada.", "reasoning": {"effort": "none"}, "temperature": 1.5, "seed": 3, "max_output_tokens": 300,
        "text": {"format": {"type": "json_schema", "name": "person", "schema": person}},
    }));
    let answer = answer.ok();
    let person: Value = serde_json::from_str(answer["output"][0]["content"][0]["text"].as_str().unwrap()).unwrap();
    assert!(person["name"].is_string());

    let impossible =
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {"type": "string"}}}});
    let error = server.post("/v1/chat/completions", &hot(json!({"response_format": impossible}))).error(400);
    assert!(error.contains("json_schema: this schema cannot be enforced"), "{error}");
}

#[test]
fn tools_can_be_required_and_named() {
    let server = Server::start(&[]);
    for seed in 1..4 {
        for (choice, name) in [
            (json!("required"), None),
            (json!({"type": "function", "function": {"name": "get_weather"}}), Some("get_weather")),
            (json!({"type": "function", "function": {"name": "now"}}), Some("now")),
        ] {
            let more = json!({"tools": tools(), "tool_choice": choice, "parallel_tool_calls": false, "seed": seed});
            let answer = server.chat(hot(more));
            let calls = answer["choices"][0]["message"]["tool_calls"].as_array().unwrap();
            assert_eq!((calls.len(), &answer["choices"][0]["finish_reason"]), (1, &json!("tool_calls")), "{answer}");
            let function = &calls[0]["function"];
            assert!(name.is_none_or(|name| function["name"] == name), "{answer}");
            let arguments: Value = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
            if function["name"] == "get_weather" {
                assert!(arguments["city"] == "Paris" || arguments["city"] == "Rome", "{answer}");
                assert!(arguments["days"].as_i64().unwrap() <= 9, "{answer}");
            } else {
                assert_eq!((function["name"].as_str(), arguments), (Some("now"), json!({})));
            }
        }
    }
    for (more, why) in [
        (
            json!({"tools": tools(), "tool_choice": {"type": "function", "function": {"name": "then"}}}),
            "no tool is called \"then\"",
        ),
        (json!({"tool_choice": "required"}), "there are no tools"),
    ] {
        let error = server.post("/v1/chat/completions", &hot(more)).error(400);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn reasoning_ends_at_its_budget() {
    let server = Server::start(&[]);
    for (path, body) in [
        ("/v1/chat/completions", json!({"thinking_budget": 5})),
        ("/v1/chat/completions", json!({"thinking": {"type": "enabled", "budget_tokens": 5}})),
        ("/v1/messages", json!({"thinking": {"type": "enabled", "budget_tokens": 5}})),
    ] {
        let mut asked =
            json!({"messages": [{"role": "user", "content": "What is 7 + 8?"}], "max_tokens": 60, "seed": 3});
        asked.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let answer = server.post(path, &asked).ok();
        let reasoning = answer["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64();
        let text = answer["content"][1]["text"].as_str().or(answer["choices"][0]["message"]["content"].as_str());
        // The tag that ends it counts too.
        assert!(reasoning.is_none_or(|n| n <= 6) && !text.unwrap().is_empty(), "{answer}");
    }
}

#[test]
fn log_probabilities_come_with_the_text() {
    let server = Server::start(&[]);
    let mut body = ask("What is 7 + 8?");
    body["logprobs"] = true.into();
    body["top_logprobs"] = 3.into();
    let answer = server.chat(body.clone());
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    let joined: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(joined, content(&answer), "reasoning has none");
    for token in &tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert!(top.len() == 3 && top[0]["logprob"].as_f64() >= token["logprob"].as_f64(), "{token}");
        assert!(token["logprob"].as_f64().unwrap() <= 0.0 && token["bytes"].is_array());
    }
    let streamed = server.stream(body);
    let parts = streamed.iter().filter(|event| event.data.starts_with('{')).map(|event| event.json());
    let parts =
        parts.flat_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array().cloned().unwrap_or_default());
    assert_eq!(parts.collect::<Vec<_>>().len(), tokens.len());

    let completion =
        json!({"prompt": "What is 7 + 8?", "think": false, "temperature": 0, "logprobs": 2, "max_tokens": 9});
    let answer = server.post("/v1/completions", &completion).ok();
    let (choice, told) = (&answer["choices"][0], &answer["choices"][0]["logprobs"]);
    let joined: String = told["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!((joined.as_str(), &told["text_offset"][0]), (choice["text"].as_str().unwrap(), &json!(0)));
    let error = server.post("/v1/chat/completions", &hot(json!({"logprobs": true, "top_logprobs": 21}))).error(400);
    assert!(error.contains("top_logprobs: 21, at most 20"), "{error}");
}

#[test]
fn biases_and_penalties_change_what_is_drawn() {
    let server = Server::start(&[]);
    let greedy = json!({"temperature": 0, "max_tokens": 8, "logprobs": true});
    let plain = server.chat(hot(greedy.clone()));
    let with = |more: Value| {
        let mut body = hot(greedy.clone());
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.chat(body)
    };
    let id = |text: &str| server.post("/tokenize", &json!({"content": text})).ok()["tokens"][0].to_string();
    let (x, y) = (id("x"), id("y"));
    let bias = json!({x.as_str(): 100, y.as_str(): 80});
    assert_eq!(content(&with(json!({"logit_bias": bias}))), "xxxxxxxx");
    let penalised = with(json!({"logit_bias": bias, "frequency_penalty": 2, "max_tokens": 40}));
    assert!(content(&penalised).starts_with("xx") && content(&penalised).contains('y'), "{penalised}");
    assert_eq!(content(&with(json!({"presence_penalty": 0, "repetition_penalty": 1}))), content(&plain));
    let error = server.post("/v1/chat/completions", &hot(json!({"logit_bias": {"x": 1}}))).error(400);
    assert!(error.contains("logit_bias: \"x\" is no token's number"), "{error}");
}

#[test]
fn several_answers_are_those_of_as_many_requests() {
    let server = Server::start(&["--sessions", "2"]);
    let asked = hot(json!({"temperature": 1, "max_tokens": 12, "seed": 5}));
    let alone: Vec<String> = (0..3)
        .map(|i| {
            let mut body = asked.clone();
            body["seed"] = (5 + i).into();
            content(&server.chat(body)).to_owned()
        })
        .collect();
    let mut body = asked.clone();
    body["n"] = 3.into();
    let answer = server.chat(body.clone());
    let choices = answer["choices"].as_array().unwrap();
    for (i, choice) in choices.iter().enumerate() {
        assert_eq!(
            (choice["index"].as_u64(), choice["message"]["content"].as_str()),
            (Some(i as u64), Some(&*alone[i]))
        );
    }
    let usage = &answer["usage"];
    assert_eq!(usage["total_tokens"].as_u64(), Some(usage["prompt_tokens"].as_u64().unwrap() + 36));

    body["stream_options"] = json!({"include_usage": true});
    let events = server.stream(body.clone());
    assert_eq!(events.last().unwrap().data, "[DONE]");
    let chunks: Vec<Value> =
        events.iter().filter(|event| event.data.starts_with('{')).map(|event| event.json()).collect();
    let mut texts = vec![String::new(); 3];
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
        texts[choice["index"].as_u64().unwrap() as usize] += choice["delta"]["content"].as_str().unwrap_or_default();
    }
    assert_eq!(texts, alone);
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 36);

    body["n"] = 9.into();
    let error = server.post("/v1/chat/completions", &body).error(400);
    assert!(error.contains("n: 9 answers, at most 8 are possible"), "{error}");
}
