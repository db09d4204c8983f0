//! Answers as a whole.

use ds4_chat::{Event as Piece, ToolCall};

use crate::Error;
use crate::progress::{End, Progress};
use crate::queue::Ticket;

/// A whole answer.
pub(crate) struct Whole {
    pub(crate) reasoning: String,
    pub(crate) text: String,
    pub(crate) calls: Vec<ToolCall>,
    pub(crate) end: End,
}

/// Waits for the answer. When the client leaves, this is dropped, and the request with it.
pub(crate) async fn whole(mut ticket: Ticket) -> Result<Whole, Error> {
    let (mut reasoning, mut text, mut calls) = (String::new(), String::new(), Vec::new());
    loop {
        match ticket.news().await {
            Progress::Queued { .. } | Progress::Started(_) | Progress::Prefill { .. } => {}
            Progress::Piece(Piece::Reasoning(part)) => reasoning.push_str(&part),
            Progress::Piece(Piece::Text(part) | Piece::Broken(part)) => text.push_str(&part),
            Progress::Piece(Piece::Called(call)) => calls.push(call),
            Progress::Piece(Piece::Call(_) | Piece::Arguments(_)) => {}
            Progress::Ended(end) => return Ok(Whole { reasoning, text, calls, end }),
            Progress::Failed(error) => return Err(error),
        }
    }
}
