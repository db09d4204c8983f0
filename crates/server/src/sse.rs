//! Answers as server-sent events: pieces as they come, signs of life while there are none.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use ds4_chat::Event as Piece;
use futures_util::StreamExt;
use futures_util::stream::{select_all, unfold};
use tokio::time::{Instant, timeout_at};

use crate::Error;
use crate::progress::{Counts, End, Progress, Scored};
use crate::queue::Ticket;

/// After so long without an event comes a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(3);

/// An API's way to say it; each gives one or more whole events, or nothing.
pub(crate) trait Events: Send + 'static {
    /// The stream begins; the request may still have to wait.
    fn opened(&mut self) -> String {
        String::new()
    }
    /// Nothing has come for a while; `doing` says why. A comment, which every client ignores, unless the clients of this
    /// API need an event for their timers to start anew.
    fn alive(&mut self, doing: &str) -> String {
        format!(": {doing}\n\n")
    }
    /// The answer begins.
    fn started(&mut self, counts: &Counts) -> String;
    /// How probable the next token is; most APIs do not say that.
    fn scored(&mut self, _: Scored) {}
    /// More of it.
    fn piece(&mut self, piece: Piece) -> String;
    /// It has ended.
    fn ended(&mut self, end: &End) -> String;
    /// It has failed; the stream ends here.
    fn failed(&mut self, error: &Error) -> String;
}

/// The response that streams an answer. When the client leaves, it is dropped, and the request with it.
pub(crate) fn stream(ticket: Ticket, events: impl Events) -> Response {
    response(told(ticket, events).map(|told| match told {
        Told::More(text) | Told::Ended(text, _) | Told::Failed(text) => text,
    }))
}

/// The response that streams several answers, each as it comes, and what is said after all of them: how they ended, or
/// why one of them failed. Clients stop listening at a failure, so the others end before it is told.
pub(crate) fn merged(
    parts: Vec<(Ticket, impl Events)>,
    end: impl FnOnce(&[End]) -> String + Send + 'static,
) -> Response {
    let all = select_all(parts.into_iter().map(|(ticket, events)| Box::pin(told(ticket, events))));
    response(unfold(Some((all, Vec::new(), None, end)), |state| async {
        let (mut all, mut ends, mut failure, end) = state?;
        let text = loop {
            match all.next().await {
                Some(Told::More(text)) => break text,
                Some(Told::Ended(text, how)) => {
                    ends.push(how);
                    break text;
                }
                Some(Told::Failed(text)) => drop(failure.get_or_insert(text)),
                None => return Some((failure.unwrap_or_else(|| end(&ends)), None)),
            }
        };
        Some((text, Some((all, ends, failure, end))))
    }))
}

