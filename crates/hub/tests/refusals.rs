//! What is not a model, or not for this user, is refused in a line and leaves nothing behind.

mod common;

use common::{Asker, drafting, model, sum};
use ds4_hub::{State, Token};
use ds4_testkit::host::{Host, Reply};

#[test]
fn what_comes_is_compared_with_the_published_sum() {
    let (bytes, damaged) = (model(100_000, 0), model(100_000, 3));
    let sum = sum(&bytes);
    let host = Host::start(move |request| {
        Reply::file(request, &damaged, "\"x\"").header("x-linked-etag", &format!("\"{sum}\""))
    });
    let mut asker = Asker::of(&host);
    asker.fails("the bytes are damaged (their SHA-256 is ");
    assert!(asker.files().is_empty(), "{:?}", asker.files());
    assert_eq!(host.seen().len(), 1, "a second try of the same gives the same");
}

#[test]
fn pages_and_other_files_are_no_models() {
    let page = b"<!doctype html><title>Sign in</title>";
    for (kind, said) in [("text/html; charset=utf-8", "a page for people"), ("application/octet-stream", "is no GGUF")]
    {
        let host = Host::start(move |_| Reply::whole(page).header("content-type", kind));
        let mut asker = Asker::of(&host);
        asker.fails(said);
        assert!(asker.files().is_empty(), "{:?}", asker.files());
    }
}

#[test]
fn a_model_that_ends_too_early_is_refused_even_if_nobody_said_how_long_it_is() {
    let bytes = model(100_000, 0);
    // Neither length nor sum: the body ends with the connection.
    let host = Host::start(move |_| Reply::whole(&bytes[..60_000]).header("content-length", ""));
    let mut asker = Asker::of(&host);
    asker.fails("what came is no whole model");
    assert!(asker.files().is_empty(), "{:?}", asker.files());
}

#[test]
fn a_server_that_contradicts_itself_is_not_believed() {
    let bytes = model(100_000, 0);
    let host = Host::start(move |request| Reply::file(request, &bytes, "\"x\"").header("x-linked-size", "99"));
    Asker::of(&host).fails("the file should have 99 bytes and the server has one of ");

    let host = Host::start(move |_| Reply::whole(b"GGUF").header("x-linked-size", "2").header("content-length", ""));
    Asker::of(&host).fails("the server sends more than it announced");

    let host = Host::start(move |_| Reply::whole(b""));
    Asker::of(&host).fails("the server's file is empty");

    let host = Host::start(move |_| Reply::status(206).header("content-range", "bytes 0-9/10"));
    Asker::of(&host).fails("sends a part although the whole was asked for");
}

#[test]
fn the_disk_must_have_room_before_anything_is_written() {
    let host = Host::start(|_| Reply::whole(b"GGUF").header("content-length", &(1u64 << 60).to_string()));
    let mut asker = Asker::of(&host);
    asker.fails("1152921504.6 GB needed; make room, or put the model elsewhere with --dir or DS4_GGUF_DIR");
    assert!(asker.files().is_empty(), "{:?}", asker.files());
}

#[test]
fn refusals_say_what_helps() {
    for (status, token, said) in [
        (401, None, "a token is needed: --token, HF_TOKEN or `hf auth login`"),
        (403, None, "a token is needed"),
        (403, Some("hf_x"), "its owner must have access to the repository"),
        (404, None, "hf://me/mine/a.gguf: there is no such file (404"),
        (418, None, "the server answers 418"),
        (500, None, "the server answers 500 Internal Server Error, 4 times in a row"),
        (429, None, "the server answers 429 Too Many Requests, 4 times in a row"),
    ] {
        let host = Host::start(move |_| {
            Reply::status(status).header("x-error-message", "as it is").header("retry-after", "9999")
        });
        let mut asker = Asker::of(&host);
        asker.settings.token = Token::find(token, &|_| None).expect("fine");
        let error = asker.pull().expect_err("it is refused").to_string();
        assert!(error.replace(": as it is", "").contains(said), "{error}");
        let tries = if matches!(status, 429 | 500) { 4 } else { 1 };
        assert_eq!(host.seen().len(), tries, "{status}");
        assert!(asker.files().is_empty());
    }
}

#[test]
fn nobody_there_is_said_after_some_tries() {
    let url = Host::start(|_| Reply::status(200)).url();
    let host = Host::start(|_| Reply::status(200));
    let mut asker = Asker::of(&host);
    asker.settings.endpoint = url.parse().expect("an address");
    asker.fails("no connection (");
    assert!(asker.heard("trying again"));
}

