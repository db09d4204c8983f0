//! Requests as real clients shape them, turn after turn: each begins with all that was read and written before, so that
//! only what is new costs anything. What differs between two requests of a client for no reason of the conversation's is
//! here as it was seen.

use super::*;

/// A client: its first request, and how the next one follows from the last and its answer.
struct Client {
    path: &'static str,
    first: Value,
    next: fn(&Value, &Value, usize) -> Value,
}

/// Lets a client call a tool three times in a row.
#[track_caller]
fn assert_prefixes_stay(client: &Client) {
    let calls = block(&(invoke("a \"b\"\n.rs", "1") + &invoke("b", "2")));
    let script = Arc::new(Script::new(spelled("hm,\nwell", "I read it.\n", &calls), STOP));
    perform(&script, |post| {
        let mut body = client.first.clone();
        for turn in 0..3 {
            let (status, answer) = post(client.path, &body);
            assert_eq!(status, 200, "{answer}");
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let asked = script.asked.lock().unwrap().last().unwrap().clone();
            body = (client.next)(&body, &answer, turn);
            post(client.path, &body);
            let then = script.asked.lock().unwrap().last().unwrap().clone();
            let old = [&asked[..], &script.tokens, &[MODEL.tokenizer.eos()]].concat();
            let same = old.iter().zip(&then).take_while(|(a, b)| a == b).count();
            let text = |ids: &[u32]| MODEL.tokenizer.decode(&ids[same..(same + 40).min(ids.len())]);
            assert_eq!(same, old.len(), "turn {turn}: {:?} became {:?}", text(&old), text(&then));
        }
    });
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"lines": {"type": "integer"}, "path": {"type": "string"}}})
}

fn push(body: &mut Value, field: &str, more: impl IntoIterator<Item = Value>) {
    body[field].as_array_mut().unwrap().extend(more);
}

#[test]
fn codex() {
    // No instructions: the system's text is the first developer's message. All output comes back as it was.
    let text = |role: &str, text: &str| json!({"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]});
    let read = json!({"type": "function", "name": "read", "strict": false, "parameters": schema()});
    let spawn = json!({"type": "function", "name": "spawn_agent", "parameters": schema()});
    let input = [
        text("developer", "You code."),
        text("developer", "# Skills"),
        text("user", "<cwd>/</cwd>"),
        text("user", "Go."),
    ];
    let first = json!({
        "model": "m",
        "input": input,
        "tools": [read, {"type": "namespace", "name": "multi_agent_v1", "tools": [spawn]}, {"type": "web_search"}],
        "tool_choice": "auto",
        "parallel_tool_calls": true,
        "reasoning": {"summary": "auto"},
        "store": false,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "b7",
        "client_metadata": {"x": "y"},
    });
    let next = |body: &Value, answer: &Value, turn: usize| {
        let mut body = body.clone();
        for item in answer["output"].as_array().unwrap() {
            let mut item = item.clone();
            let item_fields = item.as_object_mut().unwrap();
            item_fields.remove("id");
            item_fields.remove("status");
            if item_fields["type"] == "reasoning" {
                item["encrypted_content"] = Value::Null;
            }
            push(&mut body, "input", [item]);
        }
        let calls: Vec<Value> = answer["output"].as_array().unwrap().clone();
        let calls = calls.iter().filter(|item| item["type"] == "function_call");
        let results =
            calls.map(|call| json!({"type": "function_call_output", "call_id": call["call_id"], "output": "ok"}));
        push(&mut body, "input", results);
        if turn == 1 {
            let mode = json!([{"type": "input_text", "text": "Plan mode is on."}]);
            push(&mut body, "input", [json!({"type": "message", "role": "developer", "content": mode})]);
        }
        body
    };
    assert_prefixes_stay(&Client { path: "/v1/responses", first, next });
}

#[test]
fn claude_code() {
    // Its bookkeeping stands before the system's text; cache marks move, contents are lists or strings, a system's message
    // stands among the others, and tools that were found join the list in the order of the alphabet.
    let first = json!({
        "model": "m",
        "max_tokens": 1000,
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.329.f85;"},
            {"type": "text", "text": "You code.", "cache_control": {"type": "ephemeral"}},
        ],
        "thinking": {"type": "adaptive", "display": "omitted"},
        "output_config": {"effort": "high"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "metadata": {"user_id": "{}"},
        "tools": [
            {"name": "DeferredToolPlaceholder", "input_schema": schema(), "defer_loading": true},
            {"name": "read", "description": "Reads.", "input_schema": schema()},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "<system-reminder>today</system-reminder>"},
                {"type": "text", "text": "Go.", "cache_control": {"type": "ephemeral"}},
            ]},
            {"role": "system", "content": [{"type": "text", "text": "Agents: none.", "cache_control": {"type": "ephemeral"}}]},
        ],
    });
    let next = |body: &Value, answer: &Value, turn: usize| {
        let mut body = body.clone();
        body["messages"][0]["content"][1].as_object_mut().unwrap().remove("cache_control");
        body["messages"][1]["content"] = "Agents: none.".into();
        let mut content = answer["content"].clone();
        for block in content.as_array_mut().unwrap() {
            if block["type"] == "thinking" {
                block["signature"] = "".into();
            }
            if block["type"] == "tool_use" {
                // In the order of the schema.
                block["input"] = json!({"lines": block["input"]["lines"], "path": block["input"]["path"]});
            }
        }
        let blocks = answer["content"].as_array().unwrap().iter().filter(|block| block["type"] == "tool_use");
        let ids: Vec<Value> = blocks.map(|block| block["id"].clone()).collect();
        let mark = json!({"type": "ephemeral"});
        let found = json!([{"type": "tool_reference", "tool_name": "Fetch"}]);
        let results = json!([
            {"type": "tool_result", "tool_use_id": ids[0], "content": if turn == 0 { found } else { json!("ok") }},
            {"tool_use_id": ids[1], "type": "tool_result", "content": [{"type": "text", "text": "ok"}], "cache_control": mark},
        ]);
        push(
            &mut body,
            "messages",
            [json!({"role": "assistant", "content": content}), json!({"role": "user", "content": results})],
        );
        if turn == 0 {
            let fetch = json!({"name": "Fetch", "input_schema": schema(), "defer_loading": true});
            body["tools"].as_array_mut().unwrap().insert(1, fetch);
        }
        if turn == 1 {
            push(&mut body, "messages", [json!({"role": "system", "content": "A file has changed."})]);
        }
        body
    };
    assert_prefixes_stay(&Client { path: "/v1/messages", first, next });
}

