//! Answers as a whole.

use ds4_chat::{Event as Piece, ToolCall};

use crate::Error;
use crate::progress::{End, Progress, Scored};
use crate::queue::Ticket;

/// A whole answer.
pub(crate) struct Whole {
    pub(crate) reasoning: String,
    pub(crate) text: String,
    pub(crate) calls: Vec<ToolCall>,
    /// How probable the tokens of the text were, where that was asked for.
    pub(crate) scored: Vec<Scored>,
    pub(crate) end: End,
}

/// Waits for the answer. When the client leaves, this is dropped, and the request with it.
pub(crate) async fn whole(mut ticket: Ticket) -> Result<Whole, Error> {
    let (mut reasoning, mut text, mut calls, mut scored) = (String::new(), String::new(), Vec::new(), Vec::new());
    loop {
        match ticket.news().await {
            Progress::Queued { .. } | Progress::Started(_) | Progress::Prefill { .. } => {}
            Progress::Scored(token) => scored.push(*token),
            Progress::Piece(Piece::Reasoning(part)) => reasoning.push_str(&part),
            Progress::Piece(Piece::Text(part) | Piece::Broken(part)) => text.push_str(&part),
            Progress::Piece(Piece::Called(call)) => calls.push(call),
            Progress::Piece(Piece::Call(_) | Piece::Arguments(_)) => {}
            Progress::Ended(end) => return Ok(Whole { reasoning, text, calls, scored, end }),
            Progress::Failed(error) => return Err(error),
        }
    }
}
