//! A file server that does what a test says: answers, cuts, stalls, lies. Every connection carries one request.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A running server; it ends with the value.
pub struct Host {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Vec<Request>>,
    over: AtomicBool,
}

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// What follows `GET`.
    pub target: String,
    headers: Vec<(String, String)>,
    /// How many requests came before this one.
    pub number: usize,
}

/// What it is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    end: End,
    pace: Option<(usize, Duration)>,
}

/// How a body ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Whole,
    /// The connection is closed after so many bytes.
    Cut(usize),
    /// Nothing more comes after so many bytes.
    Stall(usize),
}

impl Host {
    /// Starts one that answers as `answer` says.
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared { seen: Mutex::default(), over: AtomicBool::new(false) });
        let (answer, all) = (Arc::new(answer), Arc::clone(&shared));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if all.over.load(Relaxed) {
                    return;
                }
                let (answer, all) = (Arc::clone(&answer), Arc::clone(&all));
                // A client may leave at any time.
                std::thread::spawn(move || serve(stream, &*answer, &all).ok());
            }
        });
        Self { address, shared }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn seen(&self) -> MutexGuard<'_, Vec<Request>> {
        self.shared.seen.lock().expect("no test fails while it holds it")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        let _ = TcpStream::connect(self.address); // wakes the listener
    }
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The first byte that is asked for.
    pub fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

impl Reply {
    /// A status without a body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), end: End::Whole, pace: None }
    }

    /// A whole body, whatever was asked.
    pub fn whole(bytes: &[u8]) -> Self {
        Self { body: bytes.to_vec(), ..Self::status(200) }
    }

    /// A file of this version, with ranges as HTTP has them.
    pub fn file(request: &Request, bytes: &[u8], etag: &str) -> Self {
        let current = request.header("if-range").is_none_or(|asked| asked == etag);
        let reply = match request.from().filter(|_| current) {
            Some(from) if from < bytes.len() => Self::whole(&bytes[from..])
                .status_is(206)
                .header("content-range", &format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len())),
            Some(_) => Self::status(416).header("content-range", &format!("bytes */{}", bytes.len())),
            None => Self::whole(bytes),
        };
        reply.header("etag", etag)
    }

    /// Points to another address.
    pub fn redirect(to: &str) -> Self {
        Self::status(302).header("location", to)
    }

    /// With another status.
    pub fn status_is(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// With a header; one that is there already is replaced.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(n, _)| n != name);
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The connection is closed after so many bytes of the body.
    pub fn cut(self, after: usize) -> Self {
        Self { end: End::Cut(after), ..self }
    }

    /// Nothing more comes after so many bytes of the body.
    pub fn stall(self, after: usize) -> Self {
        Self { end: End::Stall(after), ..self }
    }

    /// So many bytes at a time, with a pause after each piece.
    pub fn slow(self, piece: usize, pause: Duration) -> Self {
        Self { pace: Some((piece, pause)), ..self }
    }
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&Request) -> Reply, shared: &Shared) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 65536 {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let pairs = lines.filter_map(|line| line.split_once(':'));
    let headers = pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    let request = {
        let mut seen = shared.seen.lock().expect("no test fails while it holds it");
        let request = Request { target, headers, number: seen.len() };
        seen.push(request.clone());
        request
    };
    answer(&request).send(&mut stream, shared)
}

impl Reply {
    fn send(&self, stream: &mut TcpStream, shared: &Shared) -> std::io::Result<()> {
        write!(stream, "HTTP/1.1 {} It\r\nconnection: close\r\n", self.status)?;
        let named = |name| self.headers.iter().any(|(n, _)| n == name);
        if !named("content-length") && !named("transfer-encoding") {
            write!(stream, "content-length: {}\r\n", self.body.len())?;
        }
        // An empty content-length leaves it out: the body ends with the connection.
        for (name, value) in self.headers.iter().filter(|(_, value)| !value.is_empty()) {
            write!(stream, "{name}: {value}\r\n")?;
        }
        stream.write_all(b"\r\n")?;
        let bytes = match self.end {
            End::Whole => &self.body[..],
            End::Cut(n) | End::Stall(n) => &self.body[..n.min(self.body.len())],
        };
        let (piece, pause) = self.pace.unwrap_or((bytes.len().max(1), Duration::ZERO));
        for piece in bytes.chunks(piece) {
            stream.write_all(piece)?;
            stream.flush()?;
            std::thread::sleep(pause);
        }
        if let End::Stall(_) = self.end {
            stream.set_read_timeout(Some(Duration::from_millis(50)))?;
            // Until the client leaves or the test ends.
            while !shared.over.load(Relaxed) {
                match stream.read(&mut [0]) {
                    Ok(0) => break,
                    Err(e) if !matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                        break;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
