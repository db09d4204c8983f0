//! What happens to a request on its way to the client.

use ds4_chat::Event;
use ds4_engine::TokenScore;

use crate::Error;
use crate::timings::Timings;

/// News of a request, in order: it starts, its prompt is read, pieces of the answer, one end.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Its turn has come, but memory is short: the engine has so many requests before it.
    Queued { ahead: usize },
    /// Its turn has come.
    Started(Counts),
    /// So many of the prompt's tokens are read.
    Prefill { done: usize, total: usize },
    /// How probable the next token of the answer was, where that was asked for.
    Scored(Box<Scored>),
    /// More of the reasoning or the answer.
    Piece(Event),
    /// It has ended.
    Ended(End),
    /// It has failed.
    Failed(Error),
}

/// How probable a token was, and which ones were the most probable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) drawn: TokenScore,
    pub(crate) most: Vec<TokenScore>,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// Tokens of the prompt.
    pub(crate) prompt: usize,
    /// Of these, tokens that needed no computing.
    pub(crate) cached: usize,
    /// Tokens generated, reasoning included.
    pub(crate) generated: usize,
    /// Of these, tokens of the reasoning.
    pub(crate) reasoning: usize,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) why: Finish,
    pub(crate) counts: Counts,
    pub(crate) timings: Timings,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Finish {
    /// The model ended it.
    Stop,
    /// One of the client's stop strings came.
    StopString(String),
    /// It is as long as it may be.
    Length,
    /// It calls tools.
    Calls,
    /// A call was begun and not ended, perhaps because the answer is as long as it may be.
    Unterminated { by_length: bool },
}
