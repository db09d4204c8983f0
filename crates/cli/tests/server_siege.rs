//! Clients that mean harm, many at once, against the real program: everybody else is served, and memory stays bounded.
//!
//! `DS4_SIEGE_CONNECTIONS` is how many silent connections there are (300; as many as the system allows),
//! `DS4_SIEGE_SECONDS` how long it goes on.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use common::server::{Server, ask};
use serde_json::json;

/// What the server may take beside what it took before, in MiB: 256 connections with 64 KiB of headers each, two bodies of
/// 64 MiB as bytes, as text and as JSON, and what the allocator keeps of them.
const ROOM: u64 = 900;

fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// The most memory that the server ever took, in MiB; 0 where the system does not tell.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// Does something again and again on new connections until it is told to stop.
struct Attack {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    done: Arc<AtomicUsize>,
    port: u16,
}

impl Attack {
    fn with(&mut self, threads: usize, attack: impl Fn(TcpStream, &AtomicBool) + Clone + Send + 'static) {
        for _ in 0..threads {
            let (stop, done, port, attack) =
                (Arc::clone(&self.stop), Arc::clone(&self.done), self.port, attack.clone());
            self.threads.push(spawn(move || {
                while !stop.load(Relaxed) {
                    if let Ok(connection) = TcpStream::connect(("127.0.0.1", port)) {
                        let _ = connection.set_read_timeout(Some(Duration::from_secs(1)));
                        let _ = connection.set_write_timeout(Some(Duration::from_secs(1)));
                        attack(connection, &stop);
                        done.fetch_add(1, Relaxed);
                    }
                }
            }));
        }
    }
}

/// Sends a request with this body and reads what comes, for a second at most.
fn send(mut connection: TcpStream, body: &[u8]) {
    let head = format!("POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(body));
    let _ = connection.read(&mut [0; 4096]);
}

/// Sends bytes slowly until the server has enough.
fn trickle(mut connection: TcpStream, head: &str, stop: &AtomicBool) {
    let mut goes_on = connection.write_all(head.as_bytes()).is_ok();
    while goes_on && !stop.load(Relaxed) {
        sleep(Duration::from_millis(50));
        goes_on = connection.write_all(b"a").is_ok();
    }
}

#[test]
fn a_siege_locks_nobody_out_and_takes_bounded_memory() {
    let (connections, seconds) = (setting("DS4_SIEGE_CONNECTIONS", 300), setting("DS4_SIEGE_SECONDS", 5));
    let server = Server::start(&["-c", "2000", "--sessions", "4"]);
    let honest = || server.chat(ask("What is 7 + 8?"))["choices"][0]["message"]["content"] == "15";
    assert!(honest());
    let before = peak(&server);
    let silent: Vec<TcpStream> =
        (0..connections).map_while(|_| TcpStream::connect(("127.0.0.1", server.port)).ok()).collect();

    let stop = Arc::new(AtomicBool::new(false));
    let mut attack = Attack { stop: Arc::clone(&stop), threads: Vec::new(), done: Arc::default(), port: server.port };
    attack.with(8, |connection, stop| trickle(connection, "GET /health HTTP/1.1\r\nX: ", stop));
    let begun = "POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n";
    attack.with(8, move |connection, stop| trickle(connection, begun, stop));
    let large: Arc<[u8]> = format!("{{\"messages\": [], \"x\": \"{}\"}}", "a b ".repeat(15 << 20)).into_bytes().into();
    attack.with(2, move |connection, _| send(connection, &large));
    let deep: Arc<[u8]> = format!("{{\"messages\": {}", "[".repeat(4 << 20)).into_bytes().into();
    attack.with(1, move |connection, _| send(connection, &deep));
    attack.with(1, |connection, _| send(connection, b"{\"messages\": \"\xff\xfe\"}"));
    attack.with(1, |connection, _| send(connection, &[0x16; 2000]));
    // Somebody asks for much and reads one byte a second.
    let mut long = ask("Hello");
    (long["stream"], long["max_tokens"]) = (true.into(), json!(1500));
    let long = long.to_string();
    attack.with(2, move |mut connection, stop| {
        let head =
            format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{long}", long.len());
        let mut goes_on = connection.write_all(head.as_bytes()).is_ok();
        while goes_on && !stop.load(Relaxed) {
            sleep(Duration::from_secs(1));
            goes_on = matches!(connection.read(&mut [0]), Ok(1));
        }
    });

    let (start, mut served, mut slowest) = (Instant::now(), 0, Duration::ZERO);
    while start.elapsed() < Duration::from_secs(seconds as u64) {
        let asked = Instant::now();
        assert!(honest(), "every honest request has its answer");
        served += 1;
        slowest = slowest.max(asked.elapsed());
    }
    stop.store(true, Relaxed);
    attack.threads.into_iter().for_each(|thread| thread.join().unwrap());
    let (after, attacks) = (peak(&server), attack.done.load(Relaxed));
    println!(
        "{} silent connections, {attacks} attacks in {seconds} s: {served} honest requests served, the slowest in \
         {slowest:.1?}; memory at most {after} MiB, {before} before",
        silent.len()
    );
    assert!(served > 0 && after <= before + ROOM, "{after} MiB after {before}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    drop(silent);
    server.wait(|| server.health()["running"] == 0);
    assert!(honest());
}

#[test]
fn many_streams_at_once_all_go_on() {
    let server = Server::start(&["-c", "1000", "--sessions", "32"]);
    let answers: Vec<_> = (0..32)
        .map(|i| {
            let mut body = ask(&format!("What is {i} + 8?"));
            (body["stream"], body["max_tokens"]) = (true.into(), json!(40));
            server.post("/v1/chat/completions", &body)
        })
        .collect();
    for answer in answers {
        let events = answer.events();
        assert_eq!(events.last().unwrap().data, "[DONE]");
        assert!(events.iter().any(|event| event.data.contains("\"finish_reason\":\"stop\"")), "{events:?}");
    }
}
