//! A state directory with clocks that go twenty times as fast, and what the system says about its servers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Home, Said, said};

/// Leases last 2.25 s instead of 45, and so on.
const FAST: [(&str, &str); 3] =
    [("DS4_LEASE_TTL_S", "2.25"), ("DS4_WATCHDOG_POLL_S", "0.1"), ("DS4_SHUTDOWN_GRACE_S", "3")];

/// A state directory; what runs for it ends with the test.
pub(crate) struct Place {
    pub(crate) home: Home,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { home: Home::new() }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.home.file("state")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(args);
        command.env("DS4_DIR", self.dir()).envs(FAST);
        command.env_remove("DS4_SERVER_BINARY").env_remove("DS4_READY_TIMEOUT_MS");
        command
    }

    pub(crate) fn ds4(&self, args: &[&str]) -> Said {
        said(self.command(args).output().expect("ds4 runs"))
    }

    /// `ds4 up` at a free port, with one thread: its URL.
    pub(crate) fn up(&self, args: &[&str]) -> String {
        self.ds4(&[&["up", "--port", "0"], args, &["--", "-t", "1", "-c", "2000"]].concat()).answer().trim().into()
    }

    pub(crate) fn status(&self) -> Value {
        let said = self.ds4(&["status", "--json"]);
        let status: Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"));
        assert_eq!(said.code, if status["state"] == "running" { 0 } else { 3 }, "{said:?}");
        status
    }

    pub(crate) fn state(&self) -> String {
        self.status()["state"].as_str().unwrap().into()
    }

    pub(crate) fn pid(&self) -> u32 {
        let status = self.status();
        status["pid"].as_u64().unwrap_or_else(|| panic!("{status}")) as u32
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Waits until something holds; a test that would wait for ever fails.
    pub(crate) fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(120), "{what}: in vain; the log says:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the server of this number has ended.
    pub(crate) fn wait_for_end(&self, pid: u32) {
        self.wait("the end of the server", || !is_alive(pid));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.command(&["down", "--force"]).output();
    }
}

/// A process that does nothing for ten minutes, and ends with the test.
pub(crate) struct Sleeper(Child);

impl Sleeper {
    pub(crate) fn new() -> Self {
        Self(Command::new("sleep").arg("600").stdout(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> String {
        self.0.id().to_string()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn is_alive(pid: u32) -> bool {
    ds4_supervise::process::is_alive(pid)
}

pub(crate) fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).stderr(Stdio::null()).status();
    assert!(sent.is_ok());
}

/// An open connection to a server's URL.
pub(crate) fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.trim_start_matches("http://")).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// The status of `GET URL/PATH`.
pub(crate) fn get(url: &str, path: &str) -> u16 {
    let mut stream = connect(url);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_else(|_| panic!("{answer}"))
}
