//! Who may use `ds4 serve`.

mod common;

use common::Home;
use common::server::{Server, ask};
use serde_json::json;

#[test]
fn without_a_key_nobody_gets_in_where_there_are_keys() {
    let home = Home::new();
    std::fs::write(home.file("keys.txt"), "# the team's\nteam-key-1\n").unwrap();
    let server = Server::start_in(home, &["--api-key", "my-key", "--api-key", "other", "--api-key-file", "keys.txt"]);
    let body = ask("What is 7 + 8?").to_string();
    let status = |path: &str, key: &str| server.open("POST", path, key, body.as_bytes()).status;
    for path in ["/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"] {
        for key in ["Authorization: Bearer my-key\r\n", "x-api-key: team-key-1\r\n", "X-API-Key: other\r\n"] {
            assert_eq!(status(path, key), 200, "{path} {key}");
        }
        for key in ["", "Authorization: Bearer my-ke\r\n", "x-api-key: # the team's\r\n", "x-api-key: MY-KEY\r\n"] {
            assert_eq!(status(path, key), 401, "{path} {key}");
        }
    }

    let refused = server.post("/v1/chat/completions", &json!({}));
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    let error = refused.json();
    assert_eq!(error["error"]["code"], "invalid_api_key");
    let way_out = "send one of this server's keys as \"Authorization: Bearer KEY\" or \"x-api-key: KEY\"";
    assert_eq!(error["error"]["message"], format!("this server wants a key; {way_out}"));
    let error = server.open("POST", "/v1/messages", "x-api-key: secret\r\n", b"{}").json();
    assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("authentication_error")));
    assert_eq!(error["error"]["message"], format!("this key is not known here; {way_out}"));

    // What is open to all: how the server is, and a browser's question before its own.
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.open("OPTIONS", "/v1/messages", "", b"").status, 204);
    assert_eq!([server.get("/v1/models").status, server.get("/nowhere").status], [401, 401]);

    for key in ["my-key", "team-key-1", "secret"] {
        assert!(!server.log().contains(key), "{}", server.log());
    }
}

#[test]
fn other_machines_need_a_key_or_a_word_that_they_need_none() {
    let said = Home::new().ds4(&["serve", "--host", "0.0.0.0"]);
    said.fails(
        2,
        "ds4: --host 0.0.0.0: 0.0.0.0 is reached from other machines, and everybody there could use this server; ask for a \
         key (--api-key-file FILE or --api-key KEY), or let everybody in with --insecure",
    );
    assert_eq!(said.err.lines().count(), 1, "before anything is opened: {}", said.err);
    assert_eq!(Server::start(&["--host", "0.0.0.0", "--insecure"]).get("/v1/models").status, 200);
    assert_eq!(Server::start(&["--host", "0.0.0.0", "--api-key", "k"]).get("/v1/models").status, 401);
}

#[test]
fn keys_that_are_none_are_refused_without_being_shown() {
    let home = Home::new();
    let said = home.ds4(&["serve", "--api-key", "two words"]);
    said.fails(2, "ds4: invalid value for --api-key: a key is 1 to 1024 visible ASCII characters without spaces");
    std::fs::write(home.file("keys.txt"), "good\nnot good\n").unwrap();
    let said = home.ds4(&["serve", "--api-key-file", "keys.txt"]);
    said.fails(2, "ds4: keys.txt: line 2: a key is 1 to 1024 visible ASCII characters without spaces");
    std::fs::write(home.file("keys.txt"), "# later\n").unwrap();
    let said = home.ds4(&["serve", "--api-key-file", "keys.txt"]);
    said.fails(2, "ds4: keys.txt: there is no key in it; write one on each line");
    let said = home.ds4(&["serve", "--api-key-file", "nowhere"]);
    said.fails(1, "ds4: nowhere: No such file or directory (os error 2)");
}
