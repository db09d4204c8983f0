//! What the parameters of a tool may be, from its schema. Schemas are the clients': what is not understood restricts
//! nothing.

use ds4_chat::RawValue;
use llguidance::regex_to_lark;
use serde_json::{Map, Value, json};

use crate::Vocabulary;
use crate::grammars::Grammar;
use crate::value::CLOSING;

/// Levels of `anyOf` and `$ref` that are looked at.
const MAX_LEVELS: usize = 8;
/// Schemas that are looked at for one tool: alternatives of alternatives can be very many.
const MAX_SCHEMAS: usize = 1000;
/// Grammars of all tools of a request, and bytes of their texts: it takes a second or two to compile so many.
const MAX_GRAMMARS: usize = 1000;
const MAX_BYTES: usize = 1 << 20;
/// Says nothing about what is valid.
const ANNOTATIONS: [&str; 14] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "$schema",
    "$id",
    "$defs",
    "definitions",
    "format",
];

/// A tool.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    /// Its parameters; none if nothing is known of them.
    pub(crate) parameters: Option<Vec<Parameter>>,
}

/// A parameter of a tool.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) required: bool,
    /// What it may be as a text, if it may be one.
    pub(crate) text: Option<Form>,
    /// What it may be as JSON.
    pub(crate) json: Option<Form>,
}

/// What a value may be.
#[derive(Debug)]
pub(crate) enum Form {
    /// Anything.
    Any,
    /// What a grammar describes, with the closing tag.
    Grammar(Grammar),
}

/// A tool in OpenAI's form (`name`, `parameters`), and its name; none if it cannot be called by one.
pub(crate) fn named(schema: &RawValue) -> Option<(String, Value)> {
    let schema: Value = serde_json::from_str(schema.get()).ok()?;
    let name = schema["name"].as_str().filter(|name| is_plain(name))?.to_owned();
    Some((name, schema))
}

impl Tool {
    /// The tool that a schema describes.
    pub(crate) fn new(name: String, schema: &Value, budget: &mut Budget<'_>) -> Self {
        let parameters = match schema.get("parameters") {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(parameters) => parameters_of(parameters, budget),
        };
        Self { name, parameters }
    }
}

/// Compiles the grammars of a request's tools, as long as they are not too many.
pub(crate) struct Budget<'v> {
    vocabulary: &'v Vocabulary,
    grammars: usize,
    bytes: usize,
}

impl<'v> Budget<'v> {
    pub(crate) fn new(vocabulary: &'v Vocabulary) -> Self {
        Self { vocabulary, grammars: MAX_GRAMMARS, bytes: MAX_BYTES }
    }

    /// Takes from the bytes that are left.
    fn take(&mut self, bytes: usize) -> Option<()> {
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(())
    }

    /// The form of a grammar, which is anything where the grammar cannot be enforced; none if there are too many.
    fn form(&mut self, grammar: &str) -> Option<Form> {
        self.take(grammar.len())?;
        self.grammars = self.grammars.checked_sub(1)?;
        Some(self.vocabulary.grammar(grammar).map_or(Form::Any, Form::Grammar))
    }
}

/// Whether a name can stand in a tag.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(['"', '<', '>', '&', '\n', '\r', '\\'])
}

fn parameters_of(schema: &Value, budget: &mut Budget<'_>) -> Option<Vec<Parameter>> {
    let root = schema.as_object()?;
    let known = ["type", "properties", "required", "additionalProperties", "strict"];
    if !only(root, &known) || root.get("type").is_some_and(|t| t != "object") {
        return None;
    }
    let required: Vec<&str> = match root.get("required") {
        Some(Value::Array(names)) => names.iter().map(Value::as_str).collect::<Option<_>>()?,
        Some(_) => return None,
        None => Vec::new(),
    };
    let properties = root.get("properties")?.as_object()?;
    if !properties.keys().all(|name| is_plain(name)) || !required.iter().all(|name| properties.contains_key(*name)) {
        return None;
    }
    let mut schemas = MAX_SCHEMAS;
    let parameter = |(name, schema): (&String, &Value)| {
        let forms = Alternatives::of(schema, root, MAX_LEVELS, &mut schemas).and_then(|all| all.forms(root, budget));
        let (text, json) = forms.unwrap_or((Some(Form::Any), Some(Form::Any)));
        Parameter { name: name.clone(), required: required.contains(&name.as_str()), text, json }
    };
    Some(properties.iter().map(parameter).collect())
}

/// Whether a schema says nothing but this, and annotations.
fn only(schema: &Map<String, Value>, keys: &[&str]) -> bool {
    schema.keys().all(|key| keys.contains(&key.as_str()) || ANNOTATIONS.contains(&key.as_str()))
}

