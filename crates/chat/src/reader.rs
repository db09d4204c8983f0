//! The way back: model output, as it arrives, to reasoning, answer and calls.
//!
//! - `tag.rs`: the tags of DSML in all their spellings
//! - `block.rs`: a block of calls
//! - `types.rs`: what the tools' schemas say about values
//! - `fence.rs`: what is code
//!
//! Everything is decided character by character, so it does not matter how the output is cut into pushes.

mod block;
mod fence;
mod tag;
mod types;

use std::ops::Range;

use crate::message::ToolCall;
use crate::rendered::{END_THINK, THINK};
use block::{Block, Step};
use fence::Fence;
use tag::Scan;
pub use types::Tools;

/// How a tag of DSML begins.
const MARKED: &str = "<｜DSML｜";
/// Most bytes of a block of calls: far more than any tool takes.
const MAX_BLOCK: usize = 1 << 20;
/// Most spaces that are held back because a block may follow.
const MAX_SPACE: usize = 4096;

/// A stretch of model output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// What the model thinks.
    Reasoning(String),
    /// What the model answers.
    Text(String),
    /// A call begins: its name.
    Call(ToolCall),
    /// More of the arguments of the call that has begun: JSON text.
    Arguments(String),
    /// The call is complete, with all of its arguments, a JSON object.
    Called(ToolCall),
    /// The call that has begun will never be complete: its text as the model wrote it. Whoever was told of the call knows
    /// by its arguments, which are no JSON.
    Broken(String),
}

/// What an output comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Text.
    Text,
    /// Text and calls.
    Calls,
    /// A call was begun and not ended; calls before it are complete.
    Unterminated,
    /// Something that looks like calls could not be read, and is text.
    Unparsable,
}

/// What was held back, when the output has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The last events.
    pub events: Vec<Event>,
    /// What it comes to.
    pub end: End,
    /// The bytes of the output that are the answer: text and calls.
    pub body: Range<usize>,
}

/// Splits model output at its thinking tags and, where tools are on offer, at its calls.
///
/// Reasoning ends at the first `</think>`. A `<think>` at the very beginning opens it, for a model that thinks although the
/// prompt did not. These tags are hidden, as are calls and the spaces before them; nothing else is ever lost.
///
/// A block of calls ends the output: nothing that comes after it is read. Where a block may be meant as an example, it is
/// one unless the output ends right after it: in reasoning that never ends (models do forget `</think>`), in code, and in
/// the midst of a line if it is not marked as DSML. Reasoning that ends after all never calls.
#[derive(Debug)]
pub struct Reader {
    state: State,
    tools: Option<Tools>,
    /// Spaces and the beginning of what may become a tag.
    held: String,
    out: Vec<Event>,
    fence: Fence,
    /// Bytes read.
    at: usize,
    body: Range<usize>,
    calls: usize,
    unterminated: bool,
    unparsable: bool,
}

#[derive(Debug)]
enum State {
    /// Nothing seen yet that is not the beginning of `<think>`.
    Start {
        thinking_open: bool,
    },
    Reasoning,
    Text,
    Block(Box<Open>),
    /// The calls are complete.
    Done,
}

/// A block under way.
#[derive(Debug)]
struct Open {
    block: Block,
    /// Whether it stands in the reasoning.
    reasoning: bool,
    /// What it would tell, as long as it may be an example.
    doubt: Option<Vec<Event>>,
    /// Whether it is complete, and may be an example.
    closed: bool,
    /// Its text, from the spaces before it; if there is no doubt, only that after the last complete call.
    raw: String,
    /// Where it begins, spaces included.
    start: usize,
}

impl Reader {
    /// A reader at the start of the output. `thinking_open` is whether the prompt ended with `<think>`. Without `tools`
    /// there are no calls.
    pub fn new(thinking_open: bool, tools: Option<Tools>) -> Self {
        Self {
            state: State::Start { thinking_open },
            tools,
            held: String::new(),
            out: Vec::new(),
            fence: Fence::new(),
            at: 0,
            body: if thinking_open { usize::MAX } else { 0 }..usize::MAX,
            calls: 0,
            unterminated: false,
            unparsable: false,
        }
    }

    /// What is certain after `text`.
    pub fn push(&mut self, text: &str) -> Vec<Event> {
        self.read(text);
        std::mem::take(&mut self.out)
    }

    /// Whether what comes next belongs to the reasoning, as far as can be known.
    pub fn thinks(&self) -> bool {
        match &self.state {
            State::Start { thinking_open } => *thinking_open,
            State::Reasoning => true,
            State::Block(open) => open.reasoning,
            State::Text | State::Done => false,
        }
    }

