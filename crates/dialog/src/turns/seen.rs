//! What counts as the same turn.

use ds4_chat::{Message, Role};
use ds4_kv::Key;
use serde_json::Value;

/// A place in a conversation: a hash of the roles, texts and calls before it. Reasoning does not count, nor do spaces
/// around a text, nor how the arguments of a call were written. All else does, the system's text too, so that only who
/// knows a conversation finds what was thought in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(Key);

impl Default for Place {
    /// Before the first message.
    fn default() -> Self {
        Self(hash("place", &[]))
    }
}

impl Place {
    /// The place after one more message.
    pub fn after(self, message: &Message) -> Self {
        let role = match message.role {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::LatestReminder => "reminder",
        };
        Self(hash("place", &[self.0.bytes(), role.as_bytes(), said(message).bytes()]))
    }
}

/// What a message says, as far as clients keep it.
pub(super) struct Seen {
    /// Text and calls.
    pub(super) said: Key,
    /// None where there is no reasoning: clients may keep it to themselves.
    pub(super) thought: Option<Key>,
}

impl Seen {
    pub(super) fn new(message: &Message) -> Self {
        Self { said: said(message), thought: thought(message) }
    }

    /// The keys under which the message is found at `place`, those that are surest to mean this very turn first.
    pub(super) fn keys(&self, place: Place, message: &Message) -> Vec<Key> {
        let calls: Vec<_> = message.tool_calls.iter().map(|call| call.id.as_bytes()).collect();
        let mut keys = Vec::with_capacity(3);
        if !calls.is_empty() && calls.iter().all(|id| !id.is_empty()) {
            keys.push(hash("calls", &calls));
        }
        if !message.id.is_empty() {
            keys.push(hash("message", &[message.id.as_bytes()]));
        }
        keys.push(hash("visible", &[place.0.bytes(), self.said.bytes()]));
        keys
    }
}

/// The reasoning, if it is shown.
pub(super) fn thought(message: &Message) -> Option<Key> {
    let reasoning = message.reasoning.trim();
    (!reasoning.is_empty()).then(|| hash("thought", &[reasoning.as_bytes()]))
}

/// Text and calls, without what clients change on the way.
fn said(message: &Message) -> Key {
    let calls = message.tool_calls.iter().flat_map(|call| [call.name.clone(), same_arguments(&call.arguments)]);
    let calls: Vec<_> = calls.collect();
    let mut parts = vec![message.content.trim().as_bytes()];
    parts.extend(calls.iter().map(|part| part.as_bytes()));
    hash("said", &parts)
}

/// Arguments in one of the many ways to write them: members sorted, no spaces, whole numbers without a point.
fn same_arguments(arguments: &str) -> String {
    match serde_json::from_str::<Value>(arguments) {
        Ok(mut value) => {
            value.sort_all_objects();
            plain_numbers(&mut value);
            value.to_string()
        }
        Err(_) if arguments.trim().is_empty() => "{}".into(),
        Err(_) => arguments.trim().into(),
    }
}

/// JavaScript writes 1.0 as 1. Recursion ends where the parser's limit is.
fn plain_numbers(value: &mut Value) {
    /// Below, every whole number is one f64.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => {
            if let Some(x) = number.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < EXACT) {
                *value = Value::from(x as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain_numbers),
        Value::Object(members) => members.values_mut().for_each(plain_numbers),
        _ => {}
    }
}

/// A hash of parts, each with its length. `what` keeps hashes of different things apart.
pub(super) fn hash(what: &str, parts: &[&[u8]]) -> Key {
    let mut hash = blake3::Hasher::new_derive_key("ds4 turn");
    for part in [&[what.as_bytes()], parts].concat() {
        hash.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let mut key = [0; Key::BYTES];
    hash.finalize_xof().fill(&mut key);
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ds4_chat::ToolCall;

    fn calling(name: &str, arguments: &str) -> Key {
        let call = ToolCall { id: "c".into(), name: name.into(), arguments: arguments.into() };
        said(&Message { tool_calls: vec![call], ..Message::assistant("", "text") })
    }

    #[test]
    fn arguments_are_the_same_however_they_are_written() {
        let one = calling("f", r#"{"path": "é/a", "n": [1.0, {"b": 2, "a": null}], "x": -0.0}"#);
        assert_eq!(calling("f", r#"{"x":0,"n":[1,{"a":null,"b":2}],"path":"\u00e9\/a"}"#), one);
        for other in [
            r#"{"x":0,"n":[1,{"a":null,"b":3}],"path":"é/a"}"#,
            r#"{"x":0,"n":[1.5,{"a":null,"b":2}],"path":"é/a"}"#,
            r#"{"x":0,"n":[{"a":null,"b":2},1],"path":"é/a"}"#,
            r#"{"n":[1,{"a":null,"b":2}],"path":"é/a"}"#,
        ] {
            assert_ne!(calling("f", other), one, "{other}");
        }
        assert_ne!(calling("g", r#"{"path": "é/a", "n": [1.0, {"b": 2, "a": null}], "x": -0.0}"#), one);
        assert_eq!(calling("f", ""), calling("f", " {} "));
        assert_eq!(calling("f", "{\"a\": 1 "), calling("f", "{\"a\": 1"), "no JSON: text");
        assert_ne!(calling("f", "1234567890123456789"), calling("f", "1234567890123456788"));
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert_eq!(calling("f", &deep), calling("f", &deep));
    }

    #[test]
    fn spaces_around_a_text_and_reasoning_do_not_count() {
        let message = |reasoning: &str, text: &str| said(&Message::assistant(reasoning, text));
        assert_eq!(message("hm", "\n\nan answer "), message("", "an answer"));
        assert_ne!(message("", "an answer"), message("", "an  answer"));
    }

    #[test]
    fn a_place_is_everything_before_it() {
        let user = Message::new(Role::User, "a");
        let place = Place::default().after(&user);
        assert_ne!(place, Place::default());
        assert_ne!(place, Place::default().after(&Message::assistant("", "a")), "the role counts");
        assert_ne!(place, place.after(&user));
    }
}
