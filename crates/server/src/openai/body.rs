//! What `/v1/chat/completions` and `/v1/completions` may be asked.

use ds4_chat::{Message, RawValue, Role, ToolCall};
use ds4_guide::Demands;
use serde::Deserialize;

use super::several::MOST;
use crate::body::parse;
use crate::request::{Draw, Thinking, ToolChoice, bias, conversation, format, penalties, stops};
use crate::text::{List, Part, TextOr, count, raw_text};
use crate::{Error, Request, SteeringWish};

/// System text of a completion, which has none of its own.
const SYSTEM: &str = "You are a helpful assistant";

/// The body. Fields that are not here are ignored.
#[derive(Debug, Deserialize)]
pub struct Body {
    /// An extension of ours.
    steering: Option<SteeringWish>,
    model: Option<String>,
    messages: Option<List<Turn>>,
    prompt: Option<TextOr<String>>,
    tools: Option<List<Box<RawValue>>>,
    tool_choice: Option<Box<RawValue>>,
    response_format: Option<ResponseFormat>,
    #[serde(default, deserialize_with = "count")]
    max_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    max_completion_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    #[serde(default, deserialize_with = "count")]
    top_k: Option<u64>,
    min_p: Option<f64>,
    #[serde(default, deserialize_with = "count")]
    seed: Option<u64>,
    stop: Option<TextOr<String>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    thinking: Option<Switch>,
    think: Option<bool>,
    reasoning_effort: Option<String>,
    #[serde(default, deserialize_with = "count")]
    n: Option<u64>,
    logprobs: Option<Logprobs>,
    #[serde(default, deserialize_with = "count")]
    top_logprobs: Option<u64>,
    parallel_tool_calls: Option<bool>,
    #[serde(default, deserialize_with = "count")]
    thinking_budget: Option<u64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    #[serde(alias = "repeat_penalty")]
    repetition_penalty: Option<f64>,
    logit_bias: Option<Box<RawValue>>,
}

/// Chat says whether, completions say how many.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged, expecting = "expected true, false or a number")]
enum Logprobs {
    Whether(bool),
    Count(u64),
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// `true`, or `{"type": "enabled"}`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected true, false or {\"type\": \"enabled\" or \"disabled\"}")]
enum Switch {
    Flag(bool),
    Kind {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default, deserialize_with = "count")]
        budget_tokens: Option<u64>,
    },
}

#[derive(Debug, Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: Option<String>,
    json_schema: Option<JsonSchema>,
}

#[derive(Debug, Deserialize)]
struct JsonSchema {
    schema: Option<Box<RawValue>>,
}

/// A message.
#[derive(Debug, Deserialize)]
struct Turn {
    role: Author,
    content: Option<TextOr<Part>>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<List<Call>>,
    tool_call_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Author {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    Function,
}

#[derive(Debug, Deserialize)]
struct Call {
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<Box<RawValue>>,
}

/// A tool in OpenAI's wrapper.
#[derive(Deserialize)]
struct Tool {
    function: Option<Box<RawValue>>,
}

impl Body {
    /// Reads the bytes of a body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        parse(bytes)
    }

    pub(crate) fn streams(&self) -> bool {
        self.stream == Some(true)
    }

    pub(crate) fn wants_usage(&self) -> bool {
        self.stream_options.as_ref().is_some_and(|o| o.include_usage == Some(true))
    }

    /// How many answers are wanted.
    pub(crate) fn answers(&self) -> Result<usize, Error> {
        match self.n.unwrap_or(1).max(1) {
            n @ 1..=MOST => Ok(n as usize),
            n => Err(Error::Invalid(format!("n: {n} answers, at most {MOST} are possible"))),
        }
    }

    /// The request of a completion: the prompt, or the first of several, as the user's turn.
    pub fn into_completion(mut self) -> Result<Request, Error> {
        let prompt = match self.prompt.take() {
            Some(TextOr::Text(prompt)) => Some(prompt),
            Some(TextOr::List(prompts)) => prompts.into_iter().next(),
            None => None,
        };
        let prompt = prompt.ok_or_else(|| Error::Invalid("missing prompt".into()))?;
        self.messages = Some(List(vec![Turn::new(Author::System, SYSTEM.into()), Turn::new(Author::User, prompt)]));
        self.tools = None; // what is written is told as it is
        self.into_request()
    }

