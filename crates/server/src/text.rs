//! The small freedoms that all APIs allow in JSON.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

/// Stands where a picture or a file was, so that the model knows that something is missing.
pub(crate) fn omitted(kind: Option<&str>) -> String {
    let kind = kind.map_or("part", |kind| kind.trim_start_matches("input_").trim_end_matches("_url"));
    format!("[{kind} omitted: this model reads text only]")
}

/// Stands before the schemas of tools that a search has found.
pub(crate) const FOUND: &str = "These tools can be called now:";

/// Instructions that come in the midst of a conversation, as a part of the user's turn at their place: what was said before
/// them stays as it was read.
pub(crate) fn reminder(text: &str) -> String {
    match text.trim_start().starts_with("<system-reminder>") {
        true => text.to_owned(),
        false => format!("<system-reminder>\n{text}\n</system-reminder>"),
    }
}

/// A part of a message: text, or something that has a type and no text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a part such as {\"type\": \"text\", \"text\": …}")]
pub(crate) enum Part {
    Plain(String),
    Typed {
        #[serde(rename = "type")]
        kind: Option<String>,
        #[serde(alias = "refusal")]
        text: Option<String>,
    },
}

impl Part {
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Plain(text) | Self::Typed { text: Some(text), .. } => text,
            Self::Typed { kind, text: None } => omitted(kind.as_deref()),
        }
    }
}

/// A text, or a list.
#[derive(Clone, Debug)]
pub(crate) enum TextOr<T> {
    /// A text.
    Text(String),
    /// A list.
    List(Vec<T>),
}

impl TextOr<Part> {
    /// The text, or the parts' texts with line breaks between them.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::List(parts) => parts.into_iter().map(Part::into_text).collect::<Vec<_>>().join("\n"),
        }
    }
}

impl TextOr<String> {
    /// The texts.
    pub(crate) fn into_list(self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text],
            Self::List(texts) => texts,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrVisitor(PhantomData))
    }
}

struct TextOrVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for TextOrVisitor<T> {
    type Value = TextOr<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a string or a list")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(TextOr::Text(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(TextOr::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        ListVisitor(PhantomData).visit_seq(list).map(|list| TextOr::List(list.0))
    }
}

/// Most items of a list: short ones take far more memory than their bytes in JSON.
const MAX_ITEMS: usize = 1 << 17;

/// A list of bounded length.
#[derive(Clone, Debug)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = List<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            if items.len() == MAX_ITEMS {
                return Err(serde::de::Error::custom(format_args!("more than {MAX_ITEMS} items")));
            }
            items.push(item);
        }
        Ok(List(items))
    }
}

/// A whole number that is not negative; fractions are cut off and what is below 0 counts as 0, as in the C program.
pub(crate) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<serde_json::Number>::deserialize(deserializer)?;
    Ok(number.map(|n| n.as_u64().unwrap_or_else(|| n.as_f64().unwrap_or(0.0) as u64)))
}

/// A JSON value's text: strings without their quotes, anything else as it stands.
pub(crate) fn raw_text(value: &serde_json::value::RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}
