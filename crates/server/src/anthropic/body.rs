//! What `/v1/messages` and `/v1/messages/count_tokens` may be asked.

use std::collections::{HashMap, HashSet};

use ds4_chat::{Message, RawValue, Role, ToolCall};
use ds4_guide::Demands;
use serde::Deserialize;

use crate::body::parse;
use crate::request::{Draw, Thinking, ToolChoice, conversation, function, stops};
use crate::text::{FOUND, List, TextOr, count, omitted, reminder};
use crate::{Error, Request, SteeringWish};

/// How system texts begin that are a client's own bookkeeping, different in each conversation.
const PRIVATE: &str = "x-anthropic-";

/// The body. Fields that are not here are ignored.
#[derive(Debug, Deserialize)]
pub struct Body {
    /// An extension of ours.
    steering: Option<SteeringWish>,
    model: Option<String>,
    system: Option<TextOr<Block>>,
    messages: List<Turn>,
    tools: Option<List<Tool>>,
    tool_choice: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "count")]
    max_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    #[serde(default, deserialize_with = "count")]
    top_k: Option<u64>,
    /// An extension of ours.
    #[serde(default, deserialize_with = "count")]
    seed: Option<u64>,
    stop_sequences: Option<Vec<String>>,
    stream: Option<bool>,
    thinking: Option<ThinkingField>,
    output_config: Option<OutputConfig>,
    reasoning_effort: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ThinkingField {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "count")]
    budget_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct OutputConfig {
    effort: Option<String>,
    format: Option<Format>,
}

/// A form that the answer is to have.
#[derive(Debug, Deserialize)]
struct Format {
    schema: Option<Box<RawValue>>,
}

/// A tool; those that have no schema are the client's or the cloud's own, and left out.
#[derive(Debug, Deserialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    description: Option<String>,
    input_schema: Option<Box<RawValue>>,
    /// Whether the model shall see it only once it was searched for.
    defer_loading: Option<bool>,
}

/// Tools that are shown where a search has found them.
type Deferred = HashMap<String, Box<RawValue>>;

/// A message.
#[derive(Debug, Deserialize)]
struct Turn {
    role: Author,
    content: Option<TextOr<Block>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Author {
    Assistant,
    System,
    #[serde(other)]
    User,
}

/// A block of any type; keys come in any order.
#[derive(Debug, Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<String>,
    thinking: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<Box<RawValue>>,
    tool_use_id: Option<String>,
    content: Option<TextOr<Inner>>,
}

/// A block inside a tool's result.
#[derive(Debug, Deserialize)]
struct Inner {
    #[serde(rename = "type")]
    kind: Option<String>,
    text: Option<String>,
    /// Of a tool that a search has found.
    tool_name: Option<String>,
}

impl Body {
    /// Reads the bytes of a body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        parse(bytes)
    }

    pub(crate) fn streams(&self) -> bool {
        self.stream == Some(true)
    }

    /// The request, or why there can be none.
    pub fn into_request(self) -> Result<Request, Error> {
        if self.messages.0.is_empty() {
            return Err(Error::Invalid("messages: the list is empty, there is nothing to answer".into()));
        }
        let budget = self.thinking.as_ref().and_then(|t| t.budget_tokens);
        let enabled = self.thinking.and_then(|t| t.kind).map(|kind| kind != "disabled");
        let (effort, format) = self.output_config.map_or((None, None), |o| (o.effort, o.format));
        let effort = match (effort, self.reasoning_effort) {
            (Some(effort), _) => Some(("output_config.effort", effort)),
            (None, effort) => effort.map(|effort| ("reasoning_effort", effort)),
        };
        let think = Thinking { enabled, effort, model: self.model.clone() }.resolve()?;
        let (temperature, top_p, top_k, seed) = (self.temperature, self.top_p, self.top_k, self.seed);
        let draw = Draw { temperature, top_p, top_k, seed, ..Draw::default() };
        let tool_choice = ToolChoice::new(self.tool_choice.as_deref());
        let tools = self.tools.filter(|_| tool_choice != ToolChoice::None).map(|t| t.0).unwrap_or_default();
        let (tools, deferred) = functions(&tools)?;
        let mut system: Vec<String> = self.system.map(system_text).filter(|s| !s.is_empty()).into_iter().collect();
        let mut messages = Vec::new();
        for turn in self.messages.0 {
            turn.add_to(&deferred, &mut system, &mut messages);
        }
        let schema = format.and_then(|f| f.schema);
        let demands = Demands {
            format: crate::request::format(schema.as_deref(), false),
            parallel: parallel(self.tool_choice.as_deref()),
            thinking: budget.map(|n| n.min(u32::MAX.into()) as usize),
            ..Demands::default()
        };
        Ok(Request {
            model: self.model,
            conversation: conversation(&system, tools, schema, messages),
            think,
            sampling: draw.sampling(think),
            seed: draw.given_seed(),
            max_tokens: self.max_tokens.map(|n| n.min(u32::MAX.into()) as usize),
            stop: stops("stop_sequences", self.stop_sequences.unwrap_or_default())?,
            tool_choice,
            demands,
            bias: Vec::new(),
            logprobs: None,
            steering: self.steering,
        })
    }
}