/// A chat with a tool, as several clients begin it.
fn chat(role: &str) -> Value {
    json!({
        "model": "m",
        "messages": [{"role": role, "content": "You code."}, {"role": "user", "content": "Go."}],
        "tools": [{"type": "function", "function": {"name": "read", "parameters": schema()}}],
        "tool_choice": "auto",
    })
}

/// The answer and its results; `echo` is what the client makes of the answer.
fn chat_on(body: &Value, answer: &Value, echo: fn(&mut Value)) -> Value {
    let mut body = body.clone();
    let mut message = answer["choices"][0]["message"].clone();
    let calls = message["tool_calls"].as_array().unwrap().clone();
    echo(&mut message);
    let results = calls.iter().map(|call| json!({"role": "tool", "tool_call_id": call["id"], "content": "ok"}));
    push(&mut body, "messages", [message].into_iter().chain(results));
    body
}

/// Arguments as JavaScript writes them anew.
fn rewritten(message: &mut Value) {
    for call in message["tool_calls"].as_array_mut().unwrap() {
        let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
        call["function"]["arguments"] = arguments.to_string().into();
    }
}

#[test]
fn opencode() {
    let next = |body: &Value, answer: &Value, _: usize| {
        chat_on(body, answer, |message| {
            rewritten(message);
            message["content"] = message["content"].as_str().unwrap().trim().into();
        })
    };
    assert_prefixes_stay(&Client { path: "/v1/chat/completions", first: chat("system"), next });
}

#[test]
fn pi() {
    let next = |body: &Value, answer: &Value, _: usize| {
        chat_on(body, answer, |message| {
            rewritten(message);
            message["reasoning"] = message["reasoning_content"].take();
            message.as_object_mut().unwrap().remove("reasoning_content");
        })
    };
    assert_prefixes_stay(&Client { path: "/v1/chat/completions", first: chat("developer"), next });
}

#[test]
fn a_client_that_keeps_the_reasoning_to_itself() {
    let next = |body: &Value, answer: &Value, _: usize| {
        chat_on(body, answer, |message| drop(message.as_object_mut().unwrap().remove("reasoning_content")))
    };
    assert_prefixes_stay(&Client { path: "/v1/chat/completions", first: chat("system"), next });
}
