//! An answer as it is written: reasoning, then text, calls, or JSON.

use std::sync::Arc;

use ds4_chat::{Event, Reader, Tools};
use ds4_engine::{Guide, Rule};
use llguidance::Matcher;

use crate::calls::{Calls, OPENING};
use crate::literal::Literal;
use crate::rules::Rules;
use crate::vocabulary::{Vocabulary, clear, set};

/// Follows an answer and says what may come next.
#[derive(Debug)]
pub struct AnswerGuide {
    vocabulary: Arc<Vocabulary>,
    rules: Arc<Rules>,
    /// Tells reasoning, text and the beginning of calls apart.
    reader: Reader,
    /// Bytes that are no whole character yet.
    cut: Vec<u8>,
    part: Part,
    /// Tokens of reasoning so far.
    thought: usize,
    /// Whether the final text is steered, and whether it has begun.
    steer: bool,
    begun: bool,
    /// What may be drawn.
    bits: Vec<u32>,
}

#[derive(Debug)]
enum Part {
    /// Reasoning, or text of which nothing is demanded.
    Text,
    /// An answer with a grammar; it may be calls instead as long as these can still begin.
    Format(Box<Format>),
    Calls(Calls),
    /// Nothing more is demanded.
    Free,
}

struct Format {
    /// None once calls have begun.
    matcher: Option<Matcher>,
    calls: Option<Literal<()>>,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Format")
    }
}

/// What stands between a text and a block of calls.
const BEFORE_CALLS: &str = "\n\n";

impl AnswerGuide {
    /// The guide of an answer that may call `tools` and whose prompt ends inside the reasoning, or not (`thinking`).
    pub fn new(vocabulary: Arc<Vocabulary>, rules: Arc<Rules>, tools: Option<Tools>, thinking: bool) -> Self {
        let mut guide = Self {
            vocabulary,
            rules,
            reader: Reader::new(thinking, tools),
            cut: Vec::new(),
            part: Part::Text,
            thought: 0,
            steer: false,
            begun: false,
            bits: Vec::new(),
        };
        guide.part = guide.begin();
        guide
    }

    /// Lets the final text be steered: what is said after reasoning and outside of calls, from its first letter on.
    pub fn steer_final_text(mut self) -> Self {
        self.steer = true;
        self
    }

    /// What begins where the reader is now.
    fn begin(&self) -> Part {
        if self.reader.thinks() {
            return Part::Text;
        }
        if self.rules.must_call {
            return Part::Calls(Calls::new(Arc::clone(&self.rules), BEFORE_CALLS));
        }
        let Some(grammar) = &self.rules.format else { return Part::Text };
        let opening = || Literal::new(vec![(format!("{BEFORE_CALLS}{OPENING}"), ())]);
        let calls = (!self.rules.tools.is_empty()).then(opening);
        Part::Format(Box::new(Format { matcher: Some(grammar.matcher()), calls }))
    }

    /// Lets the reader see a token. True if reasoning has just ended.
    fn read(&mut self, token: u32) -> bool {
        let thought = self.reader.thinks();
        self.cut.extend_from_slice(self.vocabulary.bytes(token));
        let whole = match std::str::from_utf8(&self.cut) {
            Ok(text) => text.len(),
            Err(error) => error.error_len().map_or(error.valid_up_to(), |_| self.cut.len()),
        };
        let text = String::from_utf8_lossy(&self.cut[..whole]).into_owned();
        self.cut.drain(..whole);
        let events = self.reader.push(&text);
        self.begun |= events.iter().any(|event| matches!(event, Event::Text(part) if !part.trim().is_empty()));
        thought && !self.reader.thinks()
    }

    /// What follows a token of the reasoning, which may have `ended`, or of a text of which nothing is demanded.
    fn text(&mut self, ended: bool) -> Option<Part> {
        if ended {
            return Some(self.begin());
        }
        let opened = self.reader.opens_block().filter(|_| !self.rules.tools.is_empty())?;
        let mut calls = Calls::new(Arc::clone(&self.rules), "");
        calls.begun(opened);
        Some(Part::Calls(calls))
    }
}

impl Guide for AnswerGuide {
    fn rule(&mut self) -> Rule<'_> {
        let Self { vocabulary, rules, reader, part, thought, bits, .. } = self;
        let mut greedy = false;
        let restricted = match part {
            Part::Text if reader.thinks() => match vocabulary.end_think() {
                Some(end) if rules.thinking.is_some_and(|most| *thought >= most) => {
                    bits.clear();
                    set(bits, end);
                    true
                }
                _ if rules.must_call || rules.format.is_some() => {
                    bits.clear();
                    bits.extend_from_slice(vocabulary.not_end());
                    true
                }
                _ => false,
            },
            Part::Text | Part::Free => false,
            Part::Calls(calls) => {
                greedy = calls.is_structure();
                calls.allow(vocabulary, bits)
            }
            Part::Format(format) => format.allow(vocabulary, bits),
        };
        Rule { allowed: restricted.then_some(&bits[..]), greedy }
    }

    fn drawn(&mut self, token: u32) {
        let vocabulary = Arc::clone(&self.vocabulary);
        self.thought += usize::from(self.reader.thinks());
        let ended = self.read(token);
        let next = match &mut self.part {
            Part::Text => self.text(ended),
            Part::Calls(calls) => {
                calls.push(&vocabulary, token);
                None
            }
            Part::Format(format) => format.push(&vocabulary, token, &self.rules),
            Part::Free => None,
        };
        if let Some(next) = next {
            self.part = next;
        }
    }

    fn steers(&self) -> bool {
        self.steer && self.begun && self.reader.told_text()
    }
}

impl Format {
    /// The tokens that may follow; false if all may.
    fn allow(&mut self, vocabulary: &Vocabulary, bits: &mut Vec<u32>) -> bool {
        bits.clear();
        if let Some(Ok(mask)) = self.matcher.as_mut().map(Matcher::compute_mask_or_eos) {
            bits.extend_from_slice(mask.as_slice());
        }
        if let Some(calls) = &self.calls {
            if let Some(dsml) = vocabulary.dsml() {
                clear(bits, dsml); // a reader would take it for a call
            }
            calls.allow(vocabulary, bits);
        }
        bits.iter().any(|word| *word != 0)
    }

    fn push(&mut self, vocabulary: &Vocabulary, token: u32, rules: &Arc<Rules>) -> Option<Part> {
        let bytes = vocabulary.bytes(token);
        let fits = self.matcher.as_mut().is_some_and(|m| m.try_consume_tokens(&[token]).is_ok_and(|taken| taken == 1));
        match self.calls.as_mut().map(|calls| calls.push(bytes)) {
            Some(Ok(Some(()))) => return Some(Part::Calls(Calls::opened(Arc::clone(rules)))),
            Some(Err(())) => self.calls = None,
            // Empty lines may come before both.
            Some(Ok(None)) if !bytes.iter().all(u8::is_ascii_whitespace) => self.matcher = None,
            _ => {}
        }
        (!fits && self.calls.is_none() && token != vocabulary.end()).then_some(Part::Free)
    }
}
