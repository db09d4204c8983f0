//! The tokens of a model as bytes, and grammars over them.

use std::sync::Arc;

use ds4_tokenizer::Tokenizer;
use llguidance::ParserFactory;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};

use crate::grammars::{Grammar, Grammars};

/// The one control token that calls are written with; all others never stand in what a guide allows.
pub(crate) const DSML: &str = "｜DSML｜";
/// The token that ends reasoning.
const END_THINK: &str = "</think>";

/// All that guides need of a model's tokens; made once, it takes some 0.4 s for 129,280 tokens.
pub struct Vocabulary {
    env: TokEnv,
    grammars: Grammars,
    /// All tokens but those that end an answer.
    not_end: Vec<u32>,
    /// All tokens that stand for text.
    ordinary: Vec<u32>,
    end: u32,
    end_think: Option<u32>,
    dsml: Option<u32>,
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Vocabulary({} tokens)", self.trie().vocab_size())
    }
}

impl Vocabulary {
    /// The tokens of `tokenizer`.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let dsml = tokenizer.id(DSML);
        // Control tokens begin with a byte that no text has.
        let word = |id: u32| {
            let marker: &[u8] = if tokenizer.is_added(id) && Some(id) != dsml { &[0xff] } else { &[] };
            [marker, tokenizer.token_bytes(id).unwrap_or_default()].concat()
        };
        let words: Vec<Vec<u8>> = (0..tokenizer.len() as u32).map(word).collect();
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, tokenizer.eos()), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = SlicedBiasComputer::general_slices();
        let parsers = ParserFactory::new(&env, InferenceCapabilities::default(), &slices);
        let mut parsers = parsers.expect("the slices are regular expressions");
        parsers.quiet();
        // Grammars are the clients', and are followed on the engine's thread.
        let limits = parsers.limits_mut();
        limits.verbose_errors = false;
        limits.max_lexer_states = 25_000; // some 50 MB
        limits.max_grammar_size = 100_000;
        let mut not_end = vec![u32::MAX; words.len().div_ceil(32)];
        let mut ordinary = vec![0; not_end.len()];
        clear(&mut not_end, tokenizer.eos());
        for (id, word) in (0..).zip(&words).filter(|(_, word)| !word.is_empty() && word[0] != 0xff) {
            debug_assert!(!word.is_empty());
            set(&mut ordinary, id);
        }
        if let Some(dsml) = dsml {
            clear(&mut ordinary, dsml);
        }
        let (end, end_think) = (tokenizer.eos(), tokenizer.id(END_THINK));
        Self { env, grammars: Grammars::new(parsers), not_end, ordinary, end, end_think, dsml }
    }

    /// The grammar that a text in Lark's syntax describes, or why there is none.
    pub(crate) fn grammar(&self, text: &str) -> Result<Grammar, String> {
        self.grammars.get(text)
    }

    pub(crate) fn trie(&self) -> &TokTrie {
        self.env.tok_trie()
    }

    /// The text of a token, as bytes.
    pub(crate) fn bytes(&self, token: u32) -> &[u8] {
        let bytes = if (token as usize) < self.trie().vocab_size() { self.trie().token(token) } else { &[] };
        bytes.strip_prefix(&[0xff]).unwrap_or(bytes)
    }

    /// The token that ends the answer.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    /// The token that ends reasoning.
    pub(crate) fn end_think(&self) -> Option<u32> {
        self.end_think
    }

    /// The control token of calls.
    pub(crate) fn dsml(&self) -> Option<u32> {
        self.dsml
    }

    /// All tokens but the end.
    pub(crate) fn not_end(&self) -> &[u32] {
        &self.not_end
    }

    /// All tokens that stand for text.
    pub(crate) fn ordinary(&self) -> &[u32] {
        &self.ordinary
    }

    /// The tokens whose text begins with `bytes`.
    pub(crate) fn beginning_with(&self, bytes: &[u8]) -> Vec<u32> {
        let trie = self.trie();
        let Some(node) = trie.child_at_bytes(trie.root(), bytes) else { return Vec::new() };
        let mut nodes = vec![node];
        let mut tokens = Vec::new();
        while let Some(node) = nodes.pop() {
            tokens.extend(node.token_id());
            nodes.extend(trie.node_children(node));
        }
        tokens
    }
}

/// Adds a token to a set.
pub(crate) fn set(bits: &mut Vec<u32>, token: u32) {
    let word = token as usize / 32;
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    bits[word] |= 1 << (token % 32);
}

/// Takes a token out of a set.
pub(crate) fn clear(bits: &mut [u32], token: u32) {
    if let Some(word) = bits.get_mut(token as usize / 32) {
        *word &= !(1 << (token % 32));
    }
}