    /// Whether what comes next belongs to the text, as far as can be known.
    pub fn writes_text(&self) -> bool {
        matches!(self.state, State::Start { thinking_open: false } | State::Text)
    }

    /// Whether what came last is surely text, and not the beginning of a block.
    pub fn told_text(&self) -> bool {
        matches!(self.state, State::Text) && !self.held.contains('<')
    }

    /// Whether the calls are complete, so that nothing more will be read.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The beginning of a block of calls, marked as DSML, where it cannot be an example: what there is of its first tag.
    pub fn opens_block(&self) -> Option<&str> {
        let tag = self.held.find('<')?;
        let (space, tag) = self.held.split_at(tag);
        let opens = matches!(self.state, State::Text) && tag.starts_with(MARKED) && !self.fence.code_after(space);
        opens.then_some(tag)
    }

    /// What was held back, when the output has ended.
    pub fn finish(mut self) -> Finished {
        let held = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.state, State::Done) {
            State::Start { thinking_open: true } | State::Reasoning => self.tell(true, &held),
            State::Start { thinking_open: false } | State::Text => self.tell(false, &held),
            State::Block(open) => self.finish_block(*open),
            State::Done => {}
        }
        let end = match (self.unterminated, self.calls, self.unparsable) {
            (true, ..) => End::Unterminated,
            (_, 1.., _) => End::Calls,
            (_, _, true) => End::Unparsable,
            _ => End::Text,
        };
        let body = self.body.start.min(self.at)..self.body.end.min(self.at);
        Finished { events: self.out, end, body }
    }

    fn finish_block(&mut self, mut open: Open) {
        match open.doubt.take() {
            Some(events) if open.closed => {
                if open.reasoning {
                    self.body.start = open.start;
                }
                self.out.extend(events);
                self.calls += open.block.calls();
            }
            Some(_) => self.tell(open.reasoning, &open.raw),
            None if open.block.all_but_closed() => self.calls += open.block.calls(),
            None => {
                self.unterminated = !open.block.lost() && (open.block.begun() || open.block.in_tag());
                self.unparsable |= open.block.lost();
                self.calls += open.block.calls();
                self.give_up(&open);
            }
        }
    }

    fn read(&mut self, text: &str) {
        for c in text.chars() {
            self.at += c.len_utf8();
            self.next(c);
        }
    }

    fn next(&mut self, c: char) {
        match &self.state {
            State::Start { thinking_open } => self.start(c, *thinking_open),
            State::Reasoning => self.outside(c, true),
            State::Text => self.outside(c, false),
            State::Block(_) => {
                if let State::Block(open) = std::mem::replace(&mut self.state, State::Done) {
                    self.inside(c, open);
                }
            }
            State::Done => {}
        }
    }

    /// Reads a text once more, in another state.
    fn read_again(&mut self, text: &str) {
        self.at -= text.len();
        self.read(text);
    }

    fn start(&mut self, c: char, thinking_open: bool) {
        self.held.push(c);
        if self.held.len() < THINK.len() && THINK.starts_with(&self.held) {
            return;
        }
        let held = std::mem::take(&mut self.held);
        let opened = held == THINK;
        self.state = if opened || thinking_open { State::Reasoning } else { State::Text };
        if opened {
            self.body.start = usize::MAX;
        }
        if !opened {
            self.read_again(&held);
        }
    }

    /// A character of the reasoning or the text.
    fn outside(&mut self, c: char, reasoning: bool) {
        let calls = self.tools.is_some();
        self.held.push(c);
        let Some(tag) = self.held.find('<').filter(|_| reasoning || calls) else {
            if !calls || !c.is_ascii_whitespace() || self.held.len() > MAX_SPACE {
                self.tell_held(reasoning);
            }
            return;
        };
        let (space, tag) = self.held.split_at(tag);
        if reasoning && tag == END_THINK {
            self.held.truncate(space.len());
            self.tell_held(true);
            return self.end_reasoning();
        }
        if reasoning && END_THINK.starts_with(tag) {
            return;
        }
        match if calls { tag::scan_opening(tag) } else { Scan::No } {
            Scan::More => {}
            Scan::Tag(tag) => {
                let code = reasoning || self.fence.code_after(space);
                let doubt = code || (!tag.marked && !self.fence.line_begins_after(space));
                let raw = std::mem::take(&mut self.held);
                let start = self.at - raw.len();
                let (block, doubt) = (Block::default(), doubt.then(Vec::new));
                self.state = State::Block(Box::new(Open { block, reasoning, doubt, closed: false, raw, start }));
            }
            Scan::No => {
                self.held.pop();
                self.tell_held(reasoning);
                self.outside(c, reasoning);
            }
        }
    }

    fn end_reasoning(&mut self) {
        self.state = State::Text;
        self.body.start = self.at;
    }

    /// A character of a block.
    fn inside(&mut self, c: char, mut open: Box<Open>) {
        let Some(tools) = &self.tools else { return };
        if open.closed && !(c.is_ascii_whitespace() && open.raw.len() < MAX_BLOCK) {
            self.leave(&open, 0);
            return self.next(c);
        }
        open.raw.push(c);
        if open.reasoning && open.raw.ends_with(END_THINK) {
            self.tell(true, &open.raw[..open.raw.len() - END_THINK.len()]);
            return self.end_reasoning();
        }
        let step = match open.raw.len() {
            _ if open.closed => Step::More,
            MAX_BLOCK.. => Step::Broken(0),
            _ => open.block.push(c, tools, open.doubt.as_mut().unwrap_or(&mut self.out)),
        };
        let told = open.doubt.is_none() && open.block.begun();
        match step {
            Step::More => {}
            Step::Called(bytes) if told => drop(open.raw.drain(..open.raw.len() - bytes)),
            Step::Called(_) => {}
            Step::Closed => return self.closed(open),
            Step::Broken(tag) if !told => {
                self.unparsable |= open.doubt.is_none();
                return self.leave(&open, tag);
            }
            Step::Broken(_) if open.raw.len() >= MAX_BLOCK => {
                self.unterminated = true;
                return self.give_up(&open);
            }
            Step::Broken(_) => open.block.lose(),
        }
        self.state = State::Block(open);
    }

    /// The tag has come that closes a block.
    fn closed(&mut self, mut open: Box<Open>) {
        let calls = open.block.calls();
        match &open.doubt {
            Some(_) if calls > 0 => {
                open.closed = true;
                self.state = State::Block(open);
            }
            None if calls > 0 || open.block.lost() => {
                if open.block.lost() {
                    self.unparsable = true;
                    self.give_up(&open);
                }
                self.calls += calls;
                match calls {
                    0 => self.state = State::Text,
                    _ => self.body.end = self.at,
                }
            }
            doubt => {
                self.unparsable |= doubt.is_none();
                self.leave(&open, 0);
            }
        }
    }

    /// This is no block of calls. The last bytes may be the beginning of a tag.
    fn leave(&mut self, open: &Open, tag: usize) {
        let (text, tag) = open.raw.split_at(open.raw.len() - tag);
        self.tell(open.reasoning, text);
        self.state = if open.reasoning { State::Reasoning } else { State::Text };
        self.read_again(tag);
    }

    /// What has come since the last complete call is none, and nothing else follows.
    fn give_up(&mut self, open: &Open) {
        match open.block.calling() {
            true => self.out.push(Event::Broken(open.raw.clone())),
            false => self.tell(open.reasoning, &open.raw),
        }
    }

    fn tell_held(&mut self, reasoning: bool) {
        let held = std::mem::take(&mut self.held);
        self.tell(reasoning, &held);
    }

    fn tell(&mut self, reasoning: bool, text: &str) {
        if text.is_empty() {
            return;
        }
        if !reasoning {
            self.fence.push(text);
        }
        match (self.out.last_mut(), reasoning) {
            (Some(Event::Reasoning(part)), true) | (Some(Event::Text(part)), false) => part.push_str(text),
            (_, true) => self.out.push(Event::Reasoning(text.to_owned())),
            (_, false) => self.out.push(Event::Text(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All reasoning and all text of an output that arrives in `chunks`.
    fn read<'a>(thinking_open: bool, chunks: impl IntoIterator<Item = &'a str>) -> (String, String) {
        let mut reader = Reader::new(thinking_open, None);
        let (mut reasoning, mut text) = (String::new(), String::new());
        let mut events: Vec<_> = chunks.into_iter().flat_map(|chunk| reader.push(chunk)).collect();
        let finished = reader.finish();
        assert_eq!(finished.end, End::Text);
        events.extend(finished.events);
        for event in events {
            match event {
                Event::Reasoning(part) => {
                    assert!(text.is_empty(), "reasoning comes first");
                    reasoning += &part;
                }
                Event::Text(part) => text += &part,
                call => panic!("{call:?} without tools"),
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
        let mut reader = Reader::new(true, None);
        assert_eq!(reader.push("so a <"), [Event::Reasoning("so a ".into())]);
        assert_eq!(reader.push(" b </th"), [Event::Reasoning("< b ".into())]);
        assert_eq!(reader.push("ink"), []);
        assert_eq!(reader.push("></think>"), [Event::Text("</think>".into())]);
        assert_eq!(reader.push("<"), [Event::Text("<".into())]);
        assert_eq!(reader.finish().events, []);
    }

    #[test]
    fn one_push_may_end_reasoning_and_begin_text() {
        let events = Reader::new(true, None).push("hm</think>42");
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
