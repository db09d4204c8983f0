//! The way back: model output, as it arrives, to reasoning and answer.

use crate::rendered::{END_THINK, THINK};

/// A stretch of model output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What the model thinks.
    Reasoning(String),
    /// What the model answers.
    Text(String),
}

/// Splits model output at its thinking tags, however it is cut into pushes.
///
/// Reasoning ends at the first `</think>`. A `<think>` at the very beginning opens it, for a model that thinks although the
/// prompt did not. These tags are hidden; nothing else is ever lost, and text in which neither is a tag passes unchanged.
#[derive(Debug)]
pub struct Reader {
    state: State,
    /// The beginning of what may become a tag, at most seven bytes.
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing seen yet that is not the beginning of `<think>`.
    Start {
        thinking_open: bool,
    },
    Reasoning,
    Text,
}

impl Reader {
    /// A reader at the start of the output. `thinking_open` is whether the prompt ended with `<think>`.
    pub fn new(thinking_open: bool) -> Self {
        Self { state: State::Start { thinking_open }, held: String::new() }
    }

    /// What is certain after `text`: no event, one, or the end of the reasoning and the beginning of the answer.
    pub fn push(&mut self, text: &str) -> Vec<Event> {
        self.held.push_str(text);
        let mut events = Vec::new();
        if let State::Start { thinking_open } = self.state {
            if self.held.len() < THINK.len() && THINK.starts_with(&self.held) {
                return events;
            }
            let tag = self.held.starts_with(THINK);
            self.held.drain(..if tag { THINK.len() } else { 0 });
            self.state = if tag || thinking_open { State::Reasoning } else { State::Text };
        }
        if self.state == State::Reasoning {
            let (end, closed) = match self.held.find(END_THINK) {
                Some(end) => (end, true),
                None => (self.held.len() - partial(&self.held, END_THINK), false),
            };
            events.extend(
                Some(self.held.drain(..end).collect()).filter(|s: &String| !s.is_empty()).map(Event::Reasoning),
            );
            if closed {
                self.held.drain(..END_THINK.len());
                self.state = State::Text;
            }
        }
        if self.state == State::Text && !self.held.is_empty() {
            events.push(Event::Text(std::mem::take(&mut self.held)));
        }
        events
    }

    /// What was held back, when the output has ended.
    pub fn finish(self) -> Option<Event> {
        match self.state {
            _ if self.held.is_empty() => None,
            State::Start { thinking_open: true } | State::Reasoning => Some(Event::Reasoning(self.held)),
            State::Start { thinking_open: false } | State::Text => Some(Event::Text(self.held)),
        }
    }
}

/// Length of the longest end of `text` with which `tag` begins.
fn partial(text: &str, tag: &str) -> usize {
    (1..tag.len()).rev().find(|&len| text.ends_with(&tag[..len])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All reasoning and all text of an output that arrives in `chunks`.
    fn read<'a>(thinking_open: bool, chunks: impl IntoIterator<Item = &'a str>) -> (String, String) {
        let mut reader = Reader::new(thinking_open);
        let (mut reasoning, mut text) = (String::new(), String::new());
        let mut events: Vec<_> = chunks.into_iter().flat_map(|chunk| reader.push(chunk)).collect();
        events.extend(reader.finish());
        for event in events {
            match event {
                Event::Reasoning(part) => {
                    assert!(text.is_empty(), "reasoning comes first");
                    reasoning += &part;
                }
                Event::Text(part) => text += &part,
            }
        }
        (reasoning, text)
    }

    fn pair(reasoning: &str, text: &str) -> (String, String) {
        (reasoning.into(), text.into())
    }

    #[test]
    fn reasoning_ends_at_the_first_closing_tag() {
        assert_eq!(read(true, ["let me see</think>42"]), pair("let me see", "42"));
        assert_eq!(read(true, ["a</think>b</think>c"]), pair("a", "b</think>c"));
        assert_eq!(read(true, ["never closed"]), pair("never closed", ""));
        assert_eq!(read(true, ["</think>"]), pair("", ""));
    }

    #[test]
    fn without_thinking_all_is_text() {
        assert_eq!(read(false, ["the tag </think> ends reasoning"]), pair("", "the tag </think> ends reasoning"));
        assert_eq!(read(false, ["see <think>"]), pair("", "see <think>"));
    }

    #[test]
    fn a_model_may_open_the_reasoning_itself() {
        assert_eq!(read(false, ["<think>hm</think>42"]), pair("hm", "42"));
        assert_eq!(read(true, ["<think>hm</think>42"]), pair("hm", "42"));
        assert_eq!(read(false, ["<think"]), pair("", "<think"));
    }

    #[test]
    fn only_a_possible_tag_is_held_back() {
        let mut reader = Reader::new(true);
        assert_eq!(reader.push("so a <"), [Event::Reasoning("so a ".into())]);
        assert_eq!(reader.push(" b </th"), [Event::Reasoning("< b ".into())]);
        assert_eq!(reader.push("ink"), []);
        assert_eq!(reader.push("></think>"), [Event::Text("</think>".into())]);
        assert_eq!(reader.push("<"), [Event::Text("<".into())]);
        assert_eq!(reader.finish(), None);
    }

    #[test]
    fn one_push_may_end_reasoning_and_begin_text() {
        let events = Reader::new(true).push("hm</think>42");
        assert_eq!(events, [Event::Reasoning("hm".into()), Event::Text("42".into())]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_chunks_do_not_matter(
            parts in prop::collection::vec("(<think>|</think>|<|</|think>|h|é🙂|[a-z ]{0,4})", 0..10),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            thinking_open in any::<bool>(),
        ) {
            let output = parts.concat();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| output.floor_char_boundary(cut.index(output.len() + 1))).collect();
            cuts.extend([0, output.len()]);
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|cut| &output[cut[0]..cut[1]]);
            let (reasoning, text) = read(thinking_open, chunks);

            let opened = output.strip_prefix("<think>");
            let body = opened.unwrap_or(&output);
            let expected = match body.split_once("</think>") {
                _ if opened.is_none() && !thinking_open => ("", body),
                Some(parts) => parts,
                None => (body, ""),
            };
            prop_assert_eq!((reasoning.as_str(), text.as_str()), expected);
        }
    }
}
