//! Schemas of any kind, also such as make no sense, and tokens drawn at random from what is allowed: something always is.
//! `PROPTEST_CASES` says how many walks a soak wants.

mod common;

use common::{MODEL, guide, offering};
use ds4_engine::Guide;
use ds4_guide::{Choice, Demands};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Keywords with values that may or may not belong there.
fn schema() -> impl Strategy<Value = Value> {
    let odd = prop::sample::select(vec![
        json!({}),
        json!([]),
        json!(7),
        json!(-1),
        json!(""),
        json!("string"),
        json!(null),
        json!(true),
        json!({"type": []}),
        json!(["string", "null"]),
        json!("[a-c]{2}"),
        json!("(("),
        json!({"type": "integer"}),
        json!(["a", 1, null]),
        json!("#/$defs/loop"),
        json!([{"type": "string"}, {"type": "object"}]),
        json!(1e300),
        json!(u64::MAX),
    ]);
    let kind = prop::sample::select(vec!["string", "integer", "number", "boolean", "null", "array", "object", "odd"]);
    let keys = prop::sample::select(vec![
        "type",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "not",
        "$ref",
        "pattern",
        "format",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "multipleOf",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "properties",
        "required",
        "additionalProperties",
        "nullable",
        "description",
        "x-guidance",
    ]);
    let leaf = (kind, prop::collection::vec((keys.clone(), odd), 0..3)).prop_map(|(kind, members)| {
        let mut schema = json!({"type": kind});
        members.into_iter().for_each(|(key, value)| schema[key] = value);
        schema
    });
    leaf.prop_recursive(3, 12, 3, move |inner| {
        prop_oneof![
            inner.clone().prop_map(|item| json!({"type": "array", "items": item})),
            prop::collection::vec(inner.clone(), 0..3).prop_map(|options| json!({"anyOf": options})),
            prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|properties| {
                let required: Vec<_> = properties.keys().take(1).cloned().collect();
                json!({"type": "object", "properties": properties, "required": required})
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn something_may_always_be_drawn(
        properties in prop::collection::btree_map("[a-z]{1,3}", schema(), 0..4),
        required in 0usize..3,
        picks in prop::collection::vec(any::<u32>(), 300),
    ) {
        let names: Vec<_> = properties.keys().take(required).cloned().collect();
        let defs = json!({"loop": {"anyOf": [{"$ref": "#/$defs/loop"}, {"type": "string"}]}});
        let parameters = json!({"type": "object", "properties": properties, "required": names, "$defs": defs});
        let talk = offering(&[("tool", parameters)]);
        let mut guide = guide(&talk, Demands { choice: Choice::Required, ..Demands::default() });
        let mut written = Vec::new();
        for pick in picks {
            let rule = guide.rule();
            let Some(allowed) = rule.allowed else { break };
            let tokens: Vec<u32> = (0..allowed.len() as u32 * 32).filter(|token| rule.allows(*token)).collect();
            prop_assert!(!tokens.is_empty(), "nothing after {}", MODEL.tokenizer.decode(&written));
            // What closes a value is among few tokens, and would hardly ever be drawn from many.
            let token = tokens[pick as usize % tokens.len().min(if pick % 3 == 0 { 8 } else { usize::MAX })];
            prop_assert!((token as usize) < MODEL.tokenizer.len());
            written.push(token);
            guide.drawn(token);
        }
    }
}
