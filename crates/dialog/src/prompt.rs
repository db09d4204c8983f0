//! Conversation to tokens.

use ds4_chat::{Conversation, Options, Rendered, render};
use ds4_tokenizer::{Error, Tokenizer};

/// What the model is to continue.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Its text, control tokens included.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Whether it ends inside the reasoning.
    pub thinking: bool,
}

impl Prompt {
    /// A rendered conversation.
    pub fn new(conversation: &Conversation, options: &Options, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let rendered = render(conversation, options);
        let tokens = encode(tokenizer, &rendered)?;
        let last = rendered.specials.last().cloned().unwrap_or_default();
        let thinking = last.end == rendered.text.len() && &rendered.text[last] == "<think>";
        Ok(Self { text: rendered.text, tokens, thinking })
    }
}

/// The tokens of a rendered conversation; special strings in its content stay text.
pub fn encode(tokenizer: &Tokenizer, rendered: &Rendered) -> Result<Vec<u32>, Error> {
    tokenizer.encode_marked(&rendered.text, &rendered.specials)
}
