//! A server on a free port, and a client that shows every byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::Home;

/// A server that ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    pub(crate) home: Home,
    log: Arc<Mutex<String>>,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(Home::new(), args)
    }

    pub(crate) fn start_in(home: Home, args: &[&str]) -> Self {
        Self::start_with(home, args, [])
    }

    /// The same with more in the environment.
    pub(crate) fn start_with<const N: usize>(home: Home, args: &[&str], environment: [(String, String); N]) -> Self {
        let mut command = home.command(&[&["serve", "--port", "0", "-t", "1"], args].concat());
        command.envs(environment);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("ds4 runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("the server did not start: {}", log.lock().unwrap()));
            *log.lock().unwrap() += &format!("{line}\n");
            if let Some((_, address)) = line.split_once("listening at http://") {
                break address.trim_end_matches(['"', '}']).to_owned();
            }
        };
        let shared = Arc::clone(&log);
        std::thread::spawn(move || lines.for_each(|line| *shared.lock().unwrap() += &format!("{line}\n")));
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        Self { child, port, home, log }
    }

    /// One that runs already.
    pub(crate) fn of(child: Child, port: u16, home: Home) -> Self {
        Self { child, port, home, log: Arc::default() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said on stderr so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until stderr contains this.
    pub(crate) fn wait_for_log(&self, text: &str) {
        self.wait(|| self.log().contains(text));
    }

    /// Waits until something holds; a test that would wait for ever fails.
    pub(crate) fn wait(&self, holds: impl Fn() -> bool) {
        for _ in 0..1200 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("waited for a minute in vain; the server said:\n{}", self.log());
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends bytes and nothing more, and reads what comes back until the server closes the connection.
    pub(crate) fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes); // it may be refused half-way
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Sends a request; the answer can be read as it comes.
    pub(crate) fn open(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)); // refused half-way
        Answer::read_head(BufReader::new(stream))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.open("GET", path, "", b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.open("POST", path, "", body.to_string().as_bytes())
    }

    /// A chat that succeeds.
    pub(crate) fn chat(&self, body: Value) -> Value {
        self.post("/v1/chat/completions", &body).ok()
    }

    /// The events of a streamed chat.
    pub(crate) fn stream(&self, mut body: Value) -> Vec<Event> {
        body["stream"] = true.into();
        self.post("/v1/chat/completions", &body).events()
    }

    pub(crate) fn health(&self) -> Value {
        self.get("/health").json()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub(crate) fn exit(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request without thinking, always the most probable token.
pub(crate) fn ask(prompt: &str) -> Value {
    json!({"messages": [{"role": "user", "content": prompt}], "think": false, "temperature": 0})
}

/// An answer whose body is still to be read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    body: BufReader<TcpStream>,
    chunk_left: usize,
}

/// A server-sent event or comment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) comment: String,
    pub(crate) name: String,
    pub(crate) data: String,
}

impl Event {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("{self:?}: {e}"))
    }
}

impl Answer {
    /// The next answer of a connection.
    pub(crate) fn read_head(mut body: BufReader<TcpStream>) -> Self {
        let mut line = || {
            let mut line = String::new();
            body.read_line(&mut line).expect("an answer");
            line.trim_end().to_owned()
        };
        let status = line();
        let status = status.split(' ').nth(1).unwrap_or_else(|| panic!("not a status: {status:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = line();
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        Self { status, headers, body, chunk_left: 0 }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body to its end.
    pub(crate) fn text(self) -> String {
        self.text_and_rest().0
    }

    /// The body to its end, and the connection, on which more may come.
    pub(crate) fn text_and_rest(mut self) -> (String, BufReader<TcpStream>) {
        let mut bytes = Vec::new();
        match (self.header("transfer-encoding"), self.header("content-length")) {
            (Some(_), _) => while self.chunk(&mut bytes) {},
            (None, Some(length)) => {
                bytes.resize(length.parse().expect("a length"), 0);
                self.body.read_exact(&mut bytes).expect("a whole body");
            }
            (None, None) => drop(self.body.read_to_end(&mut bytes).unwrap()),
        }
        (String::from_utf8(bytes).expect("answers are UTF-8"), self.body)
    }

    pub(crate) fn json(self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    /// The body of a success.
    pub(crate) fn ok(self) -> Value {
        let status = self.status;
        let json = self.json();
        assert_eq!(status, 200, "{json}");
        json
    }

    /// The message of an error with this status.
    pub(crate) fn error(self, status: u16) -> String {
        let found = self.status;
        let json = self.json();
        assert_eq!(found, status, "{json}");
        json["error"]["message"].as_str().unwrap_or_else(|| panic!("{json}")).to_owned()
    }

    /// Appends a chunk; false after the last.
    fn chunk(&mut self, bytes: &mut Vec<u8>) -> bool {
        let mut line = String::new();
        self.body.read_line(&mut line).expect("a chunk");
        let len = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("not a chunk: {line:?}"));
        let from = bytes.len();
        bytes.resize(from + len + 2, 0);
        self.body.read_exact(&mut bytes[from..]).expect("a whole chunk");
        bytes.truncate(from + len);
        assert!(std::str::from_utf8(&bytes[from..]).is_ok(), "a chunk ends inside a character");
        len > 0
    }

    /// The next event; none at the end. Every chunk holds whole events.
    pub(crate) fn next_events(&mut self) -> Option<Vec<Event>> {
        let mut bytes = Vec::new();
        if !self.chunk(&mut bytes) {
            return None;
        }
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.ends_with("\n\n"), "not whole events: {text:?}");
        Some(text.trim_end().split("\n\n").map(parse_event).collect())
    }

    /// All events.
    pub(crate) fn events(mut self) -> Vec<Event> {
        assert_eq!((self.status, self.header("content-type")), (200, Some("text/event-stream")));
        std::iter::from_fn(|| self.next_events()).flatten().collect()
    }
}

fn parse_event(text: &str) -> Event {
    let mut event = Event::default();
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("", comment)) => event.comment = comment.into(),
            Some(("event", name)) => event.name = name.into(),
            Some(("data", data)) => event.data = data.into(),
            _ => panic!("not an event: {text:?}"),
        }
    }
    event
}
