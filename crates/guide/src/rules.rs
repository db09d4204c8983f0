//! What a request demands of its answer.

use ds4_chat::{Conversation, RawValue};
use llguidance::regex_to_lark;
use serde_json::{Value, json};

use crate::Vocabulary;
use crate::grammars::Grammar as Compiled;
use crate::tool::{Budget, Form, Tool, named};
use crate::value::CLOSING;

/// Why demands cannot be met.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The schema of the answer cannot be enforced.
    #[error("{0}")]
    Schema(String),
    /// There is no such tool.
    #[error("tool_choice: no tool is called {0:?}")]
    UnknownTool(String),
    /// No tool has a name that can be called.
    #[error("tool_choice: a call is required, but no tool has a name without quotes, brackets and line breaks")]
    NoNames,
    /// There are no tools at all.
    #[error("tool_choice: a call is required, but there are no tools")]
    NoTools,
}

/// Whether tools are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// As the model likes.
    #[default]
    Auto,
    /// None is.
    None,
    /// At least one is.
    Required,
    /// This one is, and no other.
    Named(String),
}

/// What the answer is made of.
#[derive(Clone, Debug, Default)]
pub enum Format {
    /// Text.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that fits a schema.
    JsonSchema(Box<RawValue>),
}

/// What the only text of a tool looks like, for tools that take no JSON.
#[derive(Clone, Debug)]
pub struct Grammar {
    /// The tool's name.
    pub tool: String,
    /// The parameter that is the text.
    pub parameter: &'static str,
    /// The language of the definition: `lark` or `regex`; others restrict nothing.
    pub syntax: String,
    /// The grammar, from its rule `start`, or the regular expression.
    pub definition: String,
}

/// What a request demands.
#[derive(Clone, Debug)]
pub struct Demands {
    /// Whether tools are called.
    pub choice: Choice,
    /// Whether several may be called at once.
    pub parallel: bool,
    /// Whether calls are held to their schemas where nothing else demands that.
    pub constrain: bool,
    /// What the answer is made of.
    pub format: Format,
    /// What the texts of tools look like.
    pub grammars: Vec<Grammar>,
    /// Most tokens of reasoning.
    pub thinking: Option<usize>,
}

impl Default for Demands {
    fn default() -> Self {
        let (choice, format, grammars) = Default::default();
        Self { choice, parallel: true, constrain: true, format, grammars, thinking: None }
    }
}

/// What a request demands, ready to be followed.
#[derive(Debug)]
pub struct Rules {
    /// The tools that may be called, if calls are held to their schemas.
    pub(crate) tools: Vec<Tool>,
    /// The answer must have a call.
    pub(crate) must_call: bool,
    pub(crate) parallel: bool,
    /// Grammar of the answer.
    pub(crate) format: Option<Compiled>,
    pub(crate) thinking: Option<usize>,
}

impl Rules {
    /// No demands.
    pub fn none() -> Self {
        Self { tools: Vec::new(), must_call: false, parallel: true, format: None, thinking: None }
    }

    /// The rules of a request; none if it demands nothing.
    ///
    /// # Errors
    /// If a tool is demanded that is not there, or the schema of the answer cannot be enforced.
    pub fn new(conversation: &Conversation, demands: Demands, vocabulary: &Vocabulary) -> Result<Option<Self>, Error> {
        let must_call = matches!(demands.choice, Choice::Required | Choice::Named(_));
        let offered = conversation.messages.iter().flat_map(|message| &message.tools);
        let schemas: Vec<_> = offered.filter(|_| demands.choice != Choice::None).collect();
        if must_call && schemas.is_empty() {
            return Err(Error::NoTools);
        }
        let tools = if demands.constrain || must_call || !demands.parallel { schemas.len() } else { 0 };
        let mut tools: Vec<_> = schemas[..tools].iter().filter_map(|tool| named(tool)).collect();
        match &demands.choice {
            Choice::Named(wanted) => {
                tools.retain(|(name, _)| name == wanted);
                if tools.is_empty() {
                    return Err(Error::UnknownTool(wanted.clone()));
                }
            }
            // A tool whose name cannot be written in a tag must not become impossible to call.
            _ if tools.len() < schemas.len() && !must_call => tools.clear(),
            _ => {}
        }
        if must_call && tools.is_empty() {
            return Err(Error::NoNames);
        }
        let format = format(&demands.format, vocabulary)?;
        let mut budget = Budget::new(vocabulary);
        let tools = tools.into_iter().map(|(name, schema)| Tool::new(name, &schema, &mut budget));
        let mut tools: Vec<Tool> = tools.collect();
        demands.grammars.iter().for_each(|grammar| follow(&mut tools, grammar, vocabulary));
        let rules = Self { tools, must_call, parallel: demands.parallel, format, thinking: demands.thinking };
        let demanding = !rules.tools.is_empty() || rules.format.is_some() || rules.thinking.is_some();
        Ok(demanding.then_some(rules))
    }
}

/// Holds a tool's text to its grammar, if that can be done.
fn follow(tools: &mut [Tool], grammar: &Grammar, vocabulary: &Vocabulary) {
    let closing = json!(CLOSING);
    let text = match grammar.syntax.as_str() {
        "lark" => {
            let whole = json!({"name": "value", "lark_grammar": format!("start: @text {closing}\n")});
            let text = json!({"name": "text", "lark_grammar": grammar.definition});
            json!({"grammars": [whole, text]}).to_string()
        }
        "regex" => format!("start: VALUE\nVALUE: /{}/ {closing}\n", regex_to_lark(&grammar.definition, "")),
        _ => return,
    };
    let tool = tools.iter_mut().find(|tool| tool.name == grammar.tool);
    let parameters = tool.and_then(|tool| tool.parameters.as_mut());
    let parameter = parameters.into_iter().flatten().find(|parameter| parameter.name == grammar.parameter);
    if let (Some(parameter), Ok(grammar)) = (parameter, vocabulary.grammar(&text)) {
        parameter.text = Some(Form::Grammar(grammar));
    }
}

/// The grammar of an answer; checked, because who asks for a form relies on it.
fn format(format: &Format, vocabulary: &Vocabulary) -> Result<Option<Compiled>, Error> {
    let (name, mut schema) = match format {
        Format::Text => return Ok(None),
        Format::JsonObject => ("response_format", json!({"type": "object"})),
        Format::JsonSchema(schema) => {
            let parsed: Value =
                serde_json::from_str(schema.get()).map_err(|e| Error::Schema(format!("schema: {e}")))?;
            ("json_schema", parsed)
        }
    };
    let Some(members) = schema.as_object_mut() else {
        return Err(Error::Schema(format!("{name}: the schema must be a JSON object")));
    };
    members.insert("x-guidance".into(), json!({"whitespace_pattern": r"[\x20\x0A]{1,24}"}));
    let grammar = format!("start: %json {schema}\n");
    let grammar = vocabulary.grammar(&grammar).map_err(|why| {
        let why = why.lines().next().unwrap_or_default();
        Error::Schema(format!("{name}: this schema cannot be enforced: {why}; see docs/server.md for what can"))
    })?;
    Ok(Some(grammar))
}
