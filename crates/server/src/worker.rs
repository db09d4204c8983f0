//! The threads that take requests from the queue and run them on the engine, one for each that can run at once.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ds4_chat::{End as ComesTo, Event as Piece, ToolCall};
use ds4_dialog::Answer;
use ds4_engine::{Event, Finish as EngineFinish, Guide, Observe, Observed, Request};
use tokio::sync::mpsc::UnboundedSender;

use crate::Error;
use crate::calls::CallIds;
use crate::log::Log;
use crate::progress::{End, Finish, Progress, Scored};
use crate::queue::{Job, Task};
use crate::record::Record;
use crate::server::Server;
use crate::stats::{Outcome, Watch};

/// Works until the queue is closed. Should that become impossible, health says so, and every request hears it.
pub(crate) fn work(server: &Server) {
    std::thread::scope(|scope| {
        (0..server.queue.load().places).for_each(|_| drop(scope.spawn(|| work_one(server))));
    });
}

fn work_one(server: &Server) {
    if catch_unwind(AssertUnwindSafe(|| run_all(server))).is_err() {
        server.fail("internal error; stderr says where".into());
    }
    refuse_all(server);
}

/// Tells every request that comes why it cannot run.
fn refuse_all(server: &Server) {
    while let Some(job) = server.queue.next() {
        let why = server.failure().unwrap_or_default().into();
        let _ = job.news.send(Progress::Failed(Error::Failed(why))); // it may have left
    }
}

/// Runs requests until the queue is closed or the engine cannot go on.
fn run_all(server: &Server) {
    while server.failure().is_none() {
        let Some(mut job) = server.queue.next() else { return };
        let (news, place) = (job.news.clone(), job.place.take());
        let watch = server.stats.begin(job.since, job.task.prompt.tokens.len());
        let mut record = Record::new(&job);
        let result = run(server, job, &watch, &mut record);
        let outcome = match &result {
            Ok(Some(end)) => Outcome::from(&end.why),
            Ok(None) => Outcome::Left,
            Err(_) => Outcome::Failed,
        };
        watch.ended(outcome);
        server.ended(&record, outcome);
        drop(place);
        if let Err(why) = server.engine.health() {
            server.fail(why);
        }
        // A client that has left hears nothing.
        let _ = match result {
            Ok(Some(end)) => news.send(Progress::Ended(end)),
            Ok(None) => Ok(()),
            Err(error) => news.send(Progress::Failed(error)),
        };
    }
}

/// Runs a request and reports all but its end; no end when its client has left.
fn run(server: &Server, job: Job, watch: &Watch<'_>, record: &mut Record) -> Result<Option<End>, Error> {
    if job.cancel.wanted() {
        return Ok(None);
    }
    let Job { task, calls, news, cancel, .. } = job;
    let guide = server.guide(&task).map(|guide| Box::new(guide) as Box<dyn Guide>);
    let Task { id, prompt, sampling, bias, steering, logprobs, max_tokens, stop, .. } = task;
    let tokenizer = &server.model.tokenizer;
    let mut answer = Answer::new(tokenizer, prompt.thinking, prompt.tools, stop);
    let mut told = Told { news, ids: calls, id: String::new(), calls: Vec::new(), scored: Vec::new() };
    let (tokens, place) = (prompt.tokens, prompt.place);
    let observe = logprobs.map_or(Observe::Nothing, Observe::Top);
    let greedy = Request::greedy(tokens, max_tokens, tokenizer.eos());
    let request = Request { sampling, bias, guide, steering, observe, ..greedy };
    let (events, flag) = server.engine.submit(request)?;
    cancel.reaches(flag);
    let mut started = false;
    let mut why = None;
    for event in events {
        match event {
            Event::Prefill { done, total } => {
                let first = !std::mem::replace(&mut started, true);
                watch.read(done, first);
                if first {
                    record.starts(done);
                    server.trace.started(&id, &record.counts);
                    told.tell(Progress::Started(record.counts));
                }
                told.tell(Progress::Prefill { done, total });
            }
            Event::Token(token) => {
                record.token(answer.thinks());
                watch.wrote(answer.thinks());
                if let Some(Observed::Top(drawn, most)) = token.observed.filter(|_| answer.writes_text()) {
                    told.scored.push(Scored { drawn, most });
                }
                told.pieces(answer.push(token.id));
                why = answer.stopped().map(|stop| Finish::StopString(stop.to_owned()));
                if answer.is_done() {
                    why = Some(Finish::Calls);
                }
                if why.is_some() {
                    break; // dropping the events cancels the rest
                }
            }
            Event::Finished(EngineFinish::Cancelled, _) => return Ok(None),
            Event::Finished(finish, usage) => {
                server.trace.took(&id, &usage);
                record.took(&usage);
                why = Some(if finish == EngineFinish::Stop { Finish::Stop } else { Finish::Length });
            }
            Event::Failed(message) => return Err(Error::Failed(message)),
            Event::Queued { ahead } => {
                watch.waits();
                told.tell(Progress::Queued { ahead });
            }
            Event::Scored { .. } | Event::Observed(_) => {}
        }
    }
    let why = why.ok_or_else(|| Error::Failed("the engine stopped without an answer".into()))?;
    let (pieces, mut turn, comes_to) = answer.finish();
    told.pieces(pieces);
    turn.given.tool_calls = told.calls;
    server.remember(place, &turn);
    let end = End { why: finish(&server.log, &id, why, comes_to), counts: record.counts, timings: record.timings() };
    server.trace.ended(&id, &end, &turn.given);
    Ok(Some(end))
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
struct Told {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::queue::tests::{enter, task};
    use crate::trace::Trace;
    use ds4_engine::{Engine, Model, Options};
    use std::sync::Arc;

    #[test]
    fn an_engine_that_cannot_run_turns_health_red_and_tells_every_request() {
        let model = Arc::new(Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap());
        let context = 64;
        let options = Options { context, threads: 1, step: 8, ..Options::default() };
        let engine = Arc::new(Engine::start(Arc::clone(&model), options).unwrap());
        let config = Config::default();
        let server = Server::new(engine, model, &config, Trace::new(None).unwrap());
        let (well, health) = server.health();
        assert!(well && health["status"] == "ok" && server.ready().0);

        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut ticket = enter(&server.queue, task("a")).unwrap();
        server.fail("the device is gone".into());
        std::thread::scope(|scope| {
            scope.spawn(|| work(&server));
            let Progress::Failed(error) = runtime.block_on(ticket.news()) else { panic!("an answer") };
            assert!(error.to_string().contains("the device is gone"), "{error}");
            let (well, health) = server.health();
            assert!(!well && health["status"] == "failed" && health["error"] == "the device is gone");
            assert_eq!(server.ready(), (false, serde_json::json!({"status": "failed", "error": "the device is gone"})));
            server.queue.close();
        });
    }
}
