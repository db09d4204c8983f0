//! Tokens to reasoning and answer.

use ds4_chat::{Event, Reader};
use ds4_tokenizer::{StreamDecoder, Tokenizer};

use crate::stop::StopStrings;

/// An answer under way: tokens go in, whole characters come out, told apart into reasoning and text.
pub struct Answer<'t> {
    decoder: StreamDecoder<'t>,
    stop: StopStrings,
    reader: Reader,
}

impl<'t> Answer<'t> {
    /// The answer to a prompt that ends inside the reasoning, or not (`thinking`). It ends before the first of the `stop`
    /// strings, which are looked for in everything that the model writes, reasoning included.
    pub fn new(tokenizer: &'t Tokenizer, thinking: bool, stop: Vec<String>) -> Self {
        let decoder = StreamDecoder::new(tokenizer);
        Self { decoder, stop: StopStrings::new(stop), reader: Reader::new(thinking) }
    }

    /// What is certain after the next token.
    pub fn push(&mut self, token: u32) -> Vec<Event> {
        let text = self.decoder.push(token);
        self.reader.push(&self.stop.push(&text))
    }

    /// The stop string that ended the answer; tokens after it are ignored.
    pub fn stopped(&self) -> Option<&str> {
        self.stop.found()
    }

    /// What was held back, when there are no more tokens.
    pub fn finish(mut self) -> Vec<Event> {
        let mut text = self.stop.push(&self.decoder.finish());
        text += &self.stop.finish();
        let mut events = self.reader.push(&text);
        events.extend(self.reader.finish());
        events
    }
}
