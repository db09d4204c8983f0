//! Any output of a model is read the same however it is cut, and calls have arguments that are JSON objects.

#![no_main]

use ds4_chat::{Conversation, End, Event, Message, RawValue, Reader, Role, Tools};
use libfuzzer_sys::fuzz_target;

const SCHEMA: &str = r#"{"name": "f", "parameters": {"properties": {
    "n": {"type": "integer"}, "s": {"type": "string"}, "l": {"type": ["array", "null"]}}}}"#;

fuzz_target!(|data: (bool, u8, &str)| {
    let (thinking, cut, output) = data;
    let tools = vec![RawValue::from_string(SCHEMA.into()).expect("it is JSON")];
    let conversation = Conversation { messages: vec![Message { tools, ..Message::new(Role::System, "") }] };
    let tools = Tools::of(&conversation);
    let read = |len: usize| {
        let mut reader = Reader::new(thinking, tools.clone());
        let (mut events, mut rest) = (Vec::new(), output);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.ceil_char_boundary(len));
            events.extend(reader.push(piece));
            rest = after;
        }
        let finished = reader.finish();
        events.extend(finished.events);
        assert!(output.get(finished.body).is_some());
        (joined(events), finished.end)
    };
    let (whole, end) = read(usize::MAX);
    assert_eq!(read(usize::from(cut) + 1), (whole.clone(), end));
    check(&whole, end);
});

/// Events without the seams between pushes.
fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (Some(Event::Reasoning(a)), Event::Reasoning(b))
            | (Some(Event::Text(a)), Event::Text(b))
            | (Some(Event::Arguments(a)), Event::Arguments(b)) => a.push_str(&b),
            (_, event) => joined.push(event),
        }
    }
    joined
}

fn check(events: &[Event], end: End) {
    let mut told: Option<String> = None;
    let mut calls = 0;
    for event in events {
        match event {
            Event::Reasoning(_) | Event::Text(_) => assert!(told.is_none()),
            Event::Call(call) => assert!(told.replace(String::new()).is_none() && !call.name.is_empty()),
            Event::Arguments(part) => told.as_mut().expect("a call").push_str(part),
            Event::Called(call) => {
                assert_eq!(told.take().as_ref(), Some(&call.arguments));
                assert!(serde_json::from_str::<serde_json::Map<_, _>>(&call.arguments).is_ok());
                calls += 1;
            }
            Event::Broken(_) => {
                let arguments = told.take().expect("a call");
                assert!(serde_json::from_str::<serde_json::Value>(&arguments).is_err());
            }
        }
    }
    assert!(told.is_none());
    assert!(end != End::Calls || calls > 0);
}
