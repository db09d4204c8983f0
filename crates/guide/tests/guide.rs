//! What can be written, and what cannot.

mod common;

use common::{MODEL, VOCABULARY, calls, guide, offering, refused, thinking_guide};
use ds4_chat::{Conversation, Message, Role};
use ds4_engine::Guide;
use ds4_guide::{Choice, Demands, Error, Format, Rules};
use serde_json::{Value, json};

/// A call as the model writes it.
fn call(tool: &str, parameters: &[(&str, bool, &str)]) -> String {
    let parameters = parameters.iter().map(|(name, string, value)| {
        format!("<｜DSML｜parameter name=\"{name}\" string=\"{string}\">{value}</｜DSML｜parameter>\n")
    });
    let parameters: String = parameters.collect();
    let line = if parameters.is_empty() { "\n" } else { "" };
    format!("<｜DSML｜invoke name=\"{tool}\">\n{parameters}{line}</｜DSML｜invoke>\n")
}

fn block(calls: &[String]) -> String {
    format!("\n\n<｜DSML｜tool_calls>\n{}</｜DSML｜tool_calls>", calls.concat())
}

fn tools() -> Conversation {
    let read = json!({
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "where"},
            "lines": {"type": "integer", "minimum": 1, "maximum": 500},
            "mode": {"enum": ["text", "bytes"]},
            "id": {"type": "string", "pattern": "^[a-z]{2}[0-9]+$"},
            "short": {"type": "string", "minLength": 2, "maxLength": 5},
            "note": {"type": "string", "minLength": 2},
            "options": {"type": "object", "properties": {"deep": {"type": "boolean"}}, "additionalProperties": false},
            "either": {"anyOf": [{"type": "string", "enum": ["all"]}, {"type": "integer"}]},
            "odd": {"not": {"type": "string"}},
        },
        "required": ["path"],
    });
    offering(&[("read", read), ("now", json!({"type": "object", "properties": {}})), ("free", json!({"oneOf": []}))])
}

fn can(text: &str) -> Option<String> {
    refused(&mut guide(&tools(), Demands::default()), text)
}

#[track_caller]
fn assert_cannot(text: &str) {
    assert!(can(text).is_some(), "{text} can be written");
}

#[test]
fn calls_that_fit_their_schemas_can_be_written_with_their_usual_tokens() {
    for parameters in [
        &[("path", true, "/etc/hosts")][..],
        &[("lines", false, "500"), ("path", true, "a <b> \"c\" </d> {e}\n\n")],
        &[("path", true, ""), ("mode", true, "bytes"), ("id", true, "ab12"), ("short", true, "été?")],
        &[("path", true, "p"), ("options", false, "{\"deep\": true}"), ("either", true, "all")],
        &[("path", true, "p"), ("either", false, "-7"), ("odd", false, "[1, 2")],
    ] {
        let text = format!("Let me see.{}", block(&[call("read", parameters)]));
        assert_eq!(can(&text), None, "{text}");
        assert_eq!(calls(&tools(), &text).len(), 1);
    }
    assert_eq!(can(&block(&[call("now", &[]), call("read", &[("path", true, "p")]), call("now", &[])])), None);
    assert_eq!(can(&block(&[call("free", &[("anything", false, "7")])])), None, "its schema is not understood");
}

#[test]
fn calls_that_do_not_fit_cannot_be_written() {
    assert_cannot(&block(&[call("write", &[("path", true, "p")])]));
    assert_cannot(&block(&[]));
    assert_cannot(&block(&[call("read", &[("lines", false, "5")])])); // without the path
    assert_cannot(&block(&[call("now", &[("path", true, "p")])]));
    for (name, string, value) in [
        ("unknown", true, "x"),
        ("path", false, "\"p\""),
        ("path", true, "again"),
        ("lines", true, "5"),
        ("lines", false, "501"),
        ("lines", false, "0"),
        ("lines", false, "\"5\""),
        ("mode", true, "image"),
        ("id", true, "ab"),
        ("id", true, "a12"),
        ("short", true, "x"),
        ("short", true, "longer"),
        ("options", false, "{\"deep\": 1}"),
        ("options", false, "{\"wide\": true}"),
        ("options", false, "{}}"),
        ("either", true, "none"),
        ("either", false, "1.5"),
    ] {
        assert_cannot(&block(&[call("read", &[("path", true, "p"), (name, string, value)])]));
    }
}

