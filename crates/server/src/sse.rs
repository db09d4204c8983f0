//! Answers as server-sent events: pieces as they come, signs of life while there are none.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use ds4_chat::Event as Piece;
use futures_util::stream::unfold;
use tokio::sync::mpsc::{Sender, channel};
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
    let stream = Stream::new(ticket, events);
    let body = unfold(Some(stream), |stream| async {
        let mut stream = stream?;
        let (text, more) = stream.next().await;
        Some((Ok::<_, std::convert::Infallible>(text), more.then_some(stream)))
    });
    response(Body::from_stream(body))
}

/// The response that streams several answers, each as it comes, and what is said after all of them.
pub(crate) fn merged(parts: Vec<(Ticket, impl Events)>, end: impl FnOnce() -> String + Send + 'static) -> Response {
    let (texts, inbox) = channel(parts.len());
    for (ticket, events) in parts {
        tokio::spawn(pass_on(Stream::new(ticket, events), texts.clone()));
    }
    let body = unfold(Some((inbox, end)), |state| async {
        let (mut inbox, end) = state?;
        match inbox.recv().await {
            Some(text) => Some((Ok::<_, std::convert::Infallible>(text), Some((inbox, end)))),
            None => Some((Ok(end()), None)),
        }
    });
    response(Body::from_stream(body))
}

/// Says what one of several answers says, until it ends or nobody listens.
async fn pass_on<E: Events>(mut stream: Stream<E>, texts: Sender<String>) {
    loop {
        let (text, more) = tokio::select! {
            next = stream.next() => next,
            () = texts.closed() => return,
        };
        if texts.send(text).await.is_err() || !more {
            return;
        }
    }
}

fn response(body: Body) -> Response {
    let mut response = Response::new(body);
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

    /// The next text, and whether more follows.
    async fn next(&mut self) -> (String, bool) {
        loop {
            if std::mem::take(&mut self.new) {
                let text = self.events.opened();
                if !text.is_empty() {
                    self.due = Instant::now() + KEEPALIVE;
                    return (text, true);
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
                Ok(Progress::Ended(end)) => return (self.events.ended(&end), false),
                Ok(Progress::Failed(error)) => return (self.events.failed(&error), false),
            };
            if !text.is_empty() {
                self.due = Instant::now() + KEEPALIVE;
                return (text, true);
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

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_every_few_seconds_whatever_goes_on() {
        // H069
        let queue = queue(1, 9);
        let _first = enter(&queue, task("first")).unwrap();
        let ticket = enter(&queue, task("second")).unwrap();
        let mut stream = Stream::new(ticket, Terse);
        let start = Instant::now();
        let mut next = async || {
            let (text, more) = stream.next().await;
            (text, start.elapsed().as_secs(), more)
        };
        assert_eq!(next().await, (": queued, 1 before this\n\n".into(), 0, true));
        assert_eq!(next().await, (": queued, 1 before this\n\n".into(), 3, true));
        drop(queue.next());
        assert_eq!(next().await, (": queued, 0 before this\n\n".into(), 6, true));
        let job = queue.next().unwrap();
        job.news.send(Progress::Started(Counts::default())).unwrap();
        job.news.send(Progress::Prefill { done: 0, total: 900 }).unwrap();
        assert_eq!(next().await, ("started".into(), 6, true));
        assert_eq!(next().await, (": prefill 0/900\n\n".into(), 6, true));
        job.news.send(Progress::Prefill { done: 256, total: 900 }).unwrap();
        assert_eq!(next().await, (": prefill 256/900\n\n".into(), 9, true));
        job.news.send(Progress::Prefill { done: 900, total: 900 }).unwrap();
        assert_eq!(next().await, (": decode\n\n".into(), 12, true));
        job.news.send(Progress::Piece(Piece::Text("a".into()))).unwrap();
        assert_eq!(next().await, ("Text(\"a\")".into(), 12, true));
        job.news
            .send(Progress::Ended(End { why: Finish::Stop, counts: Counts::default(), timings: Default::default() }))
            .unwrap();
        assert_eq!(next().await, ("ended".into(), 12, false));
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
        assert_eq!(stream.next().await, ("broken".into(), false));
        // A worker that is gone is a failure too.
        let ticket = enter(&queue, task("a")).unwrap();
        drop(queue.next());
        let mut stream = Stream::new(ticket, Terse);
        assert_eq!(stream.next().await, ("the engine stopped without an answer".into(), false));
    }
}
