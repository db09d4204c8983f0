//! A request of any API, typed.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use ds4_chat::{Conversation, Message, RawValue, Role};
use ds4_dialog::Think;
use ds4_engine::{Penalties, Sampling};
use ds4_guide::{Choice as Calling, Demands, Format};
use serde::{Deserialize, Serialize};

use crate::{Error, SteeringWish};

/// Most stop strings, and most bytes of one.
const MAX_STOPS: usize = 64;
const MAX_STOP_BYTES: usize = 1024;

/// What a client wants, whatever API it speaks.
#[derive(Debug)]
pub struct Request {
    /// The model's name as the client says it; it comes back in the answer and chooses nothing.
    pub model: Option<String>,
    /// What was said.
    pub conversation: Conversation,
    /// How to think.
    pub think: Think,
    /// How to draw.
    pub sampling: Sampling,
    /// The start of the random numbers, where the client gave one.
    pub seed: Option<u64>,
    /// Most tokens to generate.
    pub max_tokens: Option<usize>,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// Whether it is to call tools. With [`ToolChoice::None`] the conversation offers none.
    pub tool_choice: ToolChoice,
    /// What else the answer must be like.
    pub demands: Demands,
    /// Added to the logits of these tokens.
    pub bias: Vec<(u32, f32)>,
    /// How many of the most probable tokens to tell with each token of the answer.
    pub logprobs: Option<usize>,
    /// How it is steered, where it says so itself.
    pub steering: Option<SteeringWish>,
}

impl Request {
    /// All that it demands, with its calls held to their schemas or not.
    pub(crate) fn demands(&self, constrain: bool) -> Demands {
        let choice = match &self.tool_choice {
            ToolChoice::Auto => Calling::Auto,
            ToolChoice::None => Calling::None,
            ToolChoice::Required => Calling::Required,
            ToolChoice::Named(name) => Calling::Named(name.clone()),
        };
        Demands { choice, constrain, ..self.demands.clone() }
    }
}

/// Whether an answer calls tools.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ToolChoice {
    /// As the model likes.
    #[default]
    Auto,
    /// It may not.
    None,
    /// It shall call one or more.
    Required,
    /// It shall call this one, by the name that the model knows.
    Named(String),
}

/// A choice as an object, in the words of all APIs: `{"type": "function", "function": {"name"}}`, `{"type": "custom",
/// "name"}`, `{"type": "tool", "name"}`, `{"type": "any"}`, `{"type": "allowed_tools", "mode"}`.
#[derive(Deserialize)]
struct Choice {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: Option<String>,
    mode: Option<String>,
    function: Option<Named>,
    custom: Option<Named>,
    allowed_tools: Option<Allowed>,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Allowed {
    mode: Option<String>,
}

impl ToolChoice {
    /// What a client says. Words that mean nothing here leave the choice to the model.
    pub(crate) fn new(said: Option<&RawValue>) -> Self {
        let Some(said) = said else { return Self::Auto };
        if let Ok(word) = serde_json::from_str::<String>(said.get()) {
            return Self::word(&word);
        }
        let Ok(choice) = serde_json::from_str::<Choice>(said.get()) else { return Self::Auto };
        let name = choice.name.or(choice.function.and_then(|f| f.name)).or(choice.custom.and_then(|c| c.name));
        match (choice.kind.as_deref(), name) {
            (Some("function" | "custom" | "tool"), Some(name)) => Self::Named(name),
            (Some("allowed_tools"), _) => {
                let mode = choice.mode.or(choice.allowed_tools.and_then(|a| a.mode));
                mode.map_or(Self::Auto, |mode| Self::word(&mode))
            }
            (kind, _) => Self::word(kind.unwrap_or_default()),
        }
    }

    fn word(word: &str) -> Self {
        match word {
            "none" => Self::None,
            "required" | "any" => Self::Required,
            _ => Self::Auto,
        }
    }
}

/// How a client wants tokens drawn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Draw {
    /// 0: always the most probable.
    pub temperature: Option<f64>,
    /// Total probability to draw from.
    pub top_p: Option<f64>,
    /// Tokens to draw from.
    pub top_k: Option<u64>,
    /// Least probability relative to the best.
    pub min_p: Option<f64>,
    /// Start of the random numbers; 0 counts as none.
    pub seed: Option<u64>,
    /// What tokens lose that are there already; honoured whatever way the model thinks.
    pub penalties: Option<Penalties>,
}

impl Draw {
    /// The seed, if there is one.
    pub(crate) fn given_seed(&self) -> Option<u64> {
        self.seed.filter(|seed| *seed > 0)
    }

