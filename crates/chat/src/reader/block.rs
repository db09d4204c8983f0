//! A block of calls, from behind the tag that opens it to the tag that closes it.

use std::collections::HashSet;

use super::Event;
use super::tag::{self, Kind, Scan, Tag};
use super::types::{Tools, Types};
use crate::json;
use crate::message::ToolCall;

/// Most values inside each other.
const MAX_NESTED: usize = 16;

/// What came of a character.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    /// A call is complete. So many of the last bytes belong to the next one.
    Called(usize),
    /// The block is complete.
    Closed,
    /// This is no block of calls, or none that can be read. So many of the last bytes may be the beginning of a tag.
    Broken(usize),
}

/// Reads a block, character by character.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// The call under way.
    call: Option<ToolCall>,
    /// The arguments of the call, and values inside each other.
    frames: Vec<Frame>,
    /// What may become a tag or an entity.
    tag: String,
    calls: usize,
    /// Nothing but the end of the block is looked for.
    lost: bool,
}

#[derive(Debug)]
struct Frame {
    form: Form,
    /// What was not passed on: the value, or its first spaces.
    text: String,
    /// Whether parameters may begin here.
    nests: bool,
    marked: bool,
    types: Types,
    /// What the `string` attribute says.
    string: bool,
    names: HashSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Parameters.
    Object,
    /// Arguments as JSON.
    Json,
    /// A text of which nothing but perhaps spaces has come.
    Blank,
    /// A text, passed on as it comes.
    Text,
    /// A value that is passed on when it is whole.
    Whole,
    /// A value for which there is one already.
    Spare,
}

impl Frame {
    fn new(form: Form, tag: &Tag, types: Types) -> Self {
        let string = tag.attributes.string;
        Self {
            form,
            text: String::new(),
            nests: string != Some(true) || !types.allow_text(),
            marked: tag.marked,
            types,
            string: string.unwrap_or(types.allow_text()),
            names: HashSet::new(),
        }
    }
}

impl Block {
    /// Calls that are complete.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    /// Whether a call has begun and not ended.
    pub(super) fn calling(&self) -> bool {
        self.call.is_some()
    }

    /// Whether only the tag that closes the block is missing.
    pub(super) fn all_but_closed(&self) -> bool {
        self.calls > 0 && !self.calling() && (self.tag.is_empty() || self.tag.starts_with("</")) && !self.lost
    }

    /// Whether somebody may have been told of a call.
    pub(super) fn begun(&self) -> bool {
        self.calls > 0 || self.calling()
    }

    /// Whether a tag has begun and not ended.
    pub(super) fn in_tag(&self) -> bool {
        !self.tag.is_empty()
    }