    /// The request of a chat, or why there can be none.
    pub fn into_request(mut self) -> Result<Request, Error> {
        let List(turns) = self.messages.take().ok_or_else(|| Error::Invalid("missing messages".into()))?;
        if turns.is_empty() {
            return Err(Error::Invalid("messages: the list is empty, there is nothing to answer".into()));
        }
        let (thinking, budget) = self.thinking();
        let think = thinking.resolve()?;
        let draw = self.draw();
        let tool_choice = ToolChoice::new(self.tool_choice.as_deref());
        let tools = self.tools.filter(|_| tool_choice != ToolChoice::None).map(|t| t.0).unwrap_or_default();
        let is_object = self.response_format.as_ref().is_some_and(|f| f.kind.as_deref() == Some("json_object"));
        let schema = self.response_format.and_then(|f| f.json_schema?.schema);
        let demands = Demands {
            format: format(schema.as_deref(), is_object),
            parallel: self.parallel_tool_calls != Some(false),
            thinking: budget.map(|n| n.min(u32::MAX.into()) as usize),
            ..Demands::default()
        };
        let mut system = Vec::new();
        let mut messages = Vec::new();
        for turn in turns {
            turn.add_to(&mut system, &mut messages);
        }
        Ok(Request {
            model: self.model,
            conversation: conversation(&system, functions(tools)?, schema, messages),
            think,
            sampling: draw.sampling(think),
            seed: draw.given_seed(),
            max_tokens: self.max_completion_tokens.or(self.max_tokens).map(|n| n.min(u32::MAX.into()) as usize),
            stop: stops("stop", self.stop.map(TextOr::into_list).unwrap_or_default())?,
            tool_choice,
            demands,
            bias: self.logit_bias.as_deref().map_or(Ok(Vec::new()), bias)?,
            logprobs: logprobs(self.logprobs, self.top_logprobs)?,
            steering: self.steering,
        })
    }

    /// Whether to think, and for how many tokens at most.
    fn thinking(&self) -> (Thinking, Option<u64>) {
        let (enabled, budget) = match &self.thinking {
            None => (None, None),
            Some(Switch::Flag(on)) => (Some(*on), None),
            Some(Switch::Kind { kind, budget_tokens }) => (Some(kind != "disabled"), *budget_tokens),
        };
        let effort = self.reasoning_effort.clone().map(|effort| ("reasoning_effort", effort));
        let thinking = Thinking { enabled: enabled.or(self.think), effort, model: self.model.clone() };
        (thinking, budget.or(self.thinking_budget))
    }

    fn draw(&self) -> Draw {
        Draw {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            seed: self.seed,
            penalties: Some(penalties(self.presence_penalty, self.frequency_penalty, self.repetition_penalty)),
        }
    }
}

impl Turn {
    fn new(role: Author, text: String) -> Self {
        let (reasoning_content, reasoning, tool_calls, tool_call_id) = Default::default();
        Self { role, content: Some(TextOr::Text(text)), reasoning_content, reasoning, tool_calls, tool_call_id }
    }

    /// Adds this message to the system texts or to the others.
    fn add_to(self, system: &mut Vec<String>, messages: &mut Vec<Message>) {
        let text = self.content.map(TextOr::into_text).unwrap_or_default();
        let message = match self.role {
            Author::System | Author::Developer => return system.push(text),
            Author::User => Message::new(Role::User, text),
            Author::Tool | Author::Function => Message::tool_result(self.tool_call_id.unwrap_or_default(), text),
            Author::Assistant => {
                let reasoning = self.reasoning_content.or(self.reasoning).unwrap_or_default();
                let tool_calls = self.tool_calls.into_iter().flat_map(|calls| calls.0).map(Call::into_call).collect();
                Message { tool_calls, ..Message::assistant(reasoning, text) }
            }
        };
        messages.push(message);
    }
}

impl Call {
    fn into_call(self) -> ToolCall {
        let (name, arguments) = self.function.map_or((None, None), |f| (f.name, f.arguments));
        ToolCall {
            id: self.id.unwrap_or_default(),
            name: name.unwrap_or_default(),
            arguments: arguments.map(|a| raw_text(&a)).unwrap_or_default(),
        }
    }
}

/// Most alternatives to a token.
const MAX_LOGPROBS: u64 = 20;

/// How many alternatives to tell with each token.
fn logprobs(wanted: Option<Logprobs>, most: Option<u64>) -> Result<Option<usize>, Error> {
    let count = match wanted {
        None | Some(Logprobs::Whether(false)) => return Ok(None),
        Some(Logprobs::Whether(true)) => most.unwrap_or(0),
        Some(Logprobs::Count(count)) => count,
    };
    match count {
        0..=MAX_LOGPROBS => Ok(Some(count as usize)),
        _ => Err(Error::Invalid(format!("top_logprobs: {count}, at most {MAX_LOGPROBS} are possible"))),
    }
}

/// The functions among the tools, as the model wants to see them. Tools of other kinds are left out.
fn functions(tools: Vec<Box<RawValue>>) -> Result<Vec<Box<RawValue>>, Error> {
    let mut functions = Vec::new();
    for (i, tool) in tools.into_iter().enumerate() {
        let tool: Tool = serde_json::from_str(tool.get()).map_err(|e| Error::Invalid(format!("tools[{i}]: {e}")))?;
        match tool.function {
            Some(function) if function.get().starts_with('{') => functions.push(function),
            Some(_) => return Err(Error::Invalid(format!("tools[{i}].function: not an object"))),
            None => {}
        }
    }
    Ok(functions)
}
