//! Schemas that were damaged, or made to be hard: they are refused, restrict nothing, or become rules. Nothing panics, and
//! no tool becomes impossible to call.

mod common;

use common::{VOCABULARY, offering};
use ds4_chat::{Conversation, RawValue};
use ds4_guide::{Choice, Demands, Format, Rules};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Schemas of the kinds that clients send.
fn seeds() -> Vec<String> {
    let schemas = [
        json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "^[a-z]{2,6}$"}}, "required": ["a"]}),
        json!({"type": "object", "properties": {"b": {"anyOf": [{"type": "integer", "minimum": -7}, {"type": "null"}]}}}),
        json!({"type": "object", "properties": {"c": {"$ref": "#/$defs/d"}}, "$defs": {"d": {"enum": ["x", 1, null]}}}),
        json!({"type": "object", "properties": {"e": {"type": "array", "items": {"type": "number"}, "maxItems": 9}}}),
    ];
    schemas.iter().map(Value::to_string).collect()
}

/// The schema as that of an answer, and as that of a tool's parameters.
fn check(schema: &str) {
    let Ok(raw) = RawValue::from_string(schema.to_owned()) else { return };
    let demands = Demands { format: Format::JsonSchema(raw), ..Demands::default() };
    if let Err(error) = Rules::new(&Conversation { messages: Vec::new() }, demands, &VOCABULARY) {
        assert!(!error.to_string().is_empty());
    }
    let Ok(parameters) = serde_json::from_str(schema) else { return };
    let demands = Demands { choice: Choice::Required, ..Demands::default() };
    assert!(Rules::new(&offering(&[("f", parameters)]), demands, &VOCABULARY).is_ok_and(|rules| rules.is_some()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_schemas_do_no_harm(
        seed in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..9, "[\\[\\]{}\":,0-9a-z$^.*|\\\\-]{0,3}"), 1..4),
    ) {
        let mut schema = seeds()[seed].clone();
        for (at, removed, put) in changes {
            let at = at.index(schema.len());
            let end = (at + removed).min(schema.len());
            schema.replace_range(at..end, &put);
        }
        check(&schema);
    }
}

#[test]
fn hard_schemas_are_given_up_in_time() {
    let values: Vec<String> = (0..20_000).map(|i| format!("value {i}")).collect();
    let object = |schema: Value| json!({"type": "object", "properties": {"a": schema}});
    let mut deep = json!({"type": "string"});
    (0..60).for_each(|_| deep = json!({"type": "array", "items": deep}));
    let hard = [
        object(json!({"enum": values})),
        object(json!({"type": "string", "pattern": "^(a{1,900}b{1,900}){1,90}$"})),
        object(json!({"type": "string", "pattern": "(((((.*)*)*)*)*)*x"})),
        object(json!({"type": "array", "minItems": 100_000, "maxItems": 1_000_000, "items": {"type": "integer"}})),
        object(json!({"type": "integer", "minimum": -1e300, "maximum": 1e300, "multipleOf": 1e-300})),
        json!({"$ref": "#"}),
        json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}}),
        object(deep),
    ];
    hard.iter().for_each(|schema| check(&schema.to_string()));
}