fn response(texts: impl futures_util::Stream<Item = String> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(texts.map(Ok::<_, std::convert::Infallible>)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// What the request does while nothing is said.
#[derive(Clone, Copy)]
enum Phase {
    Queued,
    /// In the engine's own queue, for memory.
    Waiting {
        ahead: usize,
    },
    Prefill {
        done: usize,
        total: usize,
    },
    Decode,
}

/// What the client is told next; after an end or a failure comes nothing.
#[derive(Debug, PartialEq)]
enum Told {
    More(String),
    Ended(String, End),
    Failed(String),
}

/// All that the client is told of an answer.
fn told(ticket: Ticket, events: impl Events) -> impl futures_util::Stream<Item = Told> + Send + 'static {
    unfold(Some(Stream::new(ticket, events)), |stream| async {
        let mut stream = stream?;
        let told = stream.next().await;
        let more = matches!(told, Told::More(_));
        Some((told, more.then_some(stream)))
    })
}

struct Stream<E> {
    ticket: Ticket,
    events: E,
    phase: Phase,
    /// Whether nothing was said yet.
    new: bool,
    /// When the next sign of life is due.
    due: Instant,
}

impl<E: Events> Stream<E> {
    fn new(ticket: Ticket, events: E) -> Self {
        Self { ticket, events, phase: Phase::Queued, new: true, due: Instant::now() }
    }

    async fn next(&mut self) -> Told {
        loop {
            if std::mem::take(&mut self.new) {
                let text = self.events.opened();
                if !text.is_empty() {
                    self.due = Instant::now() + KEEPALIVE;
                    return Told::More(text);
                }
            }
            let text = match timeout_at(self.due, self.ticket.news()).await {
                Err(_) => self.alive(),
                Ok(Progress::Started(counts)) => self.events.started(&counts),
                Ok(Progress::Prefill { done, total }) => {
                    let first = matches!(self.phase, Phase::Queued);
                    self.phase = if done < total { Phase::Prefill { done, total } } else { Phase::Decode };
                    if first { self.alive() } else { continue }
                }
                Ok(Progress::Queued { ahead }) => {
                    self.phase = Phase::Waiting { ahead };
                    self.alive()
                }
                Ok(Progress::Scored(scored)) => {
                    self.events.scored(*scored);
                    continue;
                }
                Ok(Progress::Piece(piece)) => {
                    self.phase = Phase::Decode;
                    self.events.piece(piece)
                }
                Ok(Progress::Ended(end)) => return Told::Ended(self.events.ended(&end), end),
                Ok(Progress::Failed(error)) => return Told::Failed(self.events.failed(&error)),
            };
            if !text.is_empty() {
                self.due = Instant::now() + KEEPALIVE;
                return Told::More(text);
            }
        }
    }

    /// Says what goes on.
    fn alive(&mut self) -> String {
        let doing = match (self.phase, self.ticket.ahead()) {
            (Phase::Queued, Some(ahead)) | (Phase::Waiting { ahead }, _) => format!("queued, {ahead} before this"),
            (Phase::Queued, None) => "prefill".into(),
            (Phase::Prefill { done, total }, _) => format!("prefill {done}/{total}"),
            (Phase::Decode, _) => "decode".into(),
        };
        self.events.alive(&doing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Finish;
    use crate::queue::tests::{enter, queue, task};
    use crate::server::Label;
    use crate::{anthropic, openai, responses};
    use http_body_util::BodyExt;

    /// An API of few words.
    struct Terse;

    impl Events for Terse {
        fn started(&mut self, _: &Counts) -> String {
            "started".into()
        }

        fn piece(&mut self, piece: Piece) -> String {
            format!("{piece:?}")
        }

        fn ended(&mut self, _: &End) -> String {
            "ended".into()
        }

        fn failed(&mut self, error: &Error) -> String {
            error.to_string()
        }
    }

    fn stop() -> End {
        End { why: Finish::Stop, counts: Counts::default(), timings: Default::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_every_few_seconds_whatever_goes_on() {
        // H069
        let queue = queue(1, 9);
        let _first = enter(&queue, task("first")).unwrap();
        let ticket = enter(&queue, task("second")).unwrap();
        let mut stream = Stream::new(ticket, Terse);
        let start = Instant::now();
        let mut next = async || {
            let told = stream.next().await;
            (told, start.elapsed().as_secs())
        };
        let more = |text: &str| Told::More(text.into());
        assert_eq!(next().await, (more(": queued, 1 before this\n\n"), 0));
        assert_eq!(next().await, (more(": queued, 1 before this\n\n"), 3));
        drop(queue.next());
        assert_eq!(next().await, (more(": queued, 0 before this\n\n"), 6));
        let job = queue.next().unwrap();
        job.news.send(Progress::Started(Counts::default())).unwrap();
        job.news.send(Progress::Prefill { done: 0, total: 900 }).unwrap();
        assert_eq!(next().await, (more("started"), 6));
        assert_eq!(next().await, (more(": prefill 0/900\n\n"), 6));
        job.news.send(Progress::Prefill { done: 256, total: 900 }).unwrap();
        assert_eq!(next().await, (more(": prefill 256/900\n\n"), 9));
        job.news.send(Progress::Prefill { done: 900, total: 900 }).unwrap();
        assert_eq!(next().await, (more(": decode\n\n"), 12));
        job.news.send(Progress::Piece(Piece::Text("a".into()))).unwrap();
        assert_eq!(next().await, (more("Text(\"a\")"), 12));
        job.news.send(Progress::Ended(stop())).unwrap();
        assert_eq!(next().await, (Told::Ended("ended".into(), stop()), 12));
    }

    #[test]
    fn every_api_has_a_sign_of_life_that_its_clients_understand() {
        // H069: for chat clients an event must be a chunk, for Codex only an event counts.
        let label = Label { id: "resp_1".into(), model: "m".into(), created: 0 };
        let mut chat = openai::chunks(label.clone());
        assert_eq!(chat.alive("prefill 1/2"), ": prefill 1/2\n\n");
        let mut messages = anthropic::blocks(label.clone());
        assert_eq!(messages.alive("prefill 1/2"), "event: ping\ndata: {\"type\":\"ping\"}\n\n");
        let mut responses = responses::items(label);
        assert!(responses.opened().starts_with("event: response.created\ndata: "), "before anything else");
        assert_eq!(
            responses.alive("prefill 1/2"),
            "event: keepalive\ndata: {\"type\":\"keepalive\",\"sequence_number\":0}\n\n"
        );
    }

    #[tokio::test]
    async fn a_failure_ends_the_stream_with_its_reason() {
        // H070
        let queue = queue(1, 9);
        let ticket = enter(&queue, task("a")).unwrap();
        let mut stream = Stream::new(ticket, Terse);
        queue.next().unwrap().news.send(Progress::Failed(Error::Failed("broken".into()))).unwrap();
        assert_eq!(stream.next().await, Told::Failed("broken".into()));
        // A worker that is gone is a failure too.
        let ticket = enter(&queue, task("a")).unwrap();
        drop(queue.next());
        let mut stream = Stream::new(ticket, Terse);
        assert_eq!(stream.next().await, Told::Failed("the engine stopped without an answer".into()));
    }

    #[tokio::test]
    async fn a_failure_of_one_of_several_answers_is_told_when_the_others_have_ended() {
        // H070
        for (first, last) in
            [(Progress::Failed(Error::Failed("broken".into())), "broken"), (Progress::Ended(stop()), "both")]
        {
            let fails = matches!(first, Progress::Failed(_));
            let queue = queue(2, 9);
            let parts = ["a", "b"].map(|name| (enter(&queue, task(name)).unwrap(), Terse));
            let response = merged(parts.into(), |ends| if ends.len() == 2 { "both".into() } else { String::new() });
            let jobs = [queue.next().unwrap(), queue.next().unwrap()];
            jobs[0].news.send(first).unwrap();
            jobs[1].news.send(Progress::Piece(Piece::Text("a".into()))).unwrap();
            jobs[1].news.send(Progress::Ended(stop())).unwrap();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8(bytes.into()).unwrap();
            assert_eq!(text.matches("ended").count(), if fails { 1 } else { 2 }, "{text}");
            assert!(text.contains("Text(\"a\")ended") && text.ends_with(last), "{text}");
        }
    }
}