#[test]
fn a_value_cannot_hold_what_closes_it() {
    let text =
        "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"read\">\n<｜DSML｜parameter name=\"note\" string=\"true\">x";
    // Two characters at least: the tag would not close the value, so it is not begun.
    let mut begun = guide(&tools(), Demands::default());
    assert_eq!(refused(&mut begun, &format!("{text}</｜DSML｜parameter>")), Some(format!("{text}</")));
    // Where it may stand, it is completed.
    let mut begun = guide(&tools(), Demands::default());
    assert_eq!(refused(&mut begun, &format!("{text}y</｜DSML｜invoke>")), Some(format!("{text}y</｜DSML｜")));
}

#[test]
fn an_answer_cannot_end_inside_a_call_and_text_is_free() {
    let mut guide = guide(&tools(), Demands::default());
    let end = MODEL.tokenizer.eos();
    assert_eq!(refused(&mut guide, "A text about `<｜DSML｜tool_calls>` and `<b>`. "), None);
    assert!(guide.rule().allows(end) && !guide.rule().greedy);
    assert_eq!(refused(&mut guide, "\n\n<｜DSML｜"), None);
    assert!(!guide.rule().allows(end) && guide.rule().greedy);
    assert_eq!(refused(&mut guide, "tool_calls>\n<｜DSML｜invoke name=\"read\">\n"), None);
    assert_eq!(refused(&mut guide, "<｜DSML｜parameter name=\"path\" string=\"true\">"), None);
    assert!(!guide.rule().allows(end) && !guide.rule().greedy, "a text is drawn as the request says");
}

#[test]
fn a_call_can_be_required() {
    let required = || Demands { choice: Choice::Required, ..Demands::default() };
    let text = block(&[call("now", &[])]);
    assert_eq!(refused(&mut guide(&tools(), required()), &text), None);
    assert_eq!(refused(&mut guide(&tools(), required()), "No"), Some(String::new()));

    let mut thinks = thinking_guide(&tools(), required(), true);
    assert_eq!(refused(&mut thinks, "I had better"), None);
    assert!(!thinks.rule().allows(MODEL.tokenizer.eos()));
    assert_eq!(refused(&mut thinks, &format!("</think>{text}")), None);

    let named = Demands { choice: Choice::Named("now".into()), ..Demands::default() };
    assert!(refused(&mut guide(&tools(), named), &block(&[call("read", &[("path", true, "p")])])).is_some());
    let one = Demands { parallel: false, ..required() };
    assert!(refused(&mut guide(&tools(), one), &block(&[call("now", &[]), call("now", &[])])).is_some());

    let refuse = |conversation: &Conversation, choice| {
        Rules::new(conversation, Demands { choice, ..Demands::default() }, &VOCABULARY).unwrap_err()
    };
    assert_eq!(refuse(&tools(), Choice::Named("then".into())), Error::UnknownTool("then".into()));
    let nothing = Conversation { messages: vec![Message::new(Role::User, "q")] };
    assert_eq!(refuse(&nothing, Choice::Required), Error::NoTools);
}

#[test]
fn schemas_that_say_nothing_or_far_too_much_restrict_nothing() {
    let required = || Demands { choice: Choice::Required, ..Demands::default() };
    let nothing = offering(&[("f", json!({"type": "object", "properties": {"x": {"type": []}}, "required": ["x"]}))]);
    assert_eq!(refused(&mut guide(&nothing, required()), &block(&[call("f", &[("x", false, "[7")])])), None);

    // Alternatives of alternatives, 100 each.
    let refs = |name: &str| json!({"anyOf": vec![json!({"$ref": format!("#/$defs/{name}")}); 100]});
    let leaves = json!({"anyOf": vec![json!({"type": "integer"}); 100]});
    let defs = json!({"b": refs("c"), "c": refs("d"), "d": leaves});
    let many = json!({"type": "object", "properties": {"x": refs("b")}, "$defs": defs});
    assert_eq!(
        refused(&mut guide(&offering(&[("f", many)]), required()), &block(&[call("f", &[("x", false, "[7")])])),
        None
    );

    // A definition that every parameter would carry.
    let properties: serde_json::Map<String, Value> =
        (0..2000).map(|i| (format!("p{i}"), json!({"$ref": "#/$defs/long"}))).collect();
    let long = json!({"type": "integer", "description": "x".repeat(100_000)});
    let wide = json!({"type": "object", "properties": properties, "$defs": {"long": long}});
    guide(&offering(&[("f", wide)]), required());

    let unnamed = offering(&[("a \"b\"", json!({}))]);
    let demands = Demands { format: Format::JsonObject, ..required() };
    assert_eq!(Rules::new(&unnamed, demands, &VOCABULARY).unwrap_err(), Error::NoNames);
    let hidden = Demands { choice: Choice::None, format: Format::JsonObject, ..Demands::default() };
    assert!(refused(&mut guide(&tools(), hidden), &block(&[call("now", &[])])).is_some());
}

