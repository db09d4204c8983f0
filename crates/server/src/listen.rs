//! From an address to connections, and to a clean end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ds4_dialog::Turns;
use ds4_engine::Model;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

#[cfg(test)]
use crate::connections::Connections;
use crate::connections::Place;
use crate::control::{Change, Control};
use crate::routes::{MAX_HEADERS, router};
use crate::server::Server;
use crate::source::Source;
use crate::stall::Impatient;
use crate::steering::SteeringConfig;
use crate::trace::Trace;
use crate::worker;
use crate::{Keys, LogFormat};

/// A connection on which no request comes for so long is closed; most clients close theirs before.
const IDLE: Duration = Duration::from_secs(120);
/// How long clients are told that the engine cannot run any more, before the process ends.
const FAREWELL: Duration = Duration::from_secs(5);
/// Threads that parse and tokenise; they start as they are needed.
const PARSERS: usize = 4;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen: the first that is free.
    pub addresses: Vec<SocketAddr>,
    /// Whoever shows one of these may use the server; without any, everybody.
    pub keys: Keys,
    /// Let browsers of other origins in.
    pub cors: bool,
    /// Most tokens to generate where a request does not say.
    pub max_tokens: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// The exact tokens of answers, to be put back when clients bring these back; without, answers are tokenised again.
    pub turns: Option<Arc<Turns>>,
    /// File to trace requests to.
    pub trace: Option<PathBuf>,
    /// Hold tool calls to their schemas while they are written.
    pub constrain: bool,
    /// How answers are steered.
    pub steering: Option<SteeringConfig>,
    /// How the log is written.
    pub log: LogFormat,
    /// How the rest of the program sees the server.
    pub control: Arc<Control>,
}

impl Default for Config {
    /// At this machine's port 8000 without keys, as the flags have it; nothing is remembered or traced.
    fn default() -> Self {
        Self {
            addresses: vec![([127, 0, 0, 1], 8000).into()],
            keys: Keys::default(),
            cors: false,
            max_tokens: 393_216,
            queue: 32,
            turns: None,
            trace: None,
            constrain: true,
            steering: None,
            log: LogFormat::Text,
            control: Arc::default(),
        }
    }
}

/// Serves `model` on `engine` until SIGINT or SIGTERM, then lets the running requests end. A second signal ends the
/// process at once with code 130. When the engine cannot run any more, those who wait hear it, and so does the caller.
pub fn run(engine: Arc<dyn Source>, model: Arc<Model>, config: &Config) -> io::Result<()> {
    let trace = Trace::new(config.trace.as_deref())?;
    let server = Arc::new(Server::new(engine, model, config, trace));
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(PARSERS).build()?;
    std::thread::scope(|scope| {
        let result = runtime.block_on(async {
            let mut signals = Signals::new()?;
            let listener = bind(config).await?;
            if let Some(path) = &config.trace {
                server.ledger.log.say(format_args!("prompts and answers are stored in {} (--trace)", path.display()));
            }
            let address = listener.local_addr()?;
            config.control.tell(Change::Listening(address))?;
            server.ledger.log.say(format_args!("listening at http://{address}"));
            let worker = Arc::clone(&server);
            scope.spawn(move || worker::work(&worker));
            serve(listener, &server, &mut signals, &config.control).await
        });
        server.queue.close(); // lets the worker end, however we come here
        result
    })
}

async fn bind(config: &Config) -> io::Result<TcpListener> {
    let named = |e: io::Error| {
        let first = config.addresses.first().map(ToString::to_string).unwrap_or_default();
        io::Error::new(e.kind(), format!("cannot listen at {first}: {e}; see --host and --port"))
    };
    TcpListener::bind(config.addresses.as_slice()).await.map_err(named)
}

