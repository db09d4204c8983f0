//! Model output to calls: what the model was trained to write, and what it writes instead.

use ds4_chat::{Conversation, End, Event, Message, Options, RawValue, Reader, Role, ToolCall, Tools, render};
use proptest::prelude::*;

/// All that an output says.
#[derive(Debug, Default, Clone, PartialEq)]
struct Said {
    reasoning: String,
    text: String,
    /// Names and arguments.
    calls: Vec<(String, String)>,
    /// What was told of a call that broke off, and its text.
    broken: Vec<(String, String)>,
    end: Option<End>,
    body: String,
}

const SCHEMA: &str = r#"{"name": "f", "parameters": {"type": "object", "properties": {
    "n": {"type": "integer"}, "on": {"type": "boolean"}, "text": {"type": "string"},
    "list": {"type": "array"}, "map": {"type": "object"}}}}"#;

fn tools() -> Tools {
    let tools = vec![RawValue::from_string(SCHEMA.into()).unwrap()];
    let message = Message { tools, ..Message::new(Role::System, "") };
    Tools::of(&Conversation { messages: vec![message] }).unwrap()
}

/// Reads an output in pieces, and checks what holds for every one.
fn read<'a>(thinking: bool, pieces: impl IntoIterator<Item = &'a str>) -> Said {
    let mut reader = Reader::new(thinking, Some(tools()));
    let (mut said, mut output) = (Said::default(), String::new());
    let mut call: Option<ToolCall> = None;
    let mut take = |events: Vec<Event>, said: &mut Said| {
        for event in events {
            match (event, &mut call) {
                (Event::Reasoning(part), None) => said.reasoning += &part,
                (Event::Text(part), None) => said.text += &part,
                (Event::Call(begun), None) => {
                    assert!(!begun.name.is_empty() && begun.arguments.is_empty());
                    call = Some(begun);
                }
                (Event::Arguments(part), Some(call)) => call.arguments += &part,
                (Event::Called(complete), Some(told)) => {
                    assert_eq!(&complete, told, "the deltas are the arguments");
                    let arguments: serde_json::Value = serde_json::from_str(&complete.arguments).unwrap();
                    assert!(arguments.is_object());
                    said.calls.push((complete.name, complete.arguments));
                    call = None;
                }
                (Event::Broken(raw), Some(told)) => {
                    assert!(serde_json::from_str::<serde_json::Value>(&told.arguments).is_err(), "{told:?}");
                    said.broken.push((told.arguments.clone(), raw));
                    call = None;
                }
                (event, call) => panic!("{event:?} while {call:?}"),
            }
        }
    };
    for piece in pieces {
        output += piece;
        take(reader.push(piece), &mut said);
    }
    let finished = reader.finish();
    take(finished.events, &mut said);
    assert_eq!(call, None, "a call ends or breaks off");
    assert_eq!(finished.end == End::Calls, !said.calls.is_empty() && finished.end != End::Unterminated);
    said.body = output[finished.body].to_owned();
    Said { end: Some(finished.end), ..said }
}

/// An output without reasoning, in one piece and character by character.
#[track_caller]
fn answer(output: &str) -> Said {
    let said = read(false, [output]);
    let mut buffer = [0; 4];
    let mut reader = Vec::new();
    output.chars().for_each(|c| reader.push(c.encode_utf8(&mut buffer).to_owned()));
    assert_eq!(read(false, reader.iter().map(String::as_str)), said);
    said
}

/// A block with this between its tags.
fn block(inside: &str) -> String {
    format!("<｜DSML｜tool_calls>\n{inside}\n</｜DSML｜tool_calls>")
}

/// A call of `f` with this between its tags.
fn invoke(inside: &str) -> String {
    format!("<｜DSML｜invoke name=\"f\">\n{inside}\n</｜DSML｜invoke>")
}

#[track_caller]
fn assert_calls(output: &str, text: &str, calls: &[&str]) {
    let said = answer(output);
    let found: Vec<&str> = said.calls.iter().map(|(_, arguments)| arguments.as_str()).collect();
    assert_eq!((said.text.as_str(), &found[..]), (text, calls), "{output}");
    assert_eq!(said.end, Some(if calls.is_empty() { End::Text } else { End::Calls }), "{output}");
    assert_eq!(said.body, output);
}