/// `disable_parallel_tool_use` of a tool choice.
fn parallel(choice: Option<&RawValue>) -> bool {
    #[derive(Deserialize)]
    struct Choice {
        disable_parallel_tool_use: Option<bool>,
    }
    let choice = choice.and_then(|choice| serde_json::from_str::<Choice>(choice.get()).ok());
    choice.is_none_or(|choice| choice.disable_parallel_tool_use != Some(true))
}

/// The system's texts, a line each, without a client's bookkeeping.
fn system_text(system: TextOr<Block>) -> String {
    let texts = match system {
        TextOr::Text(text) => vec![text],
        TextOr::List(blocks) => blocks.into_iter().filter_map(|block| block.text).collect(),
    };
    texts.into_iter().filter(|text| !text.starts_with(PRIVATE)).collect::<Vec<_>>().join("\n")
}

/// The tools that the model sees from the beginning, and the others: where the client searches for tools, those that are
/// deferred are kept back, so that finding one changes nothing that was read before.
fn functions(tools: &[Tool]) -> Result<(Vec<Box<RawValue>>, Deferred), Error> {
    // A search by the cloud will not come.
    let by_the_cloud = |tool: &Tool| tool.kind.as_deref().is_some_and(|kind| kind.starts_with("tool_search_tool"));
    let all = tools.iter().any(by_the_cloud);
    let (mut functions, mut deferred) = (Vec::new(), Deferred::new());
    for tool in tools {
        match (tool.as_function()?, &tool.name) {
            (Some(function), Some(name)) if tool.defer_loading == Some(true) && !all => {
                deferred.insert(name.clone(), function);
            }
            (function, _) => functions.extend(function),
        }
    }
    Ok((functions, deferred))
}

impl Tool {
    fn as_function(&self) -> Result<Option<Box<RawValue>>, Error> {
        let (Some(name), Some(parameters)) = (&self.name, &self.input_schema) else { return Ok(None) };
        let function = function(name, self.description.as_deref(), Some(parameters));
        function.map(Some).map_err(|e| Error::Invalid(format!("tools: {name}: {e}")))
    }
}

impl Turn {
    /// Adds this message to the system texts or to the others.
    fn add_to(self, deferred: &Deferred, system: &mut Vec<String>, messages: &mut Vec<Message>) {
        let blocks = match (self.role, self.content) {
            (Author::System, content) => {
                let text = content.map(system_text).unwrap_or_default();
                match messages.is_empty() {
                    _ if text.is_empty() => {}
                    true => system.push(text),
                    false => messages.push(Message::new(Role::User, reminder(&text))),
                }
                return;
            }
            (_, Some(TextOr::List(blocks))) if !blocks.is_empty() => blocks,
            (_, Some(TextOr::Text(text))) => vec![Block::text(text)],
            _ => vec![Block::text(String::new())],
        };
        match self.role {
            Author::Assistant => messages.push(assistant(blocks)),
            _ => messages.extend(blocks.into_iter().map(|block| block.into_message(deferred))),
        }
    }
}

/// What the model thought, said and called.
fn assistant(blocks: Vec<Block>) -> Message {
    let mut message = Message::assistant("", "");
    for block in blocks {
        match block.kind.as_deref() {
            Some("thinking") => message.reasoning += block.thinking.as_deref().unwrap_or_default(),
            Some("tool_use") => message.tool_calls.push(ToolCall {
                id: block.id.unwrap_or_default(),
                name: block.name.unwrap_or_default(),
                arguments: block.input.map_or_else(|| "{}".into(), |input| input.get().into()),
            }),
            _ => message.content += block.text.as_deref().unwrap_or_default(),
        }
    }
    message
}

impl Block {
    fn text(text: String) -> Self {
        let (kind, thinking, id, name, input, tool_use_id, content) = Default::default();
        Self { kind, text: Some(text), thinking, id, name, input, tool_use_id, content }
    }

    /// A block of the user's: text, a tool's result, or the place of something else.
    fn into_message(self, deferred: &Deferred) -> Message {
        if self.kind.as_deref() == Some("tool_result") {
            let (text, tools) = self.content.map(|content| returned(content, deferred)).unwrap_or_default();
            return Message { tools, ..Message::tool_result(self.tool_use_id.unwrap_or_default(), text) };
        }
        Message::new(Role::User, self.text.unwrap_or_else(|| omitted(self.kind.as_deref())))
    }
}

/// What a tool returned: text, and the tools that a search has found.
fn returned(content: TextOr<Inner>, deferred: &Deferred) -> (String, Vec<Box<RawValue>>) {
    let blocks = match content {
        TextOr::Text(text) => return (text, Vec::new()),
        TextOr::List(blocks) => blocks,
    };
    let (mut texts, mut tools, mut named) = (Vec::new(), Vec::new(), HashSet::new());
    for Inner { kind, text, tool_name } in blocks {
        match (text, tool_name) {
            (Some(text), _) => texts.push(text),
            (None, Some(name)) => match deferred.get(&name) {
                Some(_) if !named.insert(name.clone()) => {}
                Some(tool) => tools.push(tool.clone()),
                None => texts.push(format!("The tool {name} is there.")),
            },
            (None, None) => texts.push(omitted(kind.as_deref())),
        }
    }
    if !tools.is_empty() {
        texts.push(FOUND.into());
    }
    (texts.join("\n"), tools)
}