/// What a value may be: texts, as terminals of a grammar, and JSON schemas for all else.
#[derive(Default)]
struct Alternatives {
    any_text: bool,
    texts: Vec<String>,
    json: Vec<Value>,
}

impl Alternatives {
    /// Those of a schema; none if it is not understood.
    fn of(schema: &Value, root: &Map<String, Value>, levels: usize, left: &mut usize) -> Option<Self> {
        *left = left.checked_sub(1)?;
        let schema = match schema {
            Value::Object(schema) if levels > 0 => schema,
            _ => return None,
        };
        if let Some(target) = schema.get("$ref") {
            let target = target.as_str()?.strip_prefix("#/")?;
            let (place, name) = target.split_once('/')?;
            let found = root.get(place).filter(|_| ["$defs", "definitions"].contains(&place))?.get(name)?;
            return if only(schema, &["$ref"]) { Self::of(found, root, levels - 1, left) } else { None };
        }
        let mut all = match schema.get("anyOf").or(schema.get("oneOf")) {
            Some(options) => Self::any_of(schema, options.as_array()?, root, levels, left)?,
            None if schema.contains_key("enum") || schema.contains_key("const") => Self::listed(schema)?,
            None => Self::typed(schema)?,
        };
        if schema.get("nullable") == Some(&Value::Bool(true)) {
            all.json.push(json!({"type": "null"}));
        }
        Some(all)
    }

    fn any_of(
        schema: &Map<String, Value>,
        options: &[Value],
        root: &Map<String, Value>,
        levels: usize,
        left: &mut usize,
    ) -> Option<Self> {
        if !only(schema, &["anyOf", "oneOf", "nullable"])
            || schema.contains_key("anyOf") && schema.contains_key("oneOf")
        {
            return None;
        }
        let mut kinds: Vec<&Value> = options.iter().filter_map(|option| option.get("type")).collect();
        kinds.sort_by_key(|kind| kind.to_string());
        kinds.dedup();
        // Exactly one of several is what any of them is if no value can be two.
        let disjoint = kinds.len() == options.len() && kinds.iter().all(|kind| kind.is_string() && *kind != "number");
        if schema.contains_key("oneOf") && !disjoint {
            return None;
        }
        let options = options.iter().map(|option| Self::of(option, root, levels - 1, left));
        options.reduce(|all, option| {
            let (mut all, option) = (all?, option?);
            all.any_text |= option.any_text;
            all.texts.extend(option.texts);
            all.json.extend(option.json);
            Some(all)
        })?
    }

    /// Values one by one.
    fn listed(schema: &Map<String, Value>) -> Option<Self> {
        if !only(schema, &["enum", "const", "type", "nullable"]) {
            return None;
        }
        let of_type = |value: &Value| match schema.get("type") {
            None => true,
            Some(Value::String(kind)) => is_of(value, kind),
            Some(kinds) => {
                kinds.as_array().is_some_and(|k| k.iter().any(|k| k.as_str().is_some_and(|k| is_of(value, k))))
            }
        };
        let values = match (schema.get("enum"), schema.get("const")) {
            (Some(Value::Array(values)), None) => values.as_slice(),
            (None, Some(value)) => std::slice::from_ref(value),
            _ => return None,
        };
        let (texts, json): (Vec<&Value>, Vec<&Value>) =
            values.iter().filter(|v| of_type(v)).partition(|v| v.is_string());
        if texts.is_empty() && json.is_empty() || texts.iter().any(|t| t.as_str().is_some_and(|t| t.contains("</"))) {
            return None;
        }
        let json = if json.is_empty() { Vec::new() } else { vec![json!({"enum": json})] };
        Some(Self { any_text: false, texts: texts.into_iter().map(Value::to_string).collect(), json })
    }

    fn typed(schema: &Map<String, Value>) -> Option<Self> {
        let kinds: Vec<&str> = match schema.get("type")? {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().map(Value::as_str).collect::<Option<_>>()?,
            _ => return None,
        };
        let mut all = Self::default();
        if kinds.is_empty() {
            return None;
        }
        let (texts, others): (Vec<&str>, Vec<&str>) = kinds.into_iter().partition(|kind| *kind == "string");
        if !texts.is_empty() {
            match text(schema)? {
                Some(terminal) => all.texts.push(terminal),
                None => all.any_text = true,
            }
        }
        if !others.is_empty() {
            let mut json = schema.clone();
            ["minLength", "maxLength", "pattern", "nullable", "format"]
                .iter()
                .for_each(|key| drop(json.shift_remove(*key)));
            json.insert("type".into(), json!(others));
            all.json.push(json.into());
        }
        Some(all)
    }

