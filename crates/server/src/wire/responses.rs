//! What only the responses API has: kinds of tools, and responses that go on from another.

use std::sync::Arc;

use super::*;

/// A call of a tool with one text.
fn call(tool: &str, parameter: &str, text: &str) -> String {
    block(&format!(
        "<｜DSML｜invoke name=\"{tool}\">\n<｜DSML｜parameter name=\"{parameter}\" string=\"true\">{text}\
         </｜DSML｜parameter>\n</｜DSML｜invoke>\n"
    ))
}

fn ask(tools: Value, stream: bool) -> Asked {
    let title = if stream { "streamed" } else { "whole" };
    (title, "/v1/responses", json!({"model": "m", "input": "q", "tools": tools, "stream": stream}))
}

#[track_caller]
fn assert_called(name: &str, tools: Value, call: &str) {
    assert_answers(name, &format!("hm</think>{call}"), STOP, &[ask(tools.clone(), false), ask(tools, true)]);
}

fn custom() -> Value {
    let format = json!({"type": "grammar", "syntax": "lark", "definition": "start: \"*** Begin\""});
    json!([{"type": "custom", "name": "apply_patch", "description": "Edits files.", "format": format}])
}

fn namespace() -> Value {
    let parameters = json!({"type": "object", "properties": {"task": {"type": "string"}}});
    let function = json!({"type": "function", "name": "spawn", "parameters": parameters});
    json!([{"type": "namespace", "name": "agents", "description": "Others.", "tools": [function]}])
}

#[test]
fn tools_in_a_namespace() {
    // H138
    assert_called("namespace_tool", namespace(), &call("agents__spawn", "task", "look"));
}

#[test]
fn custom_tools_have_an_input_of_any_form() {
    let patch = "*** Begin Patch\n+\"é\\\"\n";
    assert_called("custom_tool", custom(), &call("apply_patch", "input", patch));
    // Whatever the model calls it, and however it comes.
    serve(&format!("hm</think>{}", call("apply_patch", "patch", patch)), STOP, |post| {
        for stream in [false, true] {
            let (_, path, body) = ask(custom(), stream);
            let input = json!({ "input": patch }).to_string();
            assert!(post(path, &body).1.contains(input.trim_matches(['{', '}'])));
        }
    });
}

#[test]
fn the_search_for_tools_is_the_clients() {
    // H139
    let tools = json!([{"type": "tool_search", "execution": "client"}]);
    assert_called("tool_search", tools, &call("tool_search", "query", "agents"));
}

/// What was asked last, as text.
fn prompt(script: &Script) -> String {
    MODEL.tokenizer.decode(script.asked.lock().unwrap().last().unwrap())
}

#[test]
fn a_response_goes_on_from_another_as_if_all_of_it_were_sent_again() {
    // H134, H135
    let calls = format!("hm</think>I read it.{}", block(&invoke("a", "1")));
    let script = Arc::new(Script::new(MODEL.tokenizer.encode(&calls), STOP));
    perform(&script, |post| {
        for stream in [false, true] {
            let mut body = TOOLS.responses(stream);
            body["instructions"] = "Be brief.".into();
            let (_, answer) = post("/v1/responses", &body);
            let answer = answer.rsplit("\"response\":").next().unwrap().trim_end();
            let answer = if stream { answer.strip_suffix('}').unwrap() } else { answer };
            let answer: Value = serde_json::from_str(answer).unwrap();
            let output = answer["output"].as_array().unwrap().clone();
            let result = json!({"type": "function_call_output", "call_id": output[2]["call_id"], "output": "done"});

            let mut next = body.clone();
            (next["previous_response_id"], next["input"]) = (answer["id"].clone(), json!([result]));
            let (status, _) = post("/v1/responses", &next);
            let gone_on = (status, prompt(&script));
            let all = |output: Vec<Value>| {
                let said = json!({"role": "user", "content": "q"});
                Value::from_iter([said].into_iter().chain(output).chain([result.clone()]))
            };
            body["input"] = all(output.clone());
            let (status, _) = post("/v1/responses", &body);
            assert_eq!((status, prompt(&script)), gone_on);
            assert!(gone_on.1.contains("<tool_result>done</tool_result>"), "{gone_on:?}");

            let references = output.iter().map(|item| json!({"type": "item_reference", "id": item["id"]}));
            body["input"] = all(references.collect());
            let (status, _) = post("/v1/responses", &body);
            assert_eq!((status, prompt(&script)), gone_on, "items are known by their ids too");
        }
    });
}

#[test]
fn what_is_not_remembered_is_said_with_the_way_out() {
    // H135, H136
    serve("hm</think>15", STOP, |post| {
        let mut body = json!({"input": "q", "store": false, "metadata": {"a": "b"}, "include": ["x"]});
        let (_, answer) = post("/v1/responses", &body);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((&answer["store"], &answer["metadata"]), (&json!(false), &json!({"a": "b"})));
        (body["previous_response_id"], body["conversation"]) = (answer["id"].clone(), Value::Null);
        let (status, error) = post("/v1/responses", &body);
        let error: Value = serde_json::from_str(&error).unwrap();
        assert_eq!((status, &error["error"]["code"]), (400, &json!("previous_response_not_found")));
        assert!(error["error"]["message"].as_str().unwrap().ends_with("send the whole conversation as input instead"));

        body["previous_response_id"] = Value::Null;
        assert_eq!(post("/v1/responses", &body).0, 200);
        body["conversation"] = "conv_1".into();
        let (status, error) = post("/v1/responses", &body);
        assert!(status == 400 && error.contains("conversation: conversations are not kept here; send"), "{error}");
        let references = json!({"input": [{"type": "item_reference", "id": "msg_9-9-0"}]});
        assert_eq!(post("/v1/responses", &references).0, 400);
    });
}

#[test]
fn reasoning_is_shown_to_who_asks_for_it() {
    // H131, H142
    serve("hm</think>15", STOP, |post| {
        for (reasoning, expected) in [(json!({"summary": "concise"}), 2), (json!({"effort": "low"}), 1)] {
            let (_, answer) = post("/v1/responses", &json!({"input": "q", "reasoning": reasoning}));
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(answer["output"].as_array().unwrap().len(), expected);
            assert_eq!(answer["usage"]["output_tokens_details"]["reasoning_tokens"], 3);
        }
    });
}
