//! Grammars over the tokens of a model, compiled once: that takes a millisecond and more, a copy of a compiled one takes
//! 10 µs. Clients send the same tools with every request, so what was compiled stays for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};

/// Grammars that stay, and bytes of their texts; compiled they take some fifty times as much.
const MAX_GRAMMARS: usize = 1024;
const MAX_BYTES: usize = 1 << 20;

/// A compiled grammar.
#[derive(Clone)]
pub(crate) struct Grammar(Arc<Matcher>);

impl std::fmt::Debug for Grammar {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Grammar")
    }
}

impl Grammar {
    /// What follows a text from its beginning.
    pub(crate) fn matcher(&self) -> Matcher {
        self.0.deep_clone()
    }
}

/// Compiles grammars.
pub(crate) struct Grammars {
    parsers: ParserFactory,
    kept: Mutex<Kept>,
}

/// What was compiled, or why it could not be, by its text.
#[derive(Default)]
struct Kept {
    grammars: HashMap<String, Result<Grammar, String>>,
    bytes: usize,
}

impl Grammars {
    pub(crate) fn new(parsers: ParserFactory) -> Self {
        Self { parsers, kept: Mutex::default() }
    }

    /// The grammar that a text in Lark's syntax describes, or why there is none.
    pub(crate) fn get(&self, text: &str) -> Result<Grammar, String> {
        let kept = || self.kept.lock().expect("nothing panics under this lock");
        if let Some(grammar) = kept().grammars.get(text) {
            return grammar.clone();
        }
        let grammar = self.compile(text); // others need not wait for it
        kept().put(text, grammar.clone());
        grammar
    }

    fn compile(&self, text: &str) -> Result<Grammar, String> {
        let parsed = TopLevelGrammar::from_lark_or_grammar_list(text);
        let matcher = Matcher::new(parsed.and_then(|grammar| self.parsers.create_parser(grammar)));
        matcher.get_error().map_or(Ok(Grammar(Arc::new(matcher))), Err)
    }
}

impl Kept {
    fn put(&mut self, text: &str, grammar: Result<Grammar, String>) {
        if text.len() > MAX_BYTES {
            return;
        }
        if self.grammars.len() >= MAX_GRAMMARS || self.bytes + text.len() > MAX_BYTES {
            *self = Self::default(); // whoever needs them compiles them again
        }
        if self.grammars.insert(text.to_owned(), grammar).is_none() {
            self.bytes += text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vocabulary;
    use ds4_engine::Model;

    #[test]
    fn a_grammar_is_compiled_once_and_its_copies_go_their_own_ways() {
        let tokenizer = &Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap().tokenizer;
        let vocabulary = Vocabulary::new(tokenizer);
        let grammar = vocabulary.grammar("start: \"7\" \"8\"\n").unwrap();
        assert!(Arc::ptr_eq(&grammar.0, &vocabulary.grammar("start: \"7\" \"8\"\n").unwrap().0));
        let token = |text| tokenizer.encode(text)[0];
        let (mut one, mut other) = (grammar.matcher(), grammar.matcher());
        one.consume_token(token("7")).unwrap();
        assert!(other.consume_token(token("8")).is_err());
        one.consume_token(token("8")).unwrap();
        assert!(one.is_accepting().unwrap());
        let why = || vocabulary.grammar("start: nothing\n").unwrap_err();
        assert_eq!(why(), why());
    }

    #[test]
    fn what_is_kept_stays_within_the_limits() {
        let mut kept = Kept::default();
        let fault = || Err(String::new());
        (0..MAX_GRAMMARS).for_each(|i| kept.put(&i.to_string(), fault()));
        kept.put("0", fault());
        assert_eq!((kept.grammars.len(), kept.bytes), (1, 1), "the last one made room");
        kept.put("0", fault());
        assert_eq!((kept.grammars.len(), kept.bytes), (1, 1), "the same one is there once");
        kept.put(&"x".repeat(MAX_BYTES), fault());
        assert_eq!((kept.grammars.len(), kept.bytes), (1, MAX_BYTES));
        kept.put(&"x".repeat(MAX_BYTES + 1), fault());
        assert_eq!((kept.grammars.len(), kept.bytes), (1, MAX_BYTES), "what is too large moves nothing");
    }
}
