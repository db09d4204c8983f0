//! `ds4 serve`: the page at `/`. `cargo xtask page` tries it in a browser.

mod common;

use common::server::Server;
use serde_json::json;

#[test]
fn the_page_comes_with_a_policy_that_lets_nothing_else_in() {
    for args in [&[][..], &["--cors"]] {
        let server = Server::start(args);
        let page = server.get("/");
        assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        let expected = [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-cache"),
        ];
        for (name, value) in expected {
            assert_eq!(page.header(name), Some(value));
        }
        assert!(page.text().starts_with("<!doctype html>"));
    }
}

#[test]
fn a_browser_that_has_a_file_does_not_get_it_again() {
    let server = Server::start(&[]);
    let script = server.get("/page/main.js");
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    let tag = script.header("etag").unwrap().to_owned();
    assert!(script.text().contains("import "));
    let again = server.open("GET", "/page/main.js", &format!("Connection: close\r\nIf-None-Match: {tag}\r\n"), b"");
    assert_eq!((again.status, again.header("etag")), (304, Some(&*tag)));
    assert_eq!(again.text(), "");
    assert_eq!(server.open("GET", "/page/main.js", "If-None-Match: \"old\"\r\n", b"").status, 200);
}

#[test]
fn the_page_asks_for_the_key_that_the_rest_needs() {
    let server = Server::start(&["--api-key", "secret"]);
    assert_eq!((server.get("/").status, server.get("/page/main.js").status), (200, 200));
    assert_eq!((server.get("/v1/stats").status, server.get("/v1").status), (401, 401));
    assert_eq!(server.open("GET", "/v1/stats", "Authorization: Bearer secret\r\n", b"").status, 200);
}

#[test]
fn only_the_files_of_the_page_are_there() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/page/").error(404), "unknown endpoint: /page/");
    assert_eq!(server.get("/page/../Cargo.toml").error(404), "unknown endpoint: /page/../Cargo.toml");
    assert_eq!(server.post("/", &json!({})).error(405), "/ does not answer POST; use GET");
    assert_eq!(server.post("/page/main.js", &json!({})).error(405), "/page/main.js does not answer POST; use GET");
}