    /// Gives up: from now on only the end of the block is looked for.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.tag.clear();
    }

    pub(super) fn lost(&self) -> bool {
        self.lost
    }

    /// The next character.
    pub(super) fn push(&mut self, c: char, tools: &Tools, out: &mut Vec<Event>) -> Step {
        match self.frames.last().map(|frame| frame.form) {
            _ if self.lost => self.look_for_end(c),
            None | Some(Form::Object) => self.between_tags(c, tools, out),
            Some(_) => self.in_value(c, tools, out),
        }
    }

    fn look_for_end(&mut self, c: char) -> Step {
        if c == '<' {
            self.tag.clear();
        }
        if c == '<' || !self.tag.is_empty() {
            self.tag.push(c);
            match tag::scan(&self.tag) {
                Scan::Tag(tag) if tag.kind == Kind::Calls && tag.closing => return Step::Closed,
                Scan::More => {}
                _ => self.tag.clear(),
            }
        }
        Step::More
    }

    fn between_tags(&mut self, c: char, tools: &Tools, out: &mut Vec<Event>) -> Step {
        if self.tag.is_empty() {
            let bare = self.frames.len() == 1 && self.frames[0].names.is_empty();
            match c {
                '<' => self.tag.push(c),
                '{' if bare => {
                    self.frames[0].form = Form::Json;
                    self.frames[0].text.push(c);
                }
                c if c.is_ascii_whitespace() => {}
                _ => return Step::Broken(0),
            }
            return Step::More;
        }
        self.tag.push(c);
        match tag::scan(&self.tag) {
            Scan::More => Step::More,
            Scan::No => Step::Broken(self.tag.len()),
            Scan::Tag(tag) => {
                let step = self.tag(&tag, tools, out);
                self.tag.clear();
                step
            }
        }
    }

    /// A tag where one is expected. Tags that close nothing are ignored, and those that are missing are thought of where the
    /// next one leaves no doubt.
    fn tag(&mut self, tag: &Tag, tools: &Tools, out: &mut Vec<Event>) -> Step {
        let bytes = self.tag.len();
        match (self.frames.len(), tag.kind, tag.closing) {
            (0, Kind::Calls, true) => Step::Closed,
            (0, Kind::Calls, false) | (0, _, true) | (1, Kind::Parameter, true) => Step::More,
            (0, Kind::Invoke, false) => self.begin(tag, out),
            (1, Kind::Invoke, true) => self.end(out).map_or(Step::Broken(bytes), |()| Step::Called(0)),
            (1, Kind::Invoke, false) => match self.end(out).map(|()| self.begin(tag, out)) {
                Some(Step::More) => Step::Called(bytes),
                Some(step) => step,
                None => Step::Broken(bytes),
            },
            (1, Kind::Calls, true) => self.end(out).map_or(Step::Broken(bytes), |()| Step::Closed),
            (1.., Kind::Parameter, false) => self.parameter(tag, tools, out),
            (_, Kind::Parameter, true) => {
                self.close(out);
                Step::More
            }
            _ => Step::Broken(bytes),
        }
    }

    /// A call begins.
    fn begin(&mut self, tag: &Tag, out: &mut Vec<Event>) -> Step {
        let Some(name) = tag.attributes.name.clone().filter(|name| !name.is_empty()) else {
            return Step::Broken(self.tag.len());
        };
        let call = ToolCall { name, ..ToolCall::default() };
        out.push(Event::Call(call.clone()));
        self.call = Some(call);
        self.frames.push(Frame::new(Form::Object, tag, Types::default()));
        match tag.attributes.empty {
            true => self.end(out).map_or(Step::Broken(0), |()| Step::Called(0)),
            false => Step::More,
        }
    }

    /// The call is complete.
    fn end(&mut self, out: &mut Vec<Event>) -> Option<()> {
        self.close(out);
        out.push(Event::Called(self.call.take()?));
        self.calls += 1;
        Some(())
    }

    /// A parameter begins.
    fn parameter(&mut self, tag: &Tag, tools: &Tools, out: &mut Vec<Event>) -> Step {
        let bytes = self.tag.len();
        let Some(name) = tag.attributes.name.as_deref() else { return Step::Broken(bytes) };
        if self.frames.len() > MAX_NESTED {
            return Step::Broken(bytes);
        }
        let types = match (&self.call, self.frames.len()) {
            (Some(call), 1) => tools.types(&call.name, name),
            _ => Types::default(),
        };
        let mut frame = Frame::new(Form::Whole, tag, types);
        // Texts in the markup of other models come with entities, which are not resolved before the end.
        if frame.string && types.allow_text() && tag.marked {
            frame.form = if frame.nests { Form::Blank } else { Form::Text };
        }
        let Some(parent) = self.frames.last_mut() else { return Step::Broken(bytes) };
        let first = parent.names.is_empty();
        if parent.names.insert(name.to_owned()) {
            let key = if first { "{" } else { "," }.to_owned() + &json::string(name) + ":";
            let quote = if frame.form == Form::Text { "\"" } else { "" };
            self.pass_on(&(key + quote), out);
        } else {
            frame.form = Form::Spare;
        }
        self.frames.push(frame);
        if tag.attributes.empty {
            self.close(out);
        }
        Step::More
    }

    fn in_value(&mut self, c: char, tools: &Tools, out: &mut Vec<Event>) -> Step {
        let Some(frame) = self.frames.last() else { return Step::Broken(0) };
        if self.tag.is_empty() {
            match c {
                '<' => self.tag.push(c),
                '&' if frame.marked && frame.form != Form::Json => self.tag.push(c),
                _ => self.literal(c, out),
            }
            return Step::More;
        }
        self.tag.push(c);
        let nests = frame.nests && frame.form != Form::Json && frame.text.trim_ascii().is_empty();
        let nests = nests && matches!(frame.form, Form::Blank | Form::Whole);
        match self.tag_in_value(nests) {
            Scan::More => Step::More,
            Scan::No => {
                let last = self.tag.pop();
                let text = std::mem::take(&mut self.tag);
                text.chars().for_each(|c| self.literal(c, out));
                last.map_or(Step::More, |c| self.in_value(c, tools, out))
            }
            Scan::Tag(tag) if tag.closing && self.tag.starts_with('&') => {
                let text = std::mem::take(&mut self.tag);
                "<".chars().chain(text["&lt;".len()..].chars()).for_each(|c| self.literal(c, out));
                Step::More
            }
            Scan::Tag(tag) if tag.closing => {
                let bytes = self.tag.len();
                self.tag.clear();
                match tag.kind {
                    Kind::Invoke => self.end_json(tools, out).map_or(Step::Broken(bytes), |()| Step::Called(0)),
                    _ => {
                        self.close(out);
                        Step::More
                    }
                }
            }
            Scan::Tag(_) => self.nest(out),
        }
    }

    /// What a beginning of a tag is inside a value: only the tag that closes the value, that tag with its `<` written as
    /// `&lt;`, and a parameter at the very beginning mean anything.
    fn tag_in_value(&self, nests: bool) -> Scan {
        let Some(frame) = self.frames.last() else { return Scan::No };
        let closes = if frame.form == Form::Json { Kind::Invoke } else { Kind::Parameter };
        let text = match self.tag.strip_prefix("&lt;") {
            Some(rest) => &format!("<{rest}"),
            None if "&lt;".starts_with(&self.tag) => return Scan::More,
            None => &self.tag,
        };
        let closing = "</".starts_with(text) || text.starts_with("</");
        if !closing && (!nests || self.tag.starts_with('&')) {
            return Scan::No;
        }
        match tag::scan(text) {
            Scan::Tag(tag) if tag.closing && tag.kind == closes && (tag.marked || !frame.marked) => Scan::Tag(tag),
            Scan::Tag(tag) if !tag.closing && nests && tag.kind == Kind::Parameter => Scan::Tag(tag),
            Scan::More => Scan::More,
            _ => Scan::No,
        }
    }

    /// The value consists of parameters: an object, the first of whose members has just begun.
    fn nest(&mut self, out: &mut Vec<Event>) -> Step {
        if let Some(frame) = self.frames.last_mut() {
            frame.form = Form::Object;
            frame.text.clear();
        }
        let Scan::Tag(tag) = tag::scan(&self.tag) else { return Step::Broken(0) };
        let step = self.parameter(&tag, &Tools::default(), out);
        self.tag.clear();
        step
    }

    /// A character of a value.
    fn literal(&mut self, c: char, out: &mut Vec<Event>) {
        let Some(frame) = self.frames.last_mut() else { return };
        match frame.form {
            Form::Blank if c.is_ascii_whitespace() => frame.text.push(c),
            Form::Blank => {
                frame.form = Form::Text;
                let mut text = String::from("\"");
                frame.text.chars().chain([c]).for_each(|c| json::escape(c, &mut text));
                self.pass_on(&text, out);
            }
            Form::Text => {
                let mut text = String::new();
                json::escape(c, &mut text);
                self.pass_on(&text, out);
            }
            Form::Json | Form::Whole => frame.text.push(c),
            Form::Object | Form::Spare => {}
        }
    }

    /// The innermost value is complete, or all arguments are.
    fn close(&mut self, out: &mut Vec<Event>) {
        let Some(frame) = self.frames.pop() else { return };
        match frame.form {
            Form::Object => self.pass_on(if frame.names.is_empty() { "{}" } else { "}" }, out),
            Form::Blank => self.pass_on(&json::string(&frame.text), out),
            Form::Text => self.pass_on("\"", out),
            Form::Whole => {
                let text = if frame.marked { frame.text } else { tag::unescape(&frame.text) };
                self.pass_on(&frame.types.repaired(frame.string, &text), out);
            }
            Form::Json | Form::Spare => {}
        }
    }

    /// The arguments were JSON.
    fn end_json(&mut self, tools: &Tools, out: &mut Vec<Event>) -> Option<()> {
        let (frame, call) = (self.frames.last()?, self.call.as_ref()?);
        let text = tools.repaired(&call.name, &frame.text)?;
        self.frames.pop();
        self.pass_on(&text, out);
        out.push(Event::Called(self.call.take()?));
        self.calls += 1;
        Some(())
    }

    /// More of the arguments.
    fn pass_on(&mut self, json: &str, out: &mut Vec<Event>) {
        let Some(call) = &mut self.call else { return };
        call.arguments.push_str(json);
        match out.last_mut() {
            Some(Event::Arguments(part)) => part.push_str(json),
            _ => out.push(Event::Arguments(json.to_owned())),
        }
    }
}