#[test]
fn the_token_goes_to_the_endpoint_and_not_to_where_it_points() {
    let bytes = model(100_000, 0);
    let served = bytes.clone();
    let store = Host::start(move |request| Reply::file(request, &served, "\"store\""));
    let (url, linked, size) = (format!("{}/signed?key=secret", store.url()), sum(&bytes), bytes.len().to_string());
    let host = Host::start(move |_| {
        Reply::redirect(&url).header("x-linked-etag", &format!("\"{linked}\"")).header("x-linked-size", &size)
    });
    let mut asker = Asker::of(&host);
    asker.settings.token = Token::find(Some("hf_secret"), &|_| None).expect("fine");
    asker.gets(&bytes);
    assert_eq!(host.seen()[0].target, "/me/mine/resolve/main/a.gguf");
    assert_eq!(host.seen()[0].header("authorization"), Some("Bearer hf_secret"));
    assert_eq!(store.seen()[0].target, "/signed?key=secret");
    assert_eq!(store.seen()[0].header("authorization"), None);
    let origin = String::from_utf8(common::read(&asker.store().path("a.gguf.origin"))).expect("text");
    assert!(origin.contains(&sum(&bytes)) && !origin.contains("secret"), "{origin}");

    // Nor to an address of anyone else.
    let mut asker = Asker { settings: asker.settings.clone(), ..Asker::of(&host) };
    asker.pull_from(&format!("{}/a.gguf", store.url())).expect("it is there");
    assert_eq!(store.seen()[1].header("authorization"), None);
}

#[test]
fn redirects_have_an_end_and_do_not_lead_astray() {
    let host = Host::start(|_| Reply::redirect("/again"));
    Asker::of(&host).fails("more than 10 redirects");
    let host = Host::start(|_| Reply::redirect("ftp://elsewhere/a.gguf"));
    Asker::of(&host).fails("a redirect from http to ftp is not followed");
    let host = Host::start(|_| Reply::status(302));
    Asker::of(&host).fails("a redirect to nowhere");
}

#[test]
fn a_signed_address_that_is_too_old_is_asked_for_again() {
    let bytes = model(100_000, 0);
    let served = bytes.clone();
    let store = Host::start(move |request| match request.number {
        0 => Reply::status(403),
        _ => Reply::file(request, &served, "\"x\""),
    });
    let url = store.url();
    let host = Host::start(move |_| Reply::redirect(&url));
    Asker::of(&host).gets(&bytes);
    assert_eq!(host.seen().len(), 2);
}

#[test]
fn a_file_that_is_there_costs_no_request() {
    let bytes = model(100_000, 0);
    let host = Host::start(|_| Reply::status(500));
    let mut asker = Asker::of(&host);
    asker.leave("", &bytes);
    assert_eq!(asker.pull().expect("it is there"), asker.path());
    assert_eq!(asker.store().linked(), Some(asker.path()));
    assert!(host.seen().is_empty());

    // One of another repository, one that was cut, and one that never was a model are named, not replaced.
    asker.leave(".origin", br#"{"source": "hf://you/yours/a.gguf"}"#);
    let error = asker.pull().expect_err("another file").to_string();
    assert!(error.contains("is there already and came from hf://you/yours/a.gguf; --dir"), "{error}");
    asker.leave(".origin", br#"{"source": "hf://me/mine/a.gguf", "size": 5}"#);
    let error = asker.pull().expect_err("another size").to_string();
    assert!(error.contains("and should have 5; remove it and pull again"), "{error}");
    std::fs::remove_file(asker.store().path("a.gguf.origin")).expect("removed");
    asker.leave("", &bytes[..5000]);
    let error = asker.pull().expect_err("cut").to_string();
    assert!(error.contains("is there but no whole model"), "{error}");
    assert_eq!(asker.store().state("a.gguf"), State::There(5000));
    assert!(host.seen().is_empty());
}

#[test]
fn what_aria2_left_is_an_error() {
    let host = Host::start(|_| Reply::status(500));
    for suffix in [".aria2", ".part.aria2"] {
        let mut asker = Asker::of(&host);
        asker.leave(suffix, b"");
        asker.fails("aria2 left an unfinished download here");
    }
    // It makes the file as long as it will be; the header may be there, and nothing else.
    let mut asker = Asker::of(&host);
    let mut half = model(100_000, 0);
    half[50_000..].fill(0);
    asker.leave("", &half);
    asker.leave(".aria2", b"");
    let error = asker.pull().expect_err("half a file").to_string();
    assert!(error.contains("aria2 left an unfinished download here"), "{error}");
    assert_eq!(asker.store().linked(), None);
    assert!(host.seen().is_empty());
}

#[test]
fn drafting_weights_leave_the_link_alone() {
    let (main, drafts) = (model(50_000, 0), drafting(50_000));
    let host = Host::start(move |request| match request.target.ends_with("/a.gguf") {
        true => Reply::file(request, &main, "\"a\""),
        false => Reply::file(request, &drafts, "\"b\""),
    });
    let mut asker = Asker::of(&host);
    asker.pull_from("hf://me/mine/drafts.gguf").expect("it is there");
    assert_eq!(asker.store().linked(), None);
    asker.pull().expect("it is there");
    asker.pull_from("hf://me/mine/drafts.gguf").expect("it is there");
    assert_eq!(asker.store().linked(), Some(asker.path()));
}
