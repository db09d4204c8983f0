//! A connection whose peer must keep reading: writing that makes no progress for too long is an error.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::connections::Seat;

/// How long a peer may not read.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Gives a peer up that does not read for [`PATIENCE`].
pub(crate) struct Impatient<T> {
    inner: T,
    seat: Arc<Seat>,
    /// Runs while a write waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> Impatient<T> {
    /// A connection that tells its seat whether a write waits.
    pub(crate) fn new(inner: T, seat: Arc<Seat>) -> Self {
        Self { inner, seat, timer: None }
    }

    /// Passes a finished write on; one that waits becomes an error in time.
    fn bounded<R>(&mut self, context: &mut Context<'_>, poll: Poll<Result<R>>) -> Poll<Result<R>> {
        self.seat.writes.store(poll.is_pending(), Relaxed);
        if poll.is_ready() {
            self.timer = None;
            return poll;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Impatient<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Impatient<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.bounded(context, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_flush(context);
        self.bounded(context, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_shutdown(context);
        self.bounded(context, poll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_given_up() {
        let (server, _client) = duplex(64);
        let mut server = Impatient::new(server, Arc::new(Seat::new()));
        let start = Instant::now();
        let error = server.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_is_waited_for() {
        let (server, mut client) = duplex(64);
        let mut server = Impatient::new(server, Arc::new(Seat::new()));
        let reader = tokio::spawn(async move {
            let mut bytes = [0; 64];
            for _ in 0..20 {
                sleep(PATIENCE / 2).await;
                client.read_exact(&mut bytes).await.unwrap();
            }
        });
        server.write_all(&[0; 20 * 64]).await.unwrap();
        reader.await.unwrap();
    }
}
