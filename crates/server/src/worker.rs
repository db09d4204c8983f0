//! The threads that take requests from the queue and run them on the engine, one for each that can run at once.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ds4_dialog::Answer;
use ds4_engine::{Guide, Observe, Request};

use crate::Error;
use crate::progress::{End, Progress};
use crate::queue::{Job, Task};
use crate::record::Record;
use crate::server::Server;
use crate::stats::{Outcome, Watch};
use crate::writing::{Told, Writing};

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
        let watch = server.ledger.stats.begin(job.since, job.task.prompt.tokens.len());
        let mut record = Record::new(&job);
        let result = run(server, job, &watch, &mut record);
        let outcome = match &result {
            Ok(Some(end)) => Outcome::from(&end.why),
            Ok(None) => Outcome::Left,
            Err(_) => Outcome::Failed,
        };
        watch.ended(outcome);
        server.ledger.ended(&record, outcome);
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
    let Task { prompt, sampling, bias, steering, logprobs, max_tokens, stop, .. } = task;
    let tokenizer = &server.model.tokenizer;
    let answer = Answer::new(tokenizer, prompt.thinking, prompt.tools, stop);
    let observe = logprobs.map_or(Observe::Nothing, Observe::Top);
    let greedy = Request::greedy(prompt.tokens, max_tokens, tokenizer.eos());
    let (events, flag) = server.engine.submit(Request { sampling, bias, guide, steering, observe, ..greedy })?;
    cancel.reaches(flag);
    Writing::new(server, watch, record, answer, Told::new(news, calls)).all(events, prompt.place)
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
