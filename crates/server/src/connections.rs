//! The connections that are open: a bounded number. When all places are taken, whoever has kept the server waiting longest
//! makes room, so that idle connections and requests that never end lock nobody out.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{Request, Response};
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// All open connections.
#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    open: Mutex<Open>,
    /// A place may be free, or somebody waits who did not.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    seats: BTreeMap<u64, Arc<Seat>>,
    next_id: u64,
}

/// How often one that wants in looks for a place.
const LOOK: Duration = Duration::from_secs(5);

impl Connections {
    /// Room for `most` connections.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default(), changed: Notify::new() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().expect("nothing panics under this lock")
    }

    /// A place for one more, as soon as there is one.
    pub(crate) async fn admit(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.place() {
                return place;
            }
            // One may have begun to wait without anybody being told.
            let _ = timeout(LOOK, self.changed.notified()).await;
        }
    }

    /// A place that is free; else whoever keeps the server waiting longest is told to leave.
    fn place(self: &Arc<Self>) -> Option<Place> {
        let mut open = self.open();
        if open.seats.len() < self.most {
            let (id, seat) = (open.next_id, Arc::new(Seat::new()));
            open.next_id += 1;
            open.seats.insert(id, Arc::clone(&seat));
            return Some(Place { id, seat, connections: Arc::clone(self) });
        }
        let waited = open.seats.values().filter_map(|seat| Some((seat.waits_since()?, seat)));
        if let Some((_, longest)) = waited.min_by_key(|(since, _)| *since) {
            longest.leaves.store(true, Relaxed);
            longest.leave.notify_one();
        }
        None
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.open().seats.len()
    }

    /// Waits until all have ended.
    pub(crate) async fn ended(&self) {
        while !self.open().seats.is_empty() {
            self.changed.notified().await;
        }
    }
}

/// A connection's place among those that are open; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Place {
    id: u64,
    seat: Arc<Seat>,
    connections: Arc<Connections>,
}

impl Place {
    /// What the connection does.
    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// A request whose body tells when it has come, and who says that its answer has begun and ended.
    pub(crate) fn request<B: HttpBody>(&self, request: Request<B>) -> (Request<Upload<B>>, Answering) {
        let seat = &self.seat;
        seat.now(if request.body().is_end_stream() { Doing::Answering } else { Doing::Uploading(Instant::now()) });
        let answering = Answering { seat: Arc::clone(seat), connections: Arc::clone(&self.connections) };
        (request.map(|body| Upload { body, seat: Arc::clone(seat) }), answering)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().seats.remove(&self.id);
        self.connections.changed.notify_one();
    }
}

/// What a connection does.
#[derive(Debug)]
pub(crate) struct Seat {
    doing: Mutex<Doing>,
    /// Bytes wait for the client to read; `stall.rs` says so and gives up whom nothing moves.
    pub(crate) writes: AtomicBool,
    leave: Notify,
    leaves: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Doing {
    /// Nothing of a request is here, or a part of its headers.
    Idle(Instant),
    /// A body comes.
    Uploading(Instant),
    /// The server has all it needs.
    Answering,
}

impl Seat {
    pub(crate) fn new() -> Self {
        let doing = Mutex::new(Doing::Idle(Instant::now()));
        Self { doing, writes: AtomicBool::new(false), leave: Notify::new(), leaves: AtomicBool::new(false) }
    }

    fn now(&self, doing: Doing) {
        *self.doing.lock().expect("nothing panics under this lock") = doing;
    }

    fn doing(&self) -> Doing {
        *self.doing.lock().expect("nothing panics under this lock")
    }

    /// Since when the server waits for the client; none when the client waits, or is leaving already.
    fn waits_since(&self) -> Option<Instant> {
        match self.doing() {
            _ if self.writes.load(Relaxed) || self.leaves.load(Relaxed) => None,
            Doing::Idle(since) | Doing::Uploading(since) => Some(since),
            Doing::Answering => None,
        }
    }

    /// Whether there is no request, nor anything left to be sent.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.doing(), Doing::Idle(_)) && !self.writes.load(Relaxed)
    }

    /// Comes back when the place is wanted for another.
    pub(crate) async fn leave(&self) {
        self.leave.notified().await;
    }
}

/// The body of a request.
pub(crate) struct Upload<B> {
    body: B,
    seat: Arc<Seat>,
}

impl<B: HttpBody + Unpin> HttpBody for Upload<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None) = frame {
            self.seat.now(Doing::Answering);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer under way; when it is dropped, the connection waits for the next request.
pub(crate) struct Answering {
    seat: Arc<Seat>,
    connections: Arc<Connections>,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.seat.now(Doing::Idle(Instant::now()));
        self.connections.changed.notify_one();
    }
}

impl Answering {
    /// The response whose end is the answer's.
    pub(crate) fn until_the_end_of(self, response: Response<Body>) -> Response<Answer> {
        response.map(|body| Answer { body, _answering: self })
    }
}

/// The body of a response.
pub(crate) struct Answer {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Answer {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::time::Duration;
    use tokio::time::{sleep, timeout};

    async fn is_full(connections: &Arc<Connections>) -> bool {
        timeout(Duration::from_secs(1), connections.admit()).await.is_err()
    }

    async fn leaves(place: &Place) -> bool {
        timeout(Duration::from_secs(1), place.seat.leave()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_the_server_waiting_longest_makes_room() {
        let connections = Connections::new(3);
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(connections.admit().await);
            sleep(Duration::from_secs(1)).await;
        }
        // The first asks something, the second sends a body since then, the third has nothing to ask yet.
        let (_, answering) = places[0].request(Request::new(Body::from("")));
        let (upload, _answering) = places[1].request(Request::new(Body::from("body")));
        assert!(is_full(&connections).await);
        assert!(leaves(&places[2]).await && !leaves(&places[0]).await && !leaves(&places[1]).await);
        places.pop();
        places.push(connections.admit().await);
        sleep(Duration::from_secs(1)).await;
        assert!(is_full(&connections).await);
        assert!(leaves(&places[1]).await, "the body does not come");

        // Whom the server answers stays, also when nobody else is left to make room.
        let mut body = upload.into_body();
        while body.frame().await.is_some() {}
        places[2].seat.leaves.store(true, Relaxed);
        assert!(is_full(&connections).await && !leaves(&places[0]).await);
        places[0].seat.writes.store(true, Relaxed);
        drop(answering);
        assert!(is_full(&connections).await, "the end of the answer is on its way");
        places[0].seat.writes.store(false, Relaxed);
        assert!(is_full(&connections).await && leaves(&places[0]).await);
        drop(places);
        timeout(Duration::from_secs(1), connections.ended()).await.unwrap();
    }
}
