//! Connections to `ds4 serve`: used again, bounded, given up.

mod common;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use common::server::{Answer, Server, ask};
use serde_json::json;

/// A chat request as bytes.
fn request(stream: bool) -> Vec<u8> {
    let mut body = ask("What is 7 + 8?");
    body["stream"] = stream.into();
    let body = body.to_string();
    format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}

/// Whether the server has closed a connection, or does so now.
fn is_closed(mut connection: TcpStream) -> bool {
    matches!(connection.read(&mut [0]), Ok(0) | Err(_))
}

#[test]
fn a_connection_carries_one_request_after_the_other() {
    // H063
    let server = Server::start(&[]);
    let mut connection = BufReader::new(server.connect());
    for stream in [false, true, false] {
        connection.get_mut().write_all(&request(stream)).unwrap();
        let (text, rest) = Answer::read_head(connection).text_and_rest();
        assert!(text.contains("15") || text.contains("\"1\""), "{text}");
        connection = rest;
    }
    // Two at once are answered in order; errors end no connection.
    let nowhere = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    connection.get_mut().write_all(&[nowhere, request(false)].concat()).unwrap();
    let (text, connection) = Answer::read_head(connection).text_and_rest();
    assert!(text.contains("unknown endpoint"), "{text}");
    let (text, mut connection) = Answer::read_head(connection).text_and_rest();
    assert!(text.contains("15"), "{text}");

    // Who wants it closed gets it closed.
    connection.get_mut().write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let (_, connection) = Answer::read_head(connection).text_and_rest();
    assert!(is_closed(connection.into_inner()));
}

#[test]
fn who_keeps_connections_without_asking_locks_nobody_out() {
    let server = Server::start(&["-c", "100000", "--sessions", "1"]);
    // A request under way, one that never ends its headers, one that never ends its body, and many that say nothing.
    let mut long = ask("Hello");
    (long["stream"], long["max_tokens"]) = (true.into(), json!(100_000));
    let mut running = server.post("/v1/chat/completions", &long);
    running.next_events().unwrap();
    let mut headers = server.connect();
    headers.write_all(b"GET /health HTTP/1.1\r\nX: ").unwrap();
    let mut body = server.connect();
    body.write_all(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
    let silent: Vec<TcpStream> = (0..600).map(|_| server.connect()).collect();
    for _ in 0..10 {
        assert_eq!(server.health()["status"], "ok");
    }
    let mut silent = silent.into_iter();
    assert!([headers, body].into_iter().chain(silent.by_ref().take(300)).all(is_closed), "the first ones made room");
    assert!(running.next_events().is_some(), "whoever is answered stays");
    drop(silent);
}

#[test]
fn the_end_of_the_server_waits_for_no_idle_connection() {
    let mut server = Server::start(&[]);
    let silent = server.connect();
    let mut begun = server.connect();
    begun.write_all(b"GET /health HTTP/1.1\r\nX: ").unwrap();
    let mut used = BufReader::new(server.connect());
    used.get_mut().write_all(&request(true)).unwrap();
    let (_, used) = Answer::read_head(used).text_and_rest();
    assert_eq!(server.health()["status"], "ok"); // all of these have been accepted
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    assert!([silent, begun, used.into_inner()].into_iter().all(is_closed));
}
