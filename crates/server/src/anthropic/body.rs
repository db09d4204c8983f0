//! What `/v1/messages` and `/v1/messages/count_tokens` may be asked.

use ds4_chat::{Message, RawValue, Role, ToolCall};
use ds4_guide::Demands;
use serde::Deserialize;

use crate::body::parse;
use crate::request::{Draw, Thinking, ToolChoice, conversation, function, stops};
use crate::text::{List, Part, TextOr, count, omitted};
use crate::{Error, Request};

/// How system texts begin that are a client's own bookkeeping, different in each conversation.
const PRIVATE: &str = "x-anthropic-";

/// The body. Fields that are not here are ignored.
#[derive(Debug, Deserialize)]
pub struct Body {
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
    name: Option<String>,
    description: Option<String>,
    input_schema: Option<Box<RawValue>>,
}

/// A message.
#[derive(Debug, Deserialize)]
struct Turn {
    role: Author,
    content: Option<TextOr<Block>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Author {
    User,
    Assistant,
    System,
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
    content: Option<TextOr<Part>>,
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
        let (temperature, top_p, top_k) = (self.temperature, self.top_p, self.top_k);
        let draw = Draw { temperature, top_p, top_k, ..Draw::default() };
        let tool_choice = ToolChoice::new(self.tool_choice.as_deref());
        let tools = self.tools.filter(|_| tool_choice != ToolChoice::None).map(|t| t.0).unwrap_or_default();
        let tools = tools.iter().filter_map(|tool| tool.as_function().transpose()).collect::<Result<_, _>>()?;
        let mut system: Vec<String> = self.system.map(system_text).filter(|s| !s.is_empty()).into_iter().collect();
        let mut messages = Vec::new();
        for turn in self.messages.0 {
            turn.add_to(&mut system, &mut messages);
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

impl Tool {
    fn as_function(&self) -> Result<Option<Box<RawValue>>, Error> {
        let (Some(name), Some(parameters)) = (&self.name, &self.input_schema) else { return Ok(None) };
        let function = function(name, self.description.as_deref(), Some(parameters));
        function.map(Some).map_err(|e| Error::Invalid(format!("tools: {name}: {e}")))
    }
}

impl Turn {
    /// Adds this message to the system texts or to the others.
    fn add_to(self, system: &mut Vec<String>, messages: &mut Vec<Message>) {
        let blocks = match (self.role, self.content) {
            (Author::System, Some(content)) => return system.push(system_text(content)),
            (_, Some(TextOr::List(blocks))) if !blocks.is_empty() => blocks,
            (_, Some(TextOr::Text(text))) => vec![Block::text(text)],
            _ => vec![Block::text(String::new())],
        };
        match self.role {
            Author::Assistant => messages.push(assistant(blocks)),
            _ => messages.extend(blocks.into_iter().map(Block::into_message)),
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
    fn into_message(self) -> Message {
        if self.kind.as_deref() == Some("tool_result") {
            let text = self.content.map(TextOr::into_text).unwrap_or_default();
            return Message::tool_result(self.tool_use_id.unwrap_or_default(), text);
        }
        Message::new(Role::User, self.text.unwrap_or_else(|| omitted(self.kind.as_deref())))
    }
}