    /// What may be written between the tags; none if that would take more than is left.
    fn forms(self, root: &Map<String, Value>, budget: &mut Budget<'_>) -> Option<(Option<Form>, Option<Form>)> {
        let closing = json!(CLOSING);
        let text = match (self.any_text, self.texts.is_empty()) {
            (true, _) => Some(Form::Any),
            (false, true) => None,
            (false, false) => {
                let texts = self.texts.join(" | ");
                Some(budget.form(&format!("start: VALUE\nVALUE: ({texts}) {closing}\n"))?)
            }
        };
        let json = match self.json.is_empty() {
            true => None,
            false => {
                let grammar = json_grammar(self.json, root, &closing, budget)?;
                Some(budget.form(&grammar)?)
            }
        };
        Some((text, json))
    }
}

/// The grammar of JSON that fits one of several schemas.
fn json_grammar(
    schemas: Vec<Value>,
    root: &Map<String, Value>,
    closing: &Value,
    budget: &mut Budget<'_>,
) -> Option<String> {
    // As the model has seen JSON.
    let style = json!({"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false});
    let mut schema = json!({"x-guidance": style, "anyOf": schemas});
    let mut text = schema.to_string();
    if text.contains("\"$ref\"") {
        for place in ["$defs", "definitions"] {
            if let Some(definitions) = root.get(place) {
                budget.take(definitions.to_string().len())?;
                schema[place] = definitions.clone();
            }
        }
        text = schema.to_string();
    }
    Some(format!("start: value {closing}\nvalue: %json {text}\n"))
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

/// The terminal of a text; the inner none stands for any text, the outer one for what is not understood.
fn text(schema: &Map<String, Value>) -> Option<Option<String>> {
    let others = ["type", "nullable", "items", "properties", "required", "additionalProperties", "minimum", "maximum"];
    let known: Vec<&str> = ["minLength", "maxLength", "pattern"].into_iter().chain(others).collect();
    if !only(schema, &known) {
        return None;
    }
    let length = |key: &str| match schema.get(key) {
        None => Some(None),
        Some(length) => length.as_u64().map(Some),
    };
    let (min, max) = (length("minLength")?.filter(|n| *n > 0), length("maxLength")?);
    if max.is_some_and(|max| max > MAX_LENGTH || min.unwrap_or(0) > max) || min.is_some_and(|min| min > MAX_LENGTH) {
        return None;
    }
    let lengths = match (min, max) {
        (None, None) => None,
        (min, Some(max)) => Some(format!(r"/(\n|.){{{},{max}}}/", min.unwrap_or(0))),
        (min, None) => Some(format!(r"/(\n|.){{{},}}/", min.unwrap_or(0))),
    };
    let pattern = match schema.get("pattern") {
        None => None,
        Some(pattern) => Some(anchored(pattern.as_str()?)?),
    };
    let parts: Vec<String> = lengths.into_iter().chain(pattern).collect();
    Some((!parts.is_empty()).then(|| format!("({})", parts.join(" & "))))
}

/// Longest text whose length is looked at.
const MAX_LENGTH: u64 = 1 << 14;

/// A pattern, which may match anywhere, as a terminal that matches the whole; none where `^` and `$` stand in its midst.
fn anchored(pattern: &str) -> Option<String> {
    let (begin, rest) = pattern.strip_prefix('^').map_or(("(\\n|.)*", pattern), |rest| ("", rest));
    let (end, rest) = match rest.strip_suffix('$') {
        Some(rest) if !rest.ends_with('\\') => ("", rest),
        _ => ("(\\n|.)*", rest),
    };
    let anchors_inside = rest.replace("[^", "[").replace("\\^", "").replace("\\$", "").contains(['^', '$']);
    let alternatives = (begin.is_empty() || end.is_empty()) && rest.contains('|') && !rest.starts_with('(');
    (!anchors_inside && !alternatives && !rest.contains("(?"))
        .then(|| format!("/{begin}({}){end}/", regex_to_lark(rest, "dw")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ds4_engine::Model;

    #[test]
    fn what_is_beyond_the_limits_may_be_anything() {
        let model = Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap();
        let vocabulary = Vocabulary::new(&model.tokenizer);
        let kind = json!({"type": "boolean"});
        let schema = json!({"parameters": {"type": "object", "properties": {"a": kind, "b": kind}}});
        let forms = |mut budget: Budget<'_>| {
            let tool = Tool::new("f".into(), &schema, &mut budget);
            let parameters = tool.parameters.unwrap();
            let held = |p: &Parameter| p.text.is_none() && matches!(p.json, Some(Form::Grammar(_)));
            parameters.iter().map(held).collect::<Vec<_>>()
        };
        assert_eq!(forms(Budget::new(&vocabulary)), [true, true]);
        assert_eq!(forms(Budget { grammars: 1, ..Budget::new(&vocabulary) }), [true, false]);
        assert_eq!(forms(Budget { bytes: 9, ..Budget::new(&vocabulary) }), [false, false]);
    }
}
