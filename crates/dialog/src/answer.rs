//! Tokens to reasoning, answer and calls.

use ds4_chat::{End, Event, Message, Reader, Tools};
use ds4_tokenizer::{StreamDecoder, Tokenizer};

use crate::stop::StopStrings;
use crate::turns::{Spelled, Turn, TurnTokens};

/// An answer under way: tokens go in, whole characters come out, told apart into reasoning, text and calls.
pub struct Answer<'t> {
    tokenizer: &'t Tokenizer,
    thinking: bool,
    decoder: StreamDecoder<'t>,
    stop: StopStrings,
    reader: Reader,
    sampled: Vec<u32>,
    /// What the reader was given.
    written: String,
    given: Message,
}

impl<'t> Answer<'t> {
    /// The answer to a prompt that ends inside the reasoning, or not (`thinking`), and that may call `tools`. It ends before
    /// the first of the `stop` strings, which are looked for in everything that the model writes, reasoning and calls
    /// included.
    pub fn new(tokenizer: &'t Tokenizer, thinking: bool, tools: Option<Tools>, stop: Vec<String>) -> Self {
        Self {
            tokenizer,
            thinking,
            decoder: StreamDecoder::new(tokenizer),
            stop: StopStrings::new(stop),
            reader: Reader::new(thinking, tools),
            sampled: Vec::new(),
            written: String::new(),
            given: Message::assistant("", ""),
        }
    }

    /// What is certain after the next token.
    pub fn push(&mut self, token: u32) -> Vec<Event> {
        self.sampled.push(token);
        let text = self.decoder.push(token);
        let text = self.stop.push(&text);
        self.read(&text)
    }

    /// Whether the next token belongs to the reasoning.
    pub fn thinks(&self) -> bool {
        self.reader.thinks()
    }

    /// Whether the next token belongs to the text.
    pub fn writes_text(&self) -> bool {
        self.reader.writes_text()
    }

    /// Whether the answer is complete because its calls are; tokens after it are ignored.
    pub fn is_done(&self) -> bool {
        self.reader.is_done()
    }

    /// The stop string that ended the answer; tokens after it are ignored.
    pub fn stopped(&self) -> Option<&str> {
        self.stop.found()
    }

    /// What was held back, when there are no more tokens; all of it, to be remembered, with calls that have no ids yet; and
    /// what it comes to.
    pub fn finish(mut self) -> (Vec<Event>, Turn, End) {
        let mut text = self.stop.push(&self.decoder.finish());
        text += &self.stop.finish();
        self.written.push_str(&text);
        let mut events = self.reader.push(&text);
        let finished = self.reader.finish();
        events.extend(finished.events);
        gave(&mut self.given, &events);
        let spelled = Spelled { reasoning: &self.given.reasoning, body: &self.written[finished.body] };
        let tokens = TurnTokens::new(self.tokenizer, &self.sampled, self.thinking, &spelled);
        (events, Turn { given: self.given, tokens }, finished.end)
    }

    fn read(&mut self, text: &str) -> Vec<Event> {
        self.written.push_str(text);
        let events = self.reader.push(text);
        gave(&mut self.given, &events);
        events
    }
}

fn gave(given: &mut Message, events: &[Event]) {
    for event in events {
        match event {
            Event::Reasoning(part) => given.reasoning.push_str(part),
            Event::Text(part) | Event::Broken(part) => given.content.push_str(part),
            Event::Called(call) => given.tool_calls.push(call.clone()),
            Event::Call(_) | Event::Arguments(_) => {}
        }
    }
}
