//! Tokens to reasoning and answer.

use ds4_chat::{Event, Message, Reader};
use ds4_tokenizer::{StreamDecoder, Tokenizer};

use crate::stop::StopStrings;
use crate::turns::{Turn, TurnTokens};

/// An answer under way: tokens go in, whole characters come out, told apart into reasoning and text.
pub struct Answer<'t> {
    tokenizer: &'t Tokenizer,
    thinking: bool,
    decoder: StreamDecoder<'t>,
    stop: StopStrings,
    reader: Reader,
    sampled: Vec<u32>,
    given: Message,
}

impl<'t> Answer<'t> {
    /// The answer to a prompt that ends inside the reasoning, or not (`thinking`). It ends before the first of the `stop`
    /// strings, which are looked for in everything that the model writes, reasoning included.
    pub fn new(tokenizer: &'t Tokenizer, thinking: bool, stop: Vec<String>) -> Self {
        Self {
            tokenizer,
            thinking,
            decoder: StreamDecoder::new(tokenizer),
            stop: StopStrings::new(stop),
            reader: Reader::new(thinking),
            sampled: Vec::new(),
            given: Message::assistant("", ""),
        }
    }

    /// What is certain after the next token.
    pub fn push(&mut self, token: u32) -> Vec<Event> {
        self.sampled.push(token);
        let text = self.decoder.push(token);
        let events = self.reader.push(&self.stop.push(&text));
        gave(&mut self.given, &events);
        events
    }

    /// The stop string that ended the answer; tokens after it are ignored.
    pub fn stopped(&self) -> Option<&str> {
        self.stop.found()
    }

    /// What was held back, when there are no more tokens; and all of it, to be remembered.
    pub fn finish(mut self) -> (Vec<Event>, Turn) {
        let mut text = self.stop.push(&self.decoder.finish());
        text += &self.stop.finish();
        let mut events = self.reader.push(&text);
        events.extend(self.reader.finish());
        gave(&mut self.given, &events);
        let tokens = TurnTokens::new(self.tokenizer, &self.sampled, self.thinking, &self.given);
        (events, Turn { given: self.given, tokens })
    }
}

fn gave(given: &mut Message, events: &[Event]) {
    for event in events {
        match event {
            Event::Reasoning(part) => given.reasoning.push_str(part),
            Event::Text(part) => given.content.push_str(part),
        }
    }
}
