//! Conversation to tokens.

use std::ops::Range;
use std::sync::Arc;

use ds4_chat::{Conversation, Options, Rendered, Tools, render};
use ds4_tokenizer::{Error, Tokenizer};

use crate::texts::Texts;
use crate::turns::{Exact, Place, Turns};

/// What the model is to continue.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    /// Its text, control tokens included.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Whether it ends inside the reasoning.
    pub thinking: bool,
    /// What the answer may call.
    pub tools: Option<Tools>,
    /// Turns of the assistant that have the tokens with which they were sampled.
    pub replayed: usize,
    /// Where the answer stands, for [`Turns::remember`].
    pub place: Place,
}

impl Prompt {
    /// A rendered conversation. Turns that are found in `turns` have the tokens with which they were sampled, and their
    /// text as it was then; all else is tokenised.
    pub fn new(
        conversation: &Conversation,
        options: &Options,
        tokenizer: &Tokenizer,
        turns: Option<&Turns>,
    ) -> Result<Self, Error> {
        let rendered = render(conversation, options);
        let last = rendered.specials.last().cloned().unwrap_or_default();
        let thinking = last.end == rendered.text.len() && &rendered.text[last] == "<think>";
        let places = places(conversation);
        let found = turns.map_or_else(Vec::new, |turns| find(turns, conversation, &rendered, &places));
        let splices: Vec<_> = found.iter().flat_map(Found::splices).collect();
        let (text, tokens) = splice(tokenizer, &rendered, &splices, turns.map(|turns| &turns.texts))?;
        let (tools, place) = (Tools::of(conversation), places[conversation.messages.len()]);
        Ok(Self { text, tokens, thinking, tools, replayed: found.len(), place })
    }
}

/// The place of each message, and the one after all.
fn places(conversation: &Conversation) -> Vec<Place> {
    let mut places = vec![Place::default()];
    places.extend(conversation.messages.iter().scan(Place::default(), |place, message| {
        *place = place.after(message);
        Some(*place)
    }));
    places
}

/// A turn whose tokens are known, and where they go.
struct Found {
    exact: Arc<Exact>,
    reasoning: Option<Range<usize>>,
    body: Range<usize>,
}

impl Found {
    fn splices(&self) -> impl Iterator<Item = (Range<usize>, &[u32])> {
        let reasoning = self.reasoning.clone().map(|range| (range, &*self.exact.reasoning));
        reasoning.into_iter().chain([(self.body.clone(), &*self.exact.body)])
    }
}

/// The turns that are known, in order. The last ones are looked for first: they are the likeliest to be known.
fn find(turns: &Turns, conversation: &Conversation, rendered: &Rendered, places: &[Place]) -> Vec<Found> {
    let mut search = turns.search();
    let mut found: Vec<_> = rendered
        .assistant
        .iter()
        .rev()
        .filter_map(|span| {
            let message = &conversation.messages[span.message];
            let exact = search.find(places[span.message], message)?;
            let reasoning = span.reasoning.clone().filter(|_| exact.thought_as(message));
            Some(Found { exact, reasoning, body: span.body.clone() })
        })
        .collect();
    found.reverse();
    found
}

/// Text and tokens with `splices` in the place of what was rendered there.
fn splice(
    tokenizer: &Tokenizer,
    rendered: &Rendered,
    splices: &[(Range<usize>, &[u32])],
    texts: Option<&Texts>,
) -> Result<(String, Vec<u32>), Error> {
    let (mut text, mut tokens) = (String::new(), Vec::new());
    let mut from = 0;
    let end = rendered.text.len();
    for (range, ids) in splices.iter().cloned().chain([(end..end, &[][..])]) {
        let part = &rendered.text[from..range.start];
        let first = rendered.specials.partition_point(|special| special.start < from);
        let last = rendered.specials.partition_point(|special| special.start < range.start);
        let specials: Vec<_> = rendered.specials[first..last].iter().map(|s| s.start - from..s.end - from).collect();
        match texts {
            Some(texts) => encode(tokenizer, texts, part, &specials, &mut tokens)?,
            None => tokens.extend(tokenizer.encode_marked(part, &specials)?),
        }
        tokens.extend(ids);
        text += part;
        text += &tokenizer.decode(ids);
        from = range.end;
    }
    Ok((text, tokens))
}

/// The tokens of a marked text; its parts may be known.
fn encode(
    tokenizer: &Tokenizer,
    texts: &Texts,
    text: &str,
    specials: &[Range<usize>],
    tokens: &mut Vec<u32>,
) -> Result<(), Error> {
    let mut from = 0;
    for special in specials {
        texts.encode(tokenizer, &text[from..special.start], tokens);
        tokens.extend(tokenizer.encode_marked(&text[special.clone()], std::slice::from_ref(&(0..special.len())))?);
        from = special.end;
    }
    texts.encode(tokenizer, &text[from..], tokens);
    Ok(())
}
