//! What `/v1/responses` may be asked.

use ds4_chat::RawValue;
use ds4_guide::Demands;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::item::{Item, Talk};
use super::memory::{Kept, Memory};
use super::reply::Asked;
use super::tools::Tool;
use crate::body::parse;
use crate::request::{Draw, MAX_FIELD, Thinking, ToolChoice, conversation, format, stops};
use crate::text::{List, TextOr, count};
use crate::{Error, Request, SteeringWish};

/// The body. Fields that are not here are ignored.
#[derive(Debug, Deserialize)]
pub struct Body {
    /// An extension of ours.
    steering: Option<SteeringWish>,
    model: Option<String>,
    input: Option<Box<RawValue>>,
    instructions: Option<String>,
    tools: Option<List<Tool>>,
    tool_choice: Option<Box<RawValue>>,
    text: Option<Box<RawValue>>,
    reasoning: Option<Reasoning>,
    #[serde(default, deserialize_with = "count")]
    max_output_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    max_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    #[serde(default, deserialize_with = "count")]
    top_k: Option<u64>,
    min_p: Option<f64>,
    #[serde(default, deserialize_with = "count")]
    seed: Option<u64>,
    stop: Option<TextOr<String>>,
    stream: Option<bool>,
    previous_response_id: Option<String>,
    conversation: Option<Box<RawValue>>,
    store: Option<bool>,
    parallel_tool_calls: Option<bool>,
    metadata: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
struct Text {
    format: Option<Format>,
}

/// A form that the answer is to have.
#[derive(Debug, Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: Option<String>,
    schema: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
struct Reasoning {
    effort: Option<String>,
    summary: Option<String>,
    /// What `summary` was called.
    generate_summary: Option<String>,
}

impl Body {
    /// Reads the bytes of a body.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        parse(bytes)
    }

    pub(crate) fn streams(&self) -> bool {
        self.stream == Some(true)
    }

    /// The request, or why there can be none, where nothing earlier is remembered.
    pub fn into_request(self) -> Result<Request, Error> {
        self.resolve(&Memory::default()).map(|(request, _)| request)
    }

    /// The request, and what its answer needs to know of it.
    pub(super) fn resolve(mut self, memory: &Memory) -> Result<(Request, Asked), Error> {
        self.check()?;
        let (talk, input) = self.talk(memory)?;
        let think = self.thinking().resolve()?;
        let draw = self.draw();
        let (schema, is_object) = self.format()?;
        let demands = Demands {
            format: format(schema.as_deref(), is_object),
            parallel: self.parallel_tool_calls != Some(false),
            grammars: talk.names.grammars.clone(),
            ..Demands::default()
        };
        let store = self.store != Some(false);
        let before = self.before().map(str::to_owned);
        let asked = Asked {
            echo: self.echo(store),
            shows_reasoning: self.summary().is_some(),
            names: talk.names,
            keep: store.then(|| Kept { before, input, ..Kept::default() }),
        };
        let tool_choice = ToolChoice::new(self.tool_choice.as_deref());
        let system: Vec<String> = self.instructions.into_iter().chain(talk.system).filter(|s| !s.is_empty()).collect();
        let request = Request {
            model: self.model,
            conversation: conversation(&system, talk.tools, schema, talk.messages),
            think,
            sampling: draw.sampling(think),
            seed: draw.given_seed(),
            max_tokens: self.max_output_tokens.or(self.max_tokens).map(|n| n.min(u32::MAX.into()) as usize),
            stop: stops("stop", self.stop.map(TextOr::into_list).unwrap_or_default())?,
            tool_choice: asked.names.choice(tool_choice),
            demands,
            bias: Vec::new(),
            logprobs: None,
            steering: self.steering,
        };
        Ok((request, asked))
    }

    /// Refuses what cannot be done here, and what is too large to be told back.
    fn check(&self) -> Result<(), Error> {
        if self.conversation.is_some() {
            let instead = "send the whole conversation as input, or go on from a previous_response_id";
            return Err(Error::Invalid(format!("conversation: conversations are not kept here; {instead}")));
        }
        for (name, field) in [("metadata", &self.metadata), ("tool_choice", &self.tool_choice)] {
            if field.as_ref().is_some_and(|field| field.get().len() > MAX_FIELD) {
                return Err(Error::Invalid(format!("{name}: more than {MAX_FIELD} bytes")));
            }
        }
        Ok(())
    }

