//! Answers as a whole.

use ds4_chat::Event as Piece;

use crate::Error;
use crate::progress::{End, Progress};
use crate::queue::Ticket;

/// A whole answer.
pub(crate) struct Whole {
    pub(crate) reasoning: String,
    pub(crate) text: String,
    pub(crate) end: End,
}

/// Waits for the answer. When the client leaves, this is dropped, and the request with it.
pub(crate) async fn whole(mut ticket: Ticket) -> Result<Whole, Error> {
    let (mut reasoning, mut text) = (String::new(), String::new());
    loop {
        match ticket.news().await {
            Progress::Queued { .. } | Progress::Started(_) | Progress::Prefill { .. } => {}
            Progress::Piece(Piece::Reasoning(part)) => reasoning.push_str(&part),
            Progress::Piece(Piece::Text(part)) => text.push_str(&part),
            Progress::Ended(end) => return Ok(Whole { reasoning, text, end }),
            Progress::Failed(error) => return Err(error),
        }
    }
}
