//! A block of calls, step by step, in the words that the model was trained on.

use std::sync::Arc;

use crate::literal::Literal;
use crate::rules::Rules;
use crate::tool::{Form, Tool};
use crate::value::{CLOSING, Value};
use crate::vocabulary::{Vocabulary, set};

/// What opens a block.
pub(crate) const OPENING: &str = "<｜DSML｜tool_calls>\n";

/// A block of calls under way.
#[derive(Debug)]
pub(crate) struct Calls {
    rules: Arc<Rules>,
    step: Step,
    /// The tool that is being called, and which of its parameters are there.
    tool: usize,
    used: Vec<bool>,
    /// Calls that are complete.
    complete: usize,
}

#[derive(Debug)]
enum Step {
    /// Tags and names.
    Literal(Literal<Next>),
    /// A value that may be anything, and its last bytes.
    Any(Vec<u8>),
    /// A value with a grammar.
    Value(Box<Value>),
    /// Nothing is known of the rest.
    Free,
}

/// What follows a tag.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// A call, or the end of the block.
    Call,
    /// The parameters of a tool.
    Parameters(usize),
    /// A value of a parameter, as a text or as JSON.
    Value { parameter: usize, text: bool },
    /// Another parameter, or the end of the call.
    Parameter,
    /// The end of the call.
    Called,
    /// The end of the block.
    End,
}

/// What stands in a value that may be anything, once its end has begun.
const CLOSES: &str = "</｜DSML｜";

impl Calls {
    /// A block that is to be opened, with `before` in front.
    pub(crate) fn new(rules: Arc<Rules>, before: &str) -> Self {
        let opening = Literal::new(vec![(format!("{before}{OPENING}"), Next::Call)]);
        Self { rules, step: Step::Literal(opening), tool: 0, used: Vec::new(), complete: 0 }
    }

    /// A block that has been opened.
    pub(crate) fn opened(rules: Arc<Rules>) -> Self {
        let mut calls = Self::new(rules, "");
        calls.step = calls.call();
        calls
    }

    /// The block has begun with this text already.
    pub(crate) fn begun(&mut self, text: &str) {
        if let Step::Literal(opening) = &mut self.step {
            let next = opening.push(text.as_bytes());
            self.go_on(next);
        }
    }

    /// Whether the most probable token is taken.
    pub(crate) fn is_structure(&self) -> bool {
        match &self.step {
            Step::Literal(_) => true,
            Step::Value(value) => value.is_structure(),
            Step::Any(_) | Step::Free => false,
        }
    }

    /// The tokens that may follow; false if all may.
    pub(crate) fn allow(&mut self, vocabulary: &Vocabulary, bits: &mut Vec<u32>) -> bool {
        if let Step::Value(value) = &mut self.step
            && value.allow(vocabulary, bits).is_err()
        {
            self.step = Step::Free;
        }
        match &self.step {
            Step::Literal(literal) => {
                bits.clear();
                literal.allow(vocabulary, bits);
            }
            Step::Any(_) => {
                bits.clear();
                bits.extend_from_slice(vocabulary.ordinary());
                if let Some(dsml) = vocabulary.dsml() {
                    set(bits, dsml);
                }
            }
            Step::Value(_) => {}
            Step::Free => return false,
        }
        bits.iter().any(|word| *word != 0)
    }

    /// Takes a token.
    pub(crate) fn push(&mut self, vocabulary: &Vocabulary, token: u32) {
        let bytes = vocabulary.bytes(token);
        let next = match &mut self.step {
            Step::Literal(literal) => literal.push(bytes),
            Step::Any(tail) => {
                tail.extend_from_slice(bytes);
                tail.drain(..tail.len().saturating_sub(CLOSES.len()));
                if tail == CLOSES.as_bytes() {
                    let rest = CLOSING[CLOSES.len()..].to_owned();
                    self.step = Step::Literal(Literal::new(vec![(rest, Next::Parameter)]));
                }
                Ok(None)
            }
            Step::Value(value) => value.push(token, bytes).map(|closed| closed.then_some(Next::Parameter)),
            Step::Free => Ok(None),
        };
        self.go_on(next);
    }

    fn go_on(&mut self, next: Result<Option<Next>, ()>) {
        match next {
            Ok(None) => {}
            Ok(Some(next)) => self.step = self.after(next),
            Err(()) => self.step = Step::Free,
        }
    }

    fn after(&mut self, next: Next) -> Step {
        match next {
            Next::Call => self.call(),
            Next::Parameters(tool) => {
                let parameters = &self.rules.tools[tool].parameters;
                (self.tool, self.used) = (tool, vec![false; parameters.as_ref().map_or(0, Vec::len)]);
                if parameters.is_some() { self.parameter(true) } else { Step::Free }
            }
            Next::Parameter => self.parameter(false),
            Next::Value { parameter, text } => {
                self.used[parameter] = true;
                self.value(parameter, text)
            }
            Next::Called => {
                self.complete += 1;
                self.call()
            }
            Next::End => Step::Free,
        }
    }

    /// A call of any tool, or the end of the block.
    fn call(&self) -> Step {
        let mut options = Vec::new();
        if self.complete > 0 {
            options.push(("</｜DSML｜tool_calls>".to_owned(), Next::End));
        }
        if self.complete == 0 || self.rules.parallel {
            let invoke =
                |(i, tool): (usize, &Tool)| (format!("<｜DSML｜invoke name=\"{}\">\n", tool.name), Next::Parameters(i));
            options.extend(self.rules.tools.iter().enumerate().map(invoke));
        }
        Step::Literal(Literal::new(options))
    }

    /// A parameter that is not there yet, or the end of the call if none is missing that must be.
    fn parameter(&self, first: bool) -> Step {
        let parameters = self.rules.tools[self.tool].parameters.as_deref().unwrap_or_default();
        let mut options = Vec::new();
        let missing = || parameters.iter().zip(&self.used).enumerate().filter(|(_, (_, used))| !**used);
        if missing().all(|(_, (parameter, _))| !parameter.required) {
            // A call without parameters keeps the empty line where they would be.
            let line = if first { "\n" } else { "" };
            options.push((format!("{line}</｜DSML｜invoke>\n"), Next::Called));
        }
        for (i, (parameter, _)) in missing() {
            let name = &parameter.name;
            let tag = |string: bool| format!("<｜DSML｜parameter name=\"{name}\" string=\"{string}\">");
            for (form, text) in [(&parameter.text, true), (&parameter.json, false)] {
                options.extend(form.is_some().then(|| (tag(text), Next::Value { parameter: i, text })));
            }
        }
        Step::Literal(Literal::new(options))
    }

    fn value(&self, parameter: usize, text: bool) -> Step {
        let parameters = self.rules.tools[self.tool].parameters.as_deref().unwrap_or_default();
        let form = parameters.get(parameter).and_then(|p| if text { p.text.as_ref() } else { p.json.as_ref() });
        match form {
            Some(Form::Grammar(grammar)) => Step::Value(Box::new(Value::new(grammar.matcher(), !text))),
            _ => Step::Any(Vec::new()),
        }
    }
}