    /// The response that this one goes on from.
    fn before(&self) -> Option<&str> {
        self.previous_response_id.as_deref().filter(|id| !id.is_empty())
    }

    /// All that was said, and what of it is new, as JSON. Takes the tools.
    fn talk<'m>(&mut self, memory: &'m Memory) -> Result<(Talk<'m>, String), Error> {
        let mut talk = Talk::new(memory);
        let offers = ToolChoice::new(self.tool_choice.as_deref()) != ToolChoice::None;
        let tools = self.tools.take().filter(|_| offers).map(|tools| tools.0).unwrap_or_default();
        talk.tools = talk.names.offer(tools)?;
        for kept in self.before().map(|id| memory.up_to(id)).transpose()?.unwrap_or_default() {
            read(&kept.input, &mut talk)?;
            read(&kept.output, &mut talk)?;
        }
        let input = self.input.as_deref().ok_or_else(|| Error::Invalid("missing input".into()))?.get();
        read(input, &mut talk)?;
        if talk.messages.is_empty() && talk.system.is_empty() {
            return Err(Error::Invalid("input: the list is empty, there is nothing to answer".into()));
        }
        Ok((talk, input.to_owned()))
    }

    fn effort(&self) -> Option<&str> {
        self.reasoning.as_ref().and_then(|reasoning| reasoning.effort.as_deref())
    }

    /// How the client wants to see the reasoning, if it does.
    fn summary(&self) -> Option<&str> {
        let reasoning = self.reasoning.as_ref()?;
        reasoning.summary.as_deref().or(reasoning.generate_summary.as_deref())
    }

    fn thinking(&self) -> Thinking {
        let effort = self.effort().map(|effort| ("reasoning.effort", effort.to_owned()));
        Thinking { enabled: None, effort, model: self.model.clone() }
    }

    fn draw(&self) -> Draw {
        let Self { temperature, top_p, top_k, min_p, seed, .. } = *self;
        Draw { temperature, top_p, top_k, min_p, seed, ..Draw::default() }
    }

    /// The schema that the answer is to fit, and whether any object will do.
    fn format(&self) -> Result<(Option<Box<RawValue>>, bool), Error> {
        let text: Option<Text> = self.text.as_deref().map(|text| field("text", text.get())).transpose()?;
        let wanted = text.and_then(|text| text.format);
        let is_object = wanted.as_ref().is_some_and(|f| f.kind.as_deref() == Some("json_object"));
        Ok((wanted.and_then(|f| f.schema), is_object))
    }

    /// The fields that the answer tells back.
    fn echo(&self, store: bool) -> Value {
        let value = |json: &Option<Box<RawValue>>| {
            let json = json.as_deref().filter(|json| json.get().len() <= MAX_FIELD)?;
            serde_json::from_str::<Value>(json.get()).ok()
        };
        json!({
            "max_output_tokens": self.max_output_tokens.or(self.max_tokens),
            "parallel_tool_calls": self.parallel_tool_calls != Some(false),
            "metadata": value(&self.metadata).unwrap_or_else(|| json!({})),
            "previous_response_id": self.before(),
            "reasoning": {"effort": self.effort(), "summary": self.summary()},
            "store": store,
            "temperature": self.temperature.unwrap_or(1.0),
            "text": value(&self.text).unwrap_or_else(|| json!({"format": {"type": "text"}})),
            "tool_choice": value(&self.tool_choice).unwrap_or_else(|| "auto".into()),
            "top_p": self.top_p.unwrap_or(1.0),
        })
    }
}

/// Reads a text or a list of items.
fn read(input: &str, talk: &mut Talk<'_>) -> Result<(), Error> {
    match field("input", input)? {
        TextOr::Text(text) => talk.add(Item::said(text)),
        TextOr::List(items) => items.into_iter().try_for_each(|item| talk.add(item)),
    }
}

/// A field's JSON as `T`; what is wrong is named with its place.
fn field<T: DeserializeOwned>(name: &str, json: &str) -> Result<T, Error> {
    let mut json = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let place = match e.path().to_string() {
            path if path == "." => name.to_owned(),
            path if path.starts_with('[') => format!("{name}{path}"),
            path => format!("{name}.{path}"),
        };
        Error::Invalid(format!("invalid JSON request: {place}: {}", e.inner()))
    })
}