    /// The sampling for a way to think: a model that thinks is always drawn from as it was trained.
    pub fn sampling(self, think: Think) -> Sampling {
        let seed = self.given_seed().unwrap_or_else(random);
        let penalties = self.penalties.unwrap_or(Penalties::NONE);
        let wanted = if think == Think::Off { self } else { Self::default() };
        Sampling {
            temperature: wanted.temperature.unwrap_or(1.0).clamp(0.0, 100.0) as f32,
            top_p: wanted.top_p.unwrap_or(1.0) as f32,
            top_k: wanted.top_k.unwrap_or(0).min(1 << 20) as usize,
            min_p: wanted.min_p.unwrap_or(0.05).clamp(0.0, 1.0) as f32,
            seed,
            penalties,
        }
    }
}

/// A number that nobody can know; the standard library draws the keys of its hash maps like this.
pub(crate) fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish().max(1)
}

/// What clients say about thinking.
#[derive(Clone, Debug, Default)]
pub(crate) struct Thinking {
    /// On or off.
    pub(crate) enabled: Option<bool>,
    /// How hard, and the field that says so.
    pub(crate) effort: Option<(&'static str, String)>,
    /// The model's name; some mean a way to think.
    pub(crate) model: Option<String>,
}

impl Thinking {
    /// What it comes to. `none` wins over everything, then off, then the effort.
    pub(crate) fn resolve(self) -> Result<Think, Error> {
        let effort = match &self.effort {
            None => None,
            Some((field, word)) => Some(match word.as_str() {
                "none" => Think::Off,
                "minimal" | "low" | "medium" | "high" | "xhigh" => Think::On,
                "max" => Think::Max,
                _ => {
                    let known = "none, minimal, low, medium, high, xhigh or max";
                    return Err(Error::Invalid(format!("{field}: unknown effort {word:?}; use {known}")));
                }
            }),
        };
        Ok(match (effort, self.enabled, self.model.as_deref()) {
            (Some(Think::Off), ..) | (_, Some(false), _) | (None, None, Some("deepseek-chat")) => Think::Off,
            (Some(effort), ..) => effort,
            _ => Think::On,
        })
    }
}

/// Stop strings within limits; empty ones say nothing.
pub(crate) fn stops(field: &str, stops: Vec<String>) -> Result<Vec<String>, Error> {
    let stops: Vec<String> = stops.into_iter().filter(|s| !s.is_empty()).collect();
    if stops.len() > MAX_STOPS {
        return Err(Error::Invalid(format!("{field}: {} strings, at most {MAX_STOPS} are possible", stops.len())));
    }
    match stops.iter().find(|s| s.len() > MAX_STOP_BYTES) {
        Some(long) => Err(Error::Invalid(format!(
            "{field}: a string of {} bytes, at most {MAX_STOP_BYTES} are possible",
            long.len()
        ))),
        None => Ok(stops),
    }
}

/// Most tokens with a bias.
const MAX_BIASES: usize = 1024;

/// Most bytes of a field that is kept as JSON, or looked at twice.
pub(crate) const MAX_FIELD: usize = 64 << 10;

/// Biases of tokens by their ids.
pub(crate) fn bias(biases: &RawValue) -> Result<Vec<(u32, f32)>, Error> {
    if biases.get().len() > MAX_FIELD {
        return Err(Error::Invalid(format!("logit_bias: at most {MAX_BIASES} tokens are possible")));
    }
    let biases: HashMap<String, f64> =
        serde_json::from_str(biases.get()).map_err(|e| Error::Invalid(format!("logit_bias: {e}")))?;
    if biases.len() > MAX_BIASES {
        return Err(Error::Invalid(format!("logit_bias: {} tokens, at most {MAX_BIASES} are possible", biases.len())));
    }
    let bias = |(id, bias): (String, f64)| match id.parse() {
        Ok(id) => Ok((id, bias.clamp(-100.0, 100.0) as f32)),
        Err(_) => Err(Error::Invalid(format!("logit_bias: {id:?} is no token's number; see /tokenize"))),
    };
    let mut biases = biases.into_iter().map(bias).collect::<Result<Vec<_>, _>>()?;
    biases.sort_by_key(|(id, _)| *id);
    Ok(biases)
}

/// Penalties within sensible limits.
pub(crate) fn penalties(presence: Option<f64>, frequency: Option<f64>, repetition: Option<f64>) -> Penalties {
    let within = |penalty: Option<f64>| penalty.unwrap_or(0.0).clamp(-2.0, 2.0) as f32;
    let repetition = repetition.unwrap_or(1.0).clamp(0.01, 100.0) as f32;
    Penalties { presence: within(presence), frequency: within(frequency), repetition }
}

/// What an answer is made of: JSON with a schema, a JSON object, or text.
pub(crate) fn format(schema: Option<&RawValue>, is_object: bool) -> Format {
    match schema {
        Some(schema) => Format::JsonSchema(schema.to_owned()),
        None if is_object => Format::JsonObject,
        None => Format::Text,
    }
}

/// A conversation with everything that instructs the model in one place: the system texts, wherever they stood, and the
/// tools come first.
pub(crate) fn conversation(
    system: &[String],
    tools: Vec<Box<RawValue>>,
    response_format: Option<Box<RawValue>>,
    messages: Vec<Message>,
) -> Conversation {
    let mut conversation = Conversation { messages };
    if !system.is_empty() || !tools.is_empty() || response_format.is_some() {
        let first = Message { tools, response_format, ..Message::new(Role::System, system.join("\n\n")) };
        conversation.messages.insert(0, first);
    }
    conversation
}

/// A tool as the model wants to see it.
pub(crate) fn function(
    name: &str,
    description: Option<&str>,
    parameters: Option<&RawValue>,
) -> serde_json::Result<Box<RawValue>> {
    #[derive(Serialize)]
    struct Function<'a> {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        parameters: Option<&'a RawValue>,
    }
    serde_json::to_string(&Function { name, description, parameters }).and_then(RawValue::from_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn think(enabled: Option<bool>, effort: Option<&str>, model: &str) -> Result<Think, Error> {
        let effort = effort.map(|e| ("reasoning_effort", e.to_owned()));
        Thinking { enabled, effort, model: Some(model.to_owned()) }.resolve()
    }

    #[test]
    fn thinking_is_on_unless_something_says_otherwise() {
        // H084, H085
        assert_eq!(think(None, None, ""), Ok(Think::On));
        assert_eq!(think(Some(false), None, ""), Ok(Think::Off));
        assert_eq!(think(Some(true), Some("none"), ""), Ok(Think::Off));
        assert_eq!(think(Some(false), Some("max"), ""), Ok(Think::Off));
        for effort in ["minimal", "low", "medium", "high", "xhigh"] {
            assert_eq!(think(None, Some(effort), ""), Ok(Think::On));
        }
        assert_eq!(think(None, Some("max"), ""), Ok(Think::Max));
        let error = think(None, Some("huge"), "").unwrap_err().to_string();
        assert!(error.starts_with("reasoning_effort: unknown effort \"huge\"; use none, "), "{error}");
    }

    #[test]
    fn a_models_name_counts_only_when_nothing_else_does() {
        // H085
        assert_eq!(think(None, None, "deepseek-chat"), Ok(Think::Off));
        assert_eq!(think(None, None, "deepseek-reasoner"), Ok(Think::On));
        assert_eq!(think(Some(true), None, "deepseek-chat"), Ok(Think::On));
        assert_eq!(think(None, Some("low"), "deepseek-chat"), Ok(Think::On));
    }

    #[test]
    fn a_model_that_thinks_is_drawn_from_as_it_was_trained() {
        // H086, H088
        let draw = Draw {
            temperature: Some(0.0),
            top_p: Some(0.5),
            top_k: Some(3),
            min_p: Some(0.5),
            seed: Some(7),
            ..Draw::default()
        };
        let trained = Sampling { temperature: 1.0, min_p: 0.05, seed: 7, ..Sampling::GREEDY };
        assert_eq!(draw.sampling(Think::On), trained);
        assert_eq!(draw.sampling(Think::Max), trained);
        let wanted = Sampling { top_p: 0.5, top_k: 3, min_p: 0.5, seed: 7, ..Sampling::GREEDY };
        assert_eq!(draw.sampling(Think::Off), wanted);
    }

    #[test]
    fn a_choice_of_tools_is_understood_in_the_words_of_every_api() {
        let choice = |json: &str| ToolChoice::new(Some(&RawValue::from_string(json.into()).unwrap()));
        let read = ToolChoice::Named("read".into());
        for (json, expected) in [
            (r#""auto""#, ToolChoice::Auto),
            (r#""none""#, ToolChoice::None),
            (r#""required""#, ToolChoice::Required),
            (r#"{"type": "function", "function": {"name": "read"}}"#, read.clone()),
            (r#"{"type": "custom", "custom": {"name": "read"}}"#, read.clone()),
            (r#"{"type": "function", "name": "read"}"#, read.clone()),
            (r#"{"type": "tool", "name": "read", "disable_parallel_tool_use": true}"#, read),
            (r#"{"type": "any"}"#, ToolChoice::Required),
            (r#"{"type": "none"}"#, ToolChoice::None),
            (r#"{"type": "allowed_tools", "mode": "required", "tools": []}"#, ToolChoice::Required),
            (r#"{"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}"#, ToolChoice::Auto),
            (r#"{"type": "web_search"}"#, ToolChoice::Auto),
            (r#"{"type": "function"}"#, ToolChoice::Auto),
            ("null", ToolChoice::Auto),
            ("[7]", ToolChoice::Auto),
        ] {
            assert_eq!(choice(json), expected, "{json}");
        }
        assert_eq!(ToolChoice::new(None), ToolChoice::Auto);
    }

    #[test]
    fn seed_zero_is_no_seed() {
        // H089
        let draw = Draw { seed: Some(0), ..Draw::default() };
        assert_ne!(draw.sampling(Think::Off).seed, draw.sampling(Think::Off).seed);
        assert_ne!(draw.sampling(Think::Off).seed, 0);
    }
}
