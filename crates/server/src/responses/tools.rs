//! Tools of several kinds as functions, which is all that the model knows, and back to the client's kinds and names.

use std::collections::HashMap;

use ds4_chat::RawValue;
use ds4_guide::Grammar;
use serde::Deserialize;

use crate::request::function;
use crate::text::List;
use crate::{Error, ToolChoice};

/// What the model calls to have tools loaded.
pub(super) const SEARCH: &str = "tool_search";

/// A tool on offer. Kinds that only a cloud has (`web_search`, `mcp`, …) are left out.
#[derive(Debug, Deserialize)]
pub(super) struct Tool {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    description: Option<String>,
    parameters: Option<Box<RawValue>>,
    /// Of a custom tool: what its input is like.
    format: Option<Format>,
    /// Of a namespace.
    tools: Option<List<Tool>>,
    /// The tool itself, as the chat API wraps it.
    function: Option<Box<Tool>>,
    /// Who searches for tools.
    execution: Option<String>,
    /// Whether the model shall see it only once it was searched for.
    defer_loading: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Format {
    syntax: Option<String>,
    definition: Option<String>,
}

/// What a call is to its client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    /// A function with arguments.
    Function,
    /// A tool whose input is a text of any form.
    Custom,
    /// The search for tools.
    Search,
}

/// A tool by the names that its client knows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wire {
    pub(super) form: Form,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
}

/// The tools on offer by the names that the model knows.
#[derive(Debug, Default)]
pub(super) struct Names {
    wires: HashMap<String, Wire>,
    /// What the inputs of custom tools look like.
    pub(super) grammars: Vec<Grammar>,
}

/// A name in a namespace as the model knows it.
pub(super) fn joined(namespace: Option<&str>, name: &str) -> String {
    namespace.filter(|n| !n.is_empty()).map_or_else(|| name.to_owned(), |namespace| format!("{namespace}__{name}"))
}

impl Names {
    /// The tools as functions. Those that are deferred are left out if the client itself searches for them.
    pub(super) fn offer(&mut self, tools: Vec<Tool>) -> Result<Vec<Box<RawValue>>, Error> {
        let searches =
            |tool: &Tool| tool.kind.as_deref() == Some(SEARCH) && tool.execution.as_deref() == Some("client");
        let deferred = tools.iter().any(searches);
        self.load(tools, deferred)
    }

    fn load(&mut self, tools: Vec<Tool>, without_deferred: bool) -> Result<Vec<Box<RawValue>>, Error> {
        let mut functions = Vec::new();
        for tool in tools {
            self.add(tool, None, without_deferred, &mut functions)?;
        }
        Ok(functions)
    }

    /// The tools that a search has found.
    pub(super) fn found(&mut self, tools: Vec<Tool>) -> Result<Vec<Box<RawValue>>, Error> {
        self.load(tools, false)
    }

    fn add(
        &mut self,
        tool: Tool,
        namespace: Option<&str>,
        without_deferred: bool,
        functions: &mut Vec<Box<RawValue>>,
    ) -> Result<(), Error> {
        if without_deferred && tool.defer_loading == Some(true) {
            return Ok(());
        }
        let (form, name) = match (tool.kind.as_deref().unwrap_or("function"), tool.name) {
            ("namespace", Some(namespace)) => {
                let tools = tool.tools.map(|tools| tools.0).unwrap_or_default();
                return tools
                    .into_iter()
                    .try_for_each(|tool| self.add(tool, Some(&namespace), without_deferred, functions));
            }
            ("function", None) => {
                let Some(function) = tool.function else { return Ok(()) };
                let function = Tool { kind: None, function: None, ..*function };
                return self.add(function, namespace, without_deferred, functions);
            }
            ("function", Some(name)) => (Form::Function, name),
            ("custom", Some(name)) => (Form::Custom, name),
            (SEARCH, _) => (Form::Search, SEARCH.to_owned()),
            _ => return Ok(()),
        };
        let known = self.name(Wire { form, name, namespace: namespace.map(str::to_owned) })?;
        let own = |json: &str| RawValue::from_string(json.into()).ok();
        let (description, parameters) = match form {
            Form::Function => (tool.description, tool.parameters),
            Form::Custom => {
                self.grammars.extend(tool.format.as_ref().and_then(|format| grammar(&known, format)));
                (Some(custom_description(tool.description, tool.format)), own(INPUT))
            }
            Form::Search => {
                (tool.description.or_else(|| Some(SEARCH_DESCRIPTION.into())), tool.parameters.or_else(|| own(QUERY)))
            }
        };
        let function = function(&known, description.as_deref(), parameters.as_deref());
        functions.push(function.map_err(|e| Error::Invalid(format!("tools: {known}: {e}")))?);
        Ok(())
    }

    /// The name by which the model knows a tool.
    fn name(&mut self, wire: Wire) -> Result<String, Error> {
        let name = joined(wire.namespace.as_deref(), &wire.name);
        match self.wires.get(&name) {
            Some(other) if *other != wire => {
                Err(Error::Invalid(format!("tools: two of them would be {name:?} to the model; rename one")))
            }
            _ => {
                self.wires.insert(name.clone(), wire);
                Ok(name)
            }
        }
    }

    /// What a call by this name is to the client.
    pub(super) fn wire(&self, name: &str) -> Wire {
        let unknown = || Wire { form: Form::Function, name: name.to_owned(), namespace: None };
        self.wires.get(name).cloned().unwrap_or_else(unknown)
    }

    /// A choice of a tool in the client's words in those of the model.
    pub(super) fn choice(&self, choice: ToolChoice) -> ToolChoice {
        match choice {
            ToolChoice::Named(name) if !self.wires.contains_key(&name) => {
                let known =
                    self.wires.iter().filter(|(_, wire)| wire.name == name).map(|(known, _)| known.clone()).min();
                ToolChoice::Named(known.unwrap_or(name))
            }
            choice => choice,
        }
    }
}

/// The parameters of a custom tool, and of a search that does not say.
const INPUT: &str = r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"]}"#;
const QUERY: &str =
    r#"{"type":"object","properties":{"query":{"type":"string"},"limit":{"type":"integer"}},"required":["query"]}"#;
const SEARCH_DESCRIPTION: &str =
    "Searches for tools that are not listed here. Those that it finds can be called from then on.";

/// What the input of a custom tool is held to.
fn grammar(tool: &str, format: &Format) -> Option<Grammar> {
    let (syntax, definition) = (format.syntax.clone()?, format.definition.clone()?);
    Some(Grammar { tool: tool.to_owned(), parameter: "input", syntax, definition })
}

/// What a custom tool does, and what its input has to look like.
fn custom_description(description: Option<String>, format: Option<Format>) -> String {
    let mut parts: Vec<String> = description.into_iter().collect();
    if let Some(Format { syntax, definition: Some(definition) }) = format {
        let syntax = syntax.map(|syntax| format!(" ({syntax})")).unwrap_or_default();
        parts.push(format!("The input is plain text that matches this grammar{syntax}:\n{definition}"));
    }
    parts.join("\n\n")
}