/// The arguments of a call with this between its tags.
#[track_caller]
fn assert_arguments(inside: &str, arguments: &str) {
    assert_calls(&block(&invoke(inside)), "", &[arguments]);
}

#[track_caller]
fn assert_text(output: &str, end: End) {
    let said = answer(output);
    assert_eq!((said.text.as_str(), &said.calls[..], said.end), (output, &[][..], Some(end)));
}

#[test]
fn calls_come_in_order_with_their_arguments_in_the_models_order() {
    // H092, H093, H094, H105
    let first = invoke(
        "<｜DSML｜parameter name=\"text\" string=\"true\">a \"b\"\n<c></｜DSML｜parameter>\n\
         <｜DSML｜parameter name=\"list\" string=\"false\">[1, {\"x\": 2.50}]</｜DSML｜parameter>\n\
         <｜DSML｜parameter name=\"a\" string=\"true\"></｜DSML｜parameter>",
    );
    let output = format!("Let me see.\n\n{}", block(&(first + "\n" + &invoke(""))));
    assert_calls(&output, "Let me see.", &[r#"{"text":"a \"b\"\n<c>","list":[1,{"x":2.50}],"a":""}"#, "{}"]);
}

#[test]
fn arguments_come_as_they_are_written() {
    // H095, H096
    let mut reader = Reader::new(false, Some(tools()));
    let mut push = |text: &str| reader.push(text);
    let f = ToolCall { name: "f".into(), ..ToolCall::default() };
    assert_eq!(push("so\n\n<｜DSML｜tool_calls>\n"), [Event::Text("so".into())]);
    assert_eq!(push("<｜DSML｜invoke name=\"f\""), []);
    assert_eq!(push(">\n<｜DSML｜parameter"), [Event::Call(f.clone())]);
    assert_eq!(push(" name=\"text\" string=\"true\">"), [Event::Arguments("{\"text\":\"".into())]);
    assert_eq!(push("a\nb</"), [Event::Arguments("a\\nb".into())]);
    assert_eq!(push("｜DSML｜"), []);
    assert_eq!(push("p></｜DSML｜parameter>"), [Event::Arguments("</｜DSML｜p>\"".into())]);
    assert_eq!(push("<｜DSML｜parameter name=\"n\" string=\"false\">1"), [Event::Arguments(",\"n\":".into())]);
    let arguments = r#"{"text":"a\nb</｜DSML｜p>","n":12}"#.to_owned();
    assert_eq!(
        push("2</｜DSML｜parameter></｜DSML｜invoke>"),
        [Event::Arguments("12}".into()), Event::Called(ToolCall { arguments, ..f })]
    );
    assert_eq!(push("</｜DSML｜tool_calls"), []);
    assert!(!reader.is_done());
    assert_eq!(reader.push(">\nand nothing more"), []);
    assert!(reader.is_done(), "H103");
    assert_eq!(reader.finish().end, End::Calls);
}

#[test]
fn all_spellings_are_read() {
    // H099
    let dsml = block(&invoke("<｜DSML｜parameter name=\"n\" string=\"false\">1</｜DSML｜parameter>"));
    for mark in ["｜DSML｜", "DSML｜", "|DSML|", " ｜ DSML ｜ ", "｜", ""] {
        assert_calls(&format!("so\n{}", dsml.replace("｜DSML｜", mark)), "so", &["{\"n\":1}"]);
    }
    assert_calls(&dsml.replace("tool_calls", "toolcalls"), "", &["{\"n\":1}"]);
    assert_calls(&format!("</｜DSML｜tool_calls> {dsml}"), "</｜DSML｜tool_calls>", &["{\"n\":1}"]);
}

#[test]
fn what_is_missing_or_misplaced_is_thought_of() {
    // H102
    let p = |name: &str, value: &str| format!("<｜DSML｜parameter name=\"{name}\">{value}</｜DSML｜parameter>");
    assert_arguments(&p("a", "5"), r#"{"a":"5"}"#);
    assert_arguments(&p("n", "5"), r#"{"n":5}"#);
    assert_arguments(&p("map", &format!("\n{}\n{}\n", p("x", "1"), p("y", "2"))), r#"{"map":{"x":"1","y":"2"}}"#);
    assert_arguments(&p("a", &p("b", &p("c", "1"))), r#"{"a":{"b":{"c":"1"}}}"#);
    assert_arguments(&p("a", &format!("no {}", p("b", "1"))), &{
        let text = "no <｜DSML｜parameter name=\\\"b\\\">1";
        format!("{{\"a\":\"{text}\"}}")
    });
    assert_arguments("{\"n\": \"5\", \"text\": \"</b>\"}", r#"{"n":5,"text":"</b>"}"#);
    assert_arguments(&(p("a", "1") + &p("a", "2")), r#"{"a":"1"}"#);
    let open = "<｜DSML｜invoke name=\"f\">";
    assert_calls(&block(&format!("{open}{}{open}{}", p("a", "1"), p("a", "2"))), "", &[r#"{"a":"1"}"#, r#"{"a":"2"}"#]);
    assert_calls(&block("<｜DSML｜invoke name='f'/>"), "", &["{}"]);
    let unclosed = block(&invoke(&p("a", "1")));
    assert_calls(unclosed.strip_suffix("</｜DSML｜tool_calls>").unwrap(), "", &[r#"{"a":"1"}"#]);
    assert_calls(unclosed.strip_suffix("tool_calls>").unwrap(), "", &[r#"{"a":"1"}"#]);
}

#[test]
fn entities_are_resolved_where_they_are_no_text() {
    let p = |value: &str| format!("<｜DSML｜parameter name=\"text\" string=\"true\">{value}</｜DSML｜parameter>");
    assert_arguments(&p("a &amp;&lt;b&gt;"), r#"{"text":"a &amp;&lt;b&gt;"}"#);
    assert_arguments(&p("&lt;/｜DSML｜parameter>&lt;/p"), r#"{"text":"</｜DSML｜parameter>&lt;/p"}"#);
    let plain = block(&invoke(&p("a &amp;&amp; &lt;b&gt; &quot;&apos;&nbsp;"))).replace("｜DSML｜", "");
    assert_calls(&plain, "", &[r#"{"text":"a && <b> \"'&nbsp;"}"#]);
}

#[test]
fn values_get_the_types_of_the_schema() {
    let p = |name: &str, string: bool, value: &str| {
        format!("<｜DSML｜parameter name=\"{name}\" string=\"{string}\">{value}</｜DSML｜parameter>")
    };
    assert_arguments(&p("n", true, "5"), r#"{"n":5}"#);
    assert_arguments(&p("on", true, "True"), r#"{"on":true}"#);
    assert_arguments(&p("list", true, "[1, 2]"), r#"{"list":[1,2]}"#);
    assert_arguments(&p("map", false, r#""{\"a\": 1}""#), r#"{"map":{"a":1}}"#);
    assert_arguments(&p("text", false, "5"), r#"{"text":"5"}"#);
    assert_arguments(
        &p("text", true, &p("text", true, "")),
        r#"{"text":"<｜DSML｜parameter name=\"text\" string=\"true\">"}"#,
    );
    assert_arguments(&p("unknown", false, "oops {"), r#"{"unknown":"oops {"}"#);
}

#[test]
fn mentions_and_examples_stay_text() {
    let example = block(&invoke(""));
    for text in [
        "The tag <｜DSML｜tool_calls> opens a block, </｜DSML｜tool_calls> closes it.".into(),
        "Write `<tool_calls>`, then <invoke name=\"x\">.".into(),
        "a < b, <tool, <tool_calls, <\n\n < ".into(),
        format!("```\n{example}\n```\n"),
        format!("As `{example}` shows"),
        format!("Say {} to call.", example.replace("｜DSML｜", "")),
        "<tool_calls><tool_calls>x<｜DSML｜tool_calls>".into(),
    ] {
        let said = answer(&text);
        assert_eq!((said.text, said.calls, said.body), (text.clone(), vec![], text));
    }
    assert_calls(&format!("```\n{example}\n```\nso:\n\n{example}"), &format!("```\n{example}\n```\nso:"), &["{}"]);
    assert_calls(&format!("```\n{example}\n"), "```", &["{}"]);
    assert_eq!(read(false, [example.as_str()]).calls.len(), 1);
    let mut without_tools = Reader::new(false, None);
    assert_eq!(without_tools.push(&example), [Event::Text(example.clone())]);
}

#[test]
fn calls_in_reasoning_count_only_if_it_never_ends() {
    // H098
    let example = block(&invoke(""));
    let think = |output: &str| read(true, [output]);
    let said = think(&format!("so\n\n{example} is how</think>\n\n{example}"));
    assert_eq!((said.reasoning, said.calls.len()), (format!("so\n\n{example} is how"), 1));
    assert_eq!(said.body, format!("\n\n{example}"));
    let said = think(&format!("so\n\n{example}</think>done"));
    assert_eq!((said.reasoning, said.text, said.calls.len()), (format!("so\n\n{example}"), "done".into(), 0));
    let said = think(&format!("so\n\n{example}\n"));
    assert_eq!((said.reasoning.as_str(), said.calls.len(), said.end), ("so", 1, Some(End::Calls)));
    assert_eq!(said.body, format!("\n\n{example}\n"));
    let said = think(&format!("so {example} no"));
    assert_eq!((said.reasoning, said.calls.len(), said.end), (format!("so {example} no"), 0, Some(End::Text)));
    let unclosed = "so <｜DSML｜tool_calls><｜DSML｜invoke name=\"f\"><｜DSML｜parameter name=\"a\">";
    let said = think(&format!("{unclosed}</think>done"));
    assert_eq!((said.reasoning.as_str(), said.text.as_str(), said.calls.len()), (unclosed, "done", 0));
    let said = think("so <tool_calls>\n<</think>done");
    assert_eq!((said.reasoning.as_str(), said.text.as_str()), ("so <tool_calls>\n<", "done"));
}

#[test]
fn what_cannot_be_read_is_text() {
    // H100
    for inside in ["no call", "<｜DSML｜invoke>", "<｜DSML｜parameter name=\"a\">", ""] {
        assert_text(&format!("so\n\n{}\nok", block(inside)), End::Unparsable);
    }
    let broken = format!("\n{}", block("<｜DSML｜invoke name=\"f\">no parameter"));
    let said = answer(&format!("so{broken} ok"));
    assert_eq!(
        (said.text.as_str(), &said.broken[..], said.end),
        ("so ok", &[(String::new(), broken)][..], Some(End::Unparsable))
    );
    let said = answer(&block(&(invoke("") + "oops")));
    assert_eq!((said.text.as_str(), said.calls.len(), said.end), ("oops\n</｜DSML｜tool_calls>", 1, Some(End::Calls)));
}

#[test]
fn a_block_that_does_not_end_is_told_as_text() {
    // H101
    let whole = format!("so\n{}", block(&invoke("<｜DSML｜parameter name=\"a\">value</｜DSML｜parameter>")));
    let begins = whole.find("name").unwrap() + "name=\"f\">".len();
    let ends = whole.find("</｜DSML｜invoke>").unwrap() + "</｜DSML｜invoke>".len();
    for cut in (0..ends).filter(|cut| whole.is_char_boundary(*cut)) {
        let said = answer(&whole[..cut]);
        let (text, raw) = if cut < begins { (&whole[..cut], "") } else { ("so", &whole[2..cut]) };
        assert_eq!(said.text + &said.broken.concat_raw(), format!("{text}{raw}"));
        assert_eq!(
            said.end,
            Some(if cut < begins && !whole[..cut].contains(">\n<") { End::Text } else { End::Unterminated })
        );
    }
}

trait Raw {
    fn concat_raw(&self) -> String;
}

impl Raw for Vec<(String, String)> {
    fn concat_raw(&self) -> String {
        self.iter().map(|(_, raw)| raw.as_str()).collect()
    }
}

#[test]
fn a_block_that_never_ends_is_given_up() {
    let mut reader = Reader::new(false, Some(tools()));
    reader.push("<｜DSML｜tool_calls><｜DSML｜invoke name=\"f\"><｜DSML｜parameter name=\"a\">");
    let piece = "again ".repeat(1000);
    let pieces = (0..1000).take_while(|_| {
        reader.push(&piece);
        !reader.is_done()
    });
    assert!(pieces.count() < 200);
    assert_eq!(reader.finish().end, End::Unterminated);
    let text = "<tool_calls>\n".to_owned() + &" ".repeat(2_000_000);
    assert_eq!(read(false, [text.as_str()]).text, text, "spaces are held back only for so long");
}

/// Output with everything that means something, whole and in parts.
fn output() -> impl Strategy<Value = String> {
    let open = prop::sample::select(vec!["<｜DSML｜", "<DSML｜", "<", "</｜DSML｜", "</DSML｜", "</"]);
    let word = prop::sample::select(vec!["tool_calls", "invoke", "parameter"]);
    let rest =
        prop::sample::select(vec![">", ">\n", " name=\"f\">", " name=\"n\">", " name=\"text\" string=\"true\">", "\""]);
    let tag = (open, word, rest).prop_map(|(a, b, c)| [a, b, c].concat());
    let whole = prop::sample::select(vec![
        block(&invoke("")),
        "\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n".into(),
        "<｜DSML｜parameter name=\"text\" string=\"true\">".into(),
        "<｜DSML｜parameter name=\"n\" string=\"false\">".into(),
        "</｜DSML｜parameter>\n".into(),
        "</｜DSML｜invoke>\n".into(),
        "</｜DSML｜tool_calls>".into(),
    ]);
    let other = prop_oneof![
        "(<think>|</think>|<|</|&|&lt;|\\{|\\}|`|```\n|\n|é🙂|[a-z ]{0,4})",
        Just("{\"a\": [1, \"</｜DSML｜invoke>\"]}".to_owned()),
    ];
    prop::collection::vec(prop_oneof![2 => tag, 4 => whole, 3 => other], 0..14).prop_map(|parts| parts.concat())
}

/// Arguments of a call, as a client may bring them back.
fn arguments() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        "\\PC{0,12}",
        "[<>/&a-z\\n ]{0,12}",
        Just("</｜DSML｜parameter>".to_owned()),
        Just("</｜DSML｜invoke>".into()),
        Just(" <｜DSML｜parameter name=\"b\">1".into()),
    ];
    let leaf = prop_oneof![
        text.prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        (-1e9..1e9).prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::vec(("\\PC{0,5}", inner), 0..4)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    });
    prop::collection::vec(("[a-zA-Z0-9_. é-]{1,8}", value), 0..5).prop_map(|members| {
        let members = members.into_iter().map(|(name, value)| (format!("x{name}"), value));
        serde_json::Value::from(members.collect::<serde_json::Map<_, _>>()).to_string()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_not_matter_how_the_output_is_cut_and_no_text_is_lost(
        output in output(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        thinking: bool,
    ) {
        let whole = read(thinking, [output.as_str()]);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| output.floor_char_boundary(cut.index(output.len() + 1))).collect();
        cuts.extend([0, output.len()]);
        cuts.sort_unstable();
        prop_assert_eq!(&read(thinking, cuts.windows(2).map(|cut| &output[cut[0]..cut[1]])), &whole);
        if whole.calls.is_empty() && whole.broken.is_empty() {
            let Said { reasoning, text, .. } = &whole;
            let all = |open, close| [open, reasoning.as_str(), close, text.as_str()].concat() == output;
            prop_assert!(["", "<think>"].iter().any(|open| all(open, "") || all(open, "</think>")), "{:?}", whole);
            prop_assert_eq!(&whole.body, text);
        }
    }

    #[test]
    fn calls_are_read_as_they_were_written(
        calls in prop::collection::vec(("[^\"&<\\p{C}]{1,10}", arguments()), 1..4),
        text in "[a-z`]{0,8}",
    ) {
        let tool_calls = calls.iter().map(|(name, arguments)| {
            ToolCall { id: String::new(), name: name.clone(), arguments: arguments.clone() }
        });
        let write = |tool_calls: Vec<ToolCall>| {
            let message = Message { tool_calls, ..Message::assistant("", text.clone()) };
            let messages = vec![Message::new(Role::User, "q"), message];
            let rendered = render(&Conversation { messages }, &Options { mode: ds4_chat::Mode::Chat, ..Options::default() });
            rendered.text[rendered.assistant[0].body.clone()].to_owned()
        };
        let written = write(tool_calls.collect());
        let said = read(false, [written.as_str()]);
        prop_assert_eq!(&said.text, &text);
        prop_assert_eq!(said.calls.len(), calls.len());
        for ((name, arguments), (read_name, read_arguments)) in calls.iter().zip(&said.calls) {
            prop_assert_eq!(name, read_name);
            let value = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
            prop_assert_eq!(value(read_arguments), value(arguments));
        }
        let again = said.calls.into_iter().map(|(name, arguments)| ToolCall { id: String::new(), name, arguments });
        prop_assert_eq!(write(again.collect()), written);
    }
}
