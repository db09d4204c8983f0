//! What a model may write: tool calls and JSON that fit their schemas, and reasoning that ends. Knows texts, tokens and
//! schemas; computes nothing.
//!
//! A [`Guide`](ds4_engine::Guide) is asked before each token is drawn. One file per subject:
//!
//! - `rules.rs`: what a request demands, with the tools on offer
//! - `tool.rs`: what the parameters of a tool may be, from its schema
//! - `vocabulary.rs`: the tokens as bytes
//! - `grammars.rs`: grammars over them, compiled when a request comes, not while its answer is written
//! - `answer.rs`: an answer as it is written: reasoning, text, calls, JSON
//! - `calls.rs`: a block of calls, step by step
//! - `literal.rs`: one of several fixed texts
//! - `value.rs`: a value that a grammar describes
//!
//! Invariants: at every point some token may be drawn, and a text that follows the rules can be completed; what cannot be
//! understood of a schema restricts nothing; nothing here panics on any schema or token.

mod answer;
mod calls;
mod grammars;
mod literal;
mod rules;
mod tool;
mod value;
mod vocabulary;

pub use answer::AnswerGuide;
pub use rules::{Choice, Demands, Error, Format, Grammar, Rules};
pub use vocabulary::Vocabulary;
