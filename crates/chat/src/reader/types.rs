//! Which JSON types the parameters of the tools on offer may have, and values that have them.

use std::collections::HashMap;

use indexmap::IndexMap;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::json;
use crate::message::Conversation;

/// Levels of `anyOf` and the like that are looked at.
const MAX_LEVELS: usize = 8;

/// The tools on offer, as far as reading their calls needs them.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    /// The parameters by tool, and their types.
    tools: HashMap<String, HashMap<String, Types>>,
}

impl Tools {
    /// The tools of a conversation; none if it offers none.
    pub fn of(conversation: &Conversation) -> Option<Self> {
        let mut tools = conversation.messages.iter().flat_map(|message| &message.tools).peekable();
        tools.peek()?;
        Some(Self { tools: tools.filter_map(|tool| parameters(tool)).collect() })
    }

    /// All arguments as a JSON object, with the types of the schema; none if `json` is no object.
    pub(super) fn repaired(&self, tool: &str, json: &str) -> Option<String> {
        let members: IndexMap<String, Value> = serde_json::from_str(json).ok()?;
        let member = |(name, value): (&String, &Value)| {
            let types = self.types(tool, name);
            let value = match value {
                Value::String(text) => types.repaired(true, text),
                other => types.repaired(false, &other.to_string()),
            };
            json::string(name) + ":" + &value
        };
        Some(format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(",")))
    }

    pub(super) fn types(&self, tool: &str, parameter: &str) -> Types {
        self.tools.get(tool).and_then(|parameters| parameters.get(parameter)).copied().unwrap_or_default()
    }
}

/// A tool's name and its parameters. Schemas are the clients': what is not understood allows everything.
fn parameters(tool: &RawValue) -> Option<(String, HashMap<String, Types>)> {
    let tool: Value = serde_json::from_str(tool.get()).ok()?;
    let properties = tool.pointer("/parameters/properties").and_then(Value::as_object);
    let types = properties.into_iter().flatten().map(|(name, schema)| (name.clone(), Types::of(schema, MAX_LEVELS)));
    Some((tool["name"].as_str()?.to_owned(), types.collect()))
}

/// A set of JSON types; the empty one says that nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Types(u8);

impl Types {
    const NULL: Self = Self(1);
    const BOOLEAN: Self = Self(2);
    const INTEGER: Self = Self(4);
    const NUMBER: Self = Self(8 | 4);
    const STRING: Self = Self(16);
    const ARRAY: Self = Self(32);
    const OBJECT: Self = Self(64);

    /// Those that a schema allows.
    fn of(schema: &Value, levels: usize) -> Self {
        if levels == 0 {
            return Self::default();
        }
        let Some(schema) = schema.as_object() else { return Self::default() };
        let nullable = schema.get("nullable") == Some(&Value::Bool(true));
        let mut types = match schema.get("type") {
            Some(Value::String(name)) => Self::named(name),
            Some(Value::Array(names)) => Self::any(names.iter().map(|n| n.as_str().map_or(Self(0), Self::named))),
            _ => match ["anyOf", "oneOf"].into_iter().find_map(|key| schema.get(key)?.as_array()) {
                Some(options) => Self::any(options.iter().map(|option| Self::of(option, levels - 1))),
                None => match (schema.get("enum").and_then(Value::as_array), schema.get("const")) {
                    (Some(values), _) => Self::any(values.iter().map(Self::of_value)),
                    (None, Some(value)) => Self::of_value(value),
                    (None, None) => Self::default(),
                },
            },
        };
        if nullable && types.known() {
            types.0 |= Self::NULL.0;
        }
        types
    }

    fn named(name: &str) -> Self {
        match name {
            "null" => Self::NULL,
            "boolean" => Self::BOOLEAN,
            "integer" => Self::INTEGER,
            "number" => Self::NUMBER,
            "string" => Self::STRING,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => Self::default(),
        }
    }

    /// One of several; if one of these is unknown, so is the whole.
    fn any(options: impl Iterator<Item = Self>) -> Self {
        options
            .reduce(|a, b| if a.known() && b.known() { Self(a.0 | b.0) } else { Self::default() })
            .unwrap_or_default()
    }

    fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(number) if number.is_f64() => Self(Self::NUMBER.0 & !Self::INTEGER.0),
            Value::Number(_) => Self::INTEGER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    fn known(self) -> bool {
        self.0 != 0
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether a text may stand here.
    pub(super) fn allow_text(self) -> bool {
        !self.known() || self.name_text()
    }

    /// Whether the schema names texts.
    pub(super) fn name_text(self) -> bool {
        self.has(Self::STRING)
    }

    /// JSON of one of these types that `text` spells.
    fn json(self, text: &str) -> Option<String> {
        let text = match text.trim() {
            "True" if self.has(Self::BOOLEAN) => "true",
            "False" if self.has(Self::BOOLEAN) => "false",
            "None" if self.has(Self::NULL) => "null",
            text => text,
        };
        let value: Value = serde_json::from_str(text).ok()?;
        if !self.known() || self.has(Self::of_value(&value)) {
            return Some(json::compact(text));
        }
        let whole = value.as_f64().filter(|x| self.has(Self::INTEGER) && x.fract() == 0.0 && x.abs() < 1e15)?;
        Some((whole as i64).to_string())
    }

    /// The JSON of a value that was written as a text (`string`) or as JSON; if the schema wants the other, it becomes
    /// that. What is no JSON at all is a text.
    pub(super) fn repaired(self, string: bool, text: &str) -> String {
        if string && self.allow_text() {
            return json::string(text);
        }
        if let Some(json) = self.json(text) {
            return json;
        }
        // JSON inside a text, as when a model quotes everything.
        if !self.has(Self::STRING)
            && let Ok(inner) = serde_json::from_str::<String>(text.trim())
            && let Some(json) = self.json(&inner)
        {
            return json;
        }
        match Self::default().json(text) {
            Some(json) if !self.has(Self::STRING) && !string => json,
            _ => json::string(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Role};

    fn types(schema: &str) -> Types {
        let tool = format!(r#"{{"name": "f", "parameters": {{"properties": {{"p": {schema}}}}}}}"#);
        let tools = vec![RawValue::from_string(tool).unwrap()];
        let message = Message { tools, ..Message::new(Role::System, "") };
        Tools::of(&Conversation { messages: vec![message] }).unwrap().types("f", "p")
    }

    #[test]
    fn types_are_found_wherever_schemas_say_them() {
        assert_eq!(types(r#"{"type": "number"}"#), Types::NUMBER);
        assert_eq!(types(r#"{"type": ["string", "null"]}"#), Types(16 | 1));
        assert_eq!(types(r#"{"anyOf": [{"type": "array"}, {"oneOf": [{"type": "object"}]}]}"#), Types(32 | 64));
        assert_eq!(types(r#"{"enum": ["a", 1]}"#), Types(16 | 4));
        assert_eq!(types(r#"{"const": false}"#), Types::BOOLEAN);
        assert_eq!(types(r#"{"type": "integer", "nullable": true}"#), Types(4 | 1));
        for unknown in ["true", "7", "{}", r##"{"$ref": "#/x"}"##, r#"{"anyOf": [{"type": "array"}, {}]}"#] {
            assert_eq!(types(unknown), Types::default(), "{unknown}");
        }
        let deep = r#"{"anyOf":["#.repeat(30) + r#"{"type":"string"}"# + &"]}".repeat(30);
        assert_eq!(types(&deep), Types::default());
    }

    #[test]
    fn a_value_of_the_wrong_type_becomes_one_of_the_right_type_if_it_can() {
        let integer = types(r#"{"type": "integer"}"#);
        for five in ["5", " 5\n", "5.0", "\"5\""] {
            assert_eq!(integer.repaired(true, five), "5", "{five:?}");
            assert_eq!(integer.repaired(false, five), "5", "{five:?}");
        }
        assert_eq!(integer.repaired(true, "five"), "\"five\"");
        assert_eq!(integer.repaired(false, "5.5"), "5.5");
        let boolean = types(r#"{"type": ["boolean", "null"]}"#);
        assert_eq!((boolean.repaired(true, "True"), boolean.repaired(false, "None")), ("true".into(), "null".into()));
        let list = types(r#"{"type": "array"}"#);
        assert_eq!(list.repaired(true, "[1, \"a b\"]"), "[1,\"a b\"]");
        assert_eq!(list.repaired(false, r#""[1, 2]""#), "[1,2]");
        let text = types(r#"{"type": "string"}"#);
        assert_eq!(text.repaired(true, "5"), "\"5\"");
        assert_eq!(text.repaired(false, "5"), "\"5\"");
        assert_eq!(text.repaired(false, "{\"a\": 1}"), r#""{\"a\": 1}""#);
        assert_eq!(text.repaired(false, "\"quoted\""), "\"quoted\"");
        let unknown = Types::default();
        assert_eq!((unknown.repaired(true, "5"), unknown.repaired(false, "5")), ("\"5\"".into(), "5".into()));
        assert_eq!(unknown.repaired(false, "no JSON"), "\"no JSON\"");
    }
}