#[test]
fn a_tool_that_takes_a_text_is_held_to_its_grammar() {
    let text = json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]});
    let can = |syntax: &str, definition: &str, input: &str| {
        let (tool, parameter) = ("patch".to_owned(), "input");
        let (syntax, definition) = (syntax.to_owned(), definition.to_owned());
        let grammars = vec![ds4_guide::Grammar { tool, parameter, syntax, definition }];
        let demands = Demands { grammars, ..Demands::default() };
        let offered = offering(&[("patch", text.clone())]);
        refused(&mut guide(&offered, demands), &block(&[call("patch", &[("input", true, input)])])).is_none()
    };
    let lark = r#"
start: begin hunk+ end
begin: "*** Begin Patch" LF
end: "*** End Patch" LF?
hunk: "*** Add File: " /(.+)/ LF line+
line: "+" /(.*)/ LF
%import common.LF
"#;
    let patch = "*** Begin Patch\n*** Add File: a b.txt\n+one\n+</\n*** End Patch";
    assert!(can("lark", lark, patch) && can("lark", lark, &format!("{patch}\n")));
    assert!(!can("lark", lark, &patch.replace("+one", "one")) && !can("lark", lark, "*** Begin Patch\n*** End Patch"));
    assert!(can("regex", "[a-z]+ = \\d{2}", "ab = 12") && !can("regex", "[a-z]+ = \\d{2}", "ab = 123"));
    assert!(can("lark", "no grammar", "anything") && can("unknown", "x", "anything"), "what is not understood");
}

#[test]
fn reasoning_ends_when_its_budget_is_spent() {
    let nothing = Conversation { messages: vec![Message::new(Role::User, "q")] };
    let mut guide = thinking_guide(&nothing, Demands { thinking: Some(3), ..Demands::default() }, true);
    let thought = MODEL.tokenizer.encode("one two three four");
    for token in &thought[..3] {
        assert!(guide.rule().allows(*token));
        guide.drawn(*token);
    }
    let end = MODEL.tokenizer.id("</think>").unwrap();
    assert!(guide.rule().allows(end) && (0..2000).filter(|t| guide.rule().allows(*t)).all(|t| t == end));
    guide.drawn(end);
    assert!(guide.rule().allowed.is_none());
}

/// How far an answer with a schema can be written.
fn json_answer(schema: Value, text: &str) -> Option<String> {
    let format = Format::JsonSchema(ds4_chat::RawValue::from_string(schema.to_string()).unwrap());
    let nothing = Conversation { messages: vec![Message::new(Role::User, "q")] };
    let mut guide = guide(&nothing, Demands { format, ..Demands::default() });
    refused(&mut guide, &format!("{text}<｜end▁of▁sentence｜>"))
}

#[test]
fn an_answer_can_be_held_to_a_schema() {
    let person = json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    assert_eq!(json_answer(person.clone(), "{\"name\": \"Ada\", \"age\": 36}"), None);
    assert_eq!(json_answer(person.clone(), "{\n  \"name\": \"Ada\",\n  \"age\": 36\n}"), None);
    for wrong in ["Ada", "{\"name\": \"Ada\"}", "{\"name\": 7", "{\"name\": \"Ada\", \"age\": 36"] {
        assert!(json_answer(person.clone(), wrong).is_some(), "{wrong}");
    }
    let nothing = Conversation { messages: vec![Message::new(Role::User, "q")] };
    for (schema, why) in [(r#"{"not": {}}"#, "not"), ("7", "object"), (r##"{"$ref": "#/nowhere"}"##, "nowhere")] {
        let format = Format::JsonSchema(ds4_chat::RawValue::from_string(schema.into()).unwrap());
        let error =
            Rules::new(&nothing, Demands { format, ..Demands::default() }, &VOCABULARY).unwrap_err().to_string();
        assert!(error.contains(why) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn an_answer_with_a_schema_may_be_a_call_instead() {
    let demands = || Demands { format: Format::JsonObject, ..Demands::default() };
    assert_eq!(refused(&mut guide(&tools(), demands()), &block(&[call("now", &[])])), None);
    assert_eq!(refused(&mut guide(&tools(), demands()), "{\"a\": [1, \"x\"]}"), None);
    assert!(refused(&mut guide(&tools(), demands()), "\n\n<{").is_some());
    assert!(refused(&mut guide(&tools(), demands()), "[1]").is_some());
}
