//! An answer while it is written: tokens of the engine become what its client is told.

use ds4_chat::{End as ComesTo, Event as Piece, ToolCall};
use ds4_dialog::{Answer, Place};
use ds4_engine::{Event, Finish as EngineFinish, Observed, Token};
use tokio::sync::mpsc::UnboundedSender;

use crate::Error;
use crate::calls::CallIds;
use crate::log::Log;
use crate::progress::{End, Finish, Progress, Scored};
use crate::record::Record;
use crate::server::Server;
use crate::stats::Watch;

/// What has come of a request so far.
pub(crate) struct Writing<'a> {
    server: &'a Server,
    watch: &'a Watch<'a>,
    record: &'a mut Record,
    answer: Answer<'a>,
    told: Told,
    started: bool,
}

/// How the engine's part ended.
enum Ended {
    Left,
    With(Finish),
}

impl<'a> Writing<'a> {
    pub(crate) fn new(
        server: &'a Server,
        watch: &'a Watch<'a>,
        record: &'a mut Record,
        answer: Answer<'a>,
        told: Told,
    ) -> Self {
        Self { server, watch, record, answer, told, started: false }
    }

    /// Takes all that the engine says of it, and remembers the turn; no end when its client has left.
    pub(crate) fn all(mut self, events: impl IntoIterator<Item = Event>, place: Place) -> Result<Option<End>, Error> {
        let mut ended = None;
        for event in events {
            ended = self.event(event)?;
            if ended.is_some() {
                break; // dropping the events cancels the rest
            }
        }
        match ended {
            Some(Ended::With(why)) => Ok(Some(self.end(why, place))),
            Some(Ended::Left) => Ok(None),
            None => Err(Error::Failed("the engine stopped without an answer".into())),
        }
    }

    /// Whether this ends it.
    fn event(&mut self, event: Event) -> Result<Option<Ended>, Error> {
        match event {
            Event::Prefill { done, total } => self.read(done, total),
            Event::Token(token) => return Ok(self.token(token).map(Ended::With)),
            Event::Finished(EngineFinish::Cancelled, _) => return Ok(Some(Ended::Left)),
            Event::Finished(finish, usage) => {
                self.server.trace.took(&self.record.id, &usage);
                self.record.took(&usage);
                let why = if finish == EngineFinish::Stop { Finish::Stop } else { Finish::Length };
                return Ok(Some(Ended::With(why)));
            }
            Event::Failed(message) => return Err(Error::Failed(message)),
            Event::Queued { ahead } => {
                self.watch.waits();
                self.told.tell(Progress::Queued { ahead });
            }
            Event::Scored { .. } | Event::Observed(_) => {}
        }
        Ok(None)
    }

    /// A part of the prompt has been read; of the first, all was in the cache.
    fn read(&mut self, done: usize, total: usize) {
        let first = !std::mem::replace(&mut self.started, true);
        self.watch.read(done, first);
        if first {
            self.record.starts(done);
            self.server.trace.started(&self.record.id, &self.record.counts);
            self.told.tell(Progress::Started(self.record.counts));
        }
        self.told.tell(Progress::Prefill { done, total });
    }

    /// Whether the answer ends here, by a stop string or after its calls.
    fn token(&mut self, token: Token) -> Option<Finish> {
        self.record.token(self.answer.thinks());
        self.watch.wrote(self.answer.thinks());
        if let Some(Observed::Top(drawn, most)) = token.observed.filter(|_| self.answer.writes_text()) {
            self.told.scored.push(Scored { drawn, most });
        }
        self.told.pieces(self.answer.push(token.id));
        match self.answer.is_done() {
            true => Some(Finish::Calls),
            false => self.answer.stopped().map(|stop| Finish::StopString(stop.to_owned())),
        }
    }

    fn end(mut self, why: Finish, place: Place) -> End {
        let (pieces, mut turn, comes_to) = self.answer.finish();
        self.told.pieces(pieces);
        turn.given.tool_calls = self.told.calls;
        self.server.remember(place, &turn);
        let why = finish(&self.server.ledger.log, &self.record.id, why, comes_to);
        let end = End { why, counts: self.record.counts, timings: self.record.timings() };
        self.server.trace.ended(&self.record.id, &end, &turn.given);
        end
    }
}

/// Why an answer has ended that comes to text, to calls, or to neither.
fn finish(log: &Log, id: &str, why: Finish, comes_to: ComesTo) -> Finish {
    match comes_to {
        ComesTo::Text => why,
        ComesTo::Calls => Finish::Calls,
        ComesTo::Unterminated => {
            log.note(id, "unterminated tool call");
            Finish::Unterminated { by_length: why == Finish::Length }
        }
        ComesTo::Unparsable => {
            log.note(id, "a tool call that cannot be read is given as text");
            why
        }
    }
}

/// What the client is told.
pub(crate) struct Told {
    news: UnboundedSender<Progress>,
    ids: CallIds,
    /// Of the call that has begun.
    id: String,
    /// Calls that are complete.
    calls: Vec<ToolCall>,
    /// Tokens of which nobody has read the text yet.
    scored: Vec<Scored>,
}

impl Told {
    pub(crate) fn new(news: UnboundedSender<Progress>, ids: CallIds) -> Self {
        Self { news, ids, id: String::new(), calls: Vec::new(), scored: Vec::new() }
    }

    fn tell(&self, news: Progress) {
        let _ = self.news.send(news); // a client that has left has cancelled
    }

    /// Passes pieces on; calls get their names.
    fn pieces(&mut self, pieces: Vec<Piece>) {
        for mut piece in pieces {
            match &mut piece {
                Piece::Text(_) => {
                    let scored = std::mem::take(&mut self.scored);
                    scored.into_iter().for_each(|scored| self.tell(Progress::Scored(Box::new(scored))));
                }
                Piece::Call(call) => {
                    self.scored.clear(); // it was its tags
                    call.id = self.ids.next(&call.name);
                    self.id.clone_from(&call.id);
                }
                Piece::Called(call) => {
                    call.id.clone_from(&self.id);
                    self.calls.push(call.clone());
                }
                _ => {}
            }
            self.tell(Progress::Piece(piece));
        }
    }
}