/// Accepts connections until the first signal or the engine's end, then waits for those that are there.
async fn serve(
    listener: TcpListener,
    server: &Arc<Server>,
    signals: &mut Signals,
    control: &Control,
) -> io::Result<()> {
    let router = router(Arc::clone(server));
    let connections = &control.connections;
    let (closing, closed) = watch::channel(false);
    let failed = loop {
        let accepted = async {
            let (stream, _) = listener.accept().await?;
            io::Result::Ok((stream, connections.admit().await))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = signals.next() => break false,
            () = control.ended.notified() => break false,
            () = server.failed() => break true,
        };
        match accepted {
            Ok((stream, place)) => {
                let _ = stream.set_nodelay(true); // an optimisation
                tokio::spawn(connection(stream, router.clone(), place, closed.clone()));
            }
            // Too many open files, say: others must end first.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    // It ends, whether that can be told or not.
    let _ = control.tell(Change::Ending);
    drop(listener);
    let _ = closing.send(true); // nobody may be connected
    if failed {
        let _ = tokio::time::timeout(FAREWELL, connections.ended()).await;
        let why = server.failure().unwrap_or_default();
        return Err(io::Error::other(format!("the engine cannot run any more: {why}; start the server again")));
    }
    server.ledger.log.say("shutting down after the running requests; a second signal ends it at once");
    server.queue.close();
    tokio::select! {
        () = connections.ended() => Ok(()),
        () = signals.next() => std::process::exit(130),
    }
}

/// Requests and their answers, one after the other. Whatever goes wrong is the peer's: it has left, or hyper has told it.
async fn connection<T>(stream: T, router: Router, place: Place, mut closed: watch::Receiver<bool>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(MAX_HEADERS);
    let (place, router) = (&place, &TowerToHyperService::new(router));
    let service = service_fn(|request| async move {
        let (request, answering) = place.request(request);
        router.call(request).await.map(|response| answering.until_the_end_of(response))
    });
    let io = TokioIo::new(Impatient::new(stream, Arc::clone(place.seat())));
    let mut connection = pin!(http.serve_connection(io, service));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = place.seat().leave() => return,
        _ = closed.changed() => match place.seat().is_idle() {
            true => return,
            false => connection.as_mut().graceful_shutdown(),
        }
    }
    let _ = connection.await;
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stall::PATIENCE;
    use axum::body::Body;
    use axum::routing::get;
    use futures_util::stream::unfold;
    use std::convert::Infallible;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::sync::mpsc::{Sender, channel};
    use tokio::time::{Instant, sleep};

    /// A page without an end; `alive` is dropped with it.
    fn endless(alive: Sender<()>) -> Router {
        let body = move || {
            let pages = unfold(alive.clone(), async |alive| Some((Ok::<_, Infallible>("again "), alive)));
            async { Body::from_stream(pages) }
        };
        Router::new().route("/", get(body))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_reading_is_dropped_with_its_request() {
        // H067
        let (alive, mut dropped) = channel(1);
        let (server, mut client) = duplex(1024);
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let start = Instant::now();
        let (_closing, closed) = watch::channel(false);
        let place = Connections::new(1).admit().await;
        connection(server, endless(alive), place, closed).await;
        assert_eq!(start.elapsed().as_secs(), PATIENCE.as_secs());
        assert_eq!(dropped.recv().await, None, "the answer is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn headers_that_do_not_end_are_given_up() {
        let (server, mut client) = duplex(1024);
        client.write_all(b"GET / HTTP/1.1\r\nHost").await.unwrap();
        let start = Instant::now();
        let (_closing, closed) = watch::channel(false);
        let place = Connections::new(1).admit().await;
        connection(server, Router::new(), place, closed).await;
        assert_eq!(start.elapsed().as_secs(), IDLE.as_secs());
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_used_again_until_nothing_comes() {
        let (server, mut client) = duplex(1024);
        let (_closing, closed) = watch::channel(false);
        let place = Connections::new(1).admit().await;
        let router = Router::new().route("/", get(async || "hello"));
        let connection = tokio::spawn(connection(server, router, place, closed));
        for pause in [0, 1, 119] {
            sleep(Duration::from_secs(pause)).await;
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut answer = [0; 1024];
            let n = client.read(&mut answer).await.unwrap();
            assert!(answer[..n].ends_with(b"hello"), "{}", String::from_utf8_lossy(&answer[..n]));
        }
        let start = Instant::now();
        connection.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), IDLE.as_secs());
    }
}
