//! What was computed once outlives the server: on a disk, and in a store that several servers share.

mod common;

use std::path::{Path, PathBuf};

use common::Home;
use common::server::{Server, ask};
use ds4_testkit::s3;
use serde_json::{Value, json};

/// A server that keeps prefixes in a folder.
fn server(dir: &Path, more: &[&str]) -> Server {
    let dir = dir.display().to_string();
    Server::start(&[&["--kv-disk-dir", &dir, "--kv-cache-min-tokens", "1"], more].concat())
}

/// A conversation of some 2,400 tokens that has something to say.
fn long() -> Value {
    let mut body = ask(&("river stone ".repeat(600) + "What is 7 + 8?"));
    body["max_tokens"] = 20.into();
    body
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

fn usage(answer: &Value) -> (u64, u64) {
    let usage = &answer["usage"];
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    (cached, usage["prompt_tokens"].as_u64().unwrap())
}

/// The conversation with the answer and another question.
fn next_turn(mut body: Value, answer: &Value) -> Value {
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(answer["choices"][0]["message"].clone());
    messages.push(json!({"role": "user", "content": "What is 2 + 3?"}));
    body
}

/// The files of segments under a folder.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let under = |path: PathBuf| match path.is_dir() {
        true => segments(&path),
        false => vec![path],
    };
    entries.flat_map(under).filter(|path| path.extension().is_some_and(|end| end == "seg")).collect()
}

fn end(mut server: Server) {
    server.signal("TERM");
    assert!(server.exit().success());
}

#[test]
fn a_restarted_server_computes_nothing_twice() {
    // H145, H151, H152
    let home = Home::new();
    let dir = home.file("a/b/kv");
    let first = server(&dir, &[]);
    let cold = first.chat(long());
    end(first);
    let second = server(&dir, &[]);
    let again = second.chat(long());
    assert_eq!(content(&again), content(&cold));
    let (cached, prompt) = usage(&again);
    assert!(cached + 2 > prompt, "all but what the template adds: {cached} of {prompt}");
    let next = second.chat(next_turn(long(), &cold));
    assert!(usage(&next).0 >= prompt);
}

#[test]
fn a_killed_server_has_kept_what_it_read() {
    // H147, H160
    let home = Home::new();
    let first = server(&home.file("kv"), &[]);
    let cold = first.chat(long());
    first.wait(|| !segments(&home.file("kv")).is_empty());
    drop(first); // kill -9
    let second = server(&home.file("kv"), &[]);
    let again = second.chat(long());
    assert_eq!(content(&again), content(&cold));
    assert!(usage(&again).0 >= 2048, "{:?}", usage(&again));
}

#[test]
fn damaged_files_cost_a_recomputation_and_nothing_else() {
    // H161
    let home = Home::new();
    let first = server(&home.file("kv"), &[]);
    let cold = first.chat(long());
    end(first);
    for (i, path) in segments(&home.file("kv")).iter().enumerate() {
        let mut bytes = std::fs::read(path).unwrap();
        let at = bytes.len() / 2;
        if i % 2 == 0 {
            bytes.truncate(at)
        } else {
            bytes[at] ^= 1
        }
        std::fs::write(path, bytes).unwrap();
    }
    let second = server(&home.file("kv"), &[]);
    let again = second.chat(long());
    assert_eq!((content(&again), usage(&again).0), (content(&cold), 0));
    second.wait_for_log("is damaged, removed: ");
}

#[test]
fn the_space_is_kept() {
    // H157, H159
    let home = Home::new();
    let server = server(&home.file("kv"), &["--kv-disk-space-mb", "1"]);
    for topic in 0..4 {
        let mut body = ask(&format!("{topic} {}", "river stone ".repeat(600)));
        body["max_tokens"] = 1.into();
        server.chat(body);
    }
    end(server);
    let bytes: u64 = segments(&home.file("kv")).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes <= 1 << 20, "{bytes}");
}

#[test]
fn a_folder_that_cannot_be_used_does_not_keep_the_server_from_starting() {
    let home = Home::new();
    std::fs::write(home.file("file"), "").unwrap();
    let server = server(&home.file("file/kv"), &[]);
    assert_eq!(content(&server.chat(ask("What is 7 + 8?"))), "15");
    assert!(server.log().contains("nothing is kept on disk"), "{}", server.log());
}

/// A server that shares a store.
fn sharing(store: &s3::Server) -> Server {
    Server::start_with(Home::new(), &["--kv-store", "s3://cache/kv", "--kv-cache-min-tokens", "1"], store.environment())
}

#[test]
fn a_conversation_goes_on_at_another_server_after_the_first_died() {
    let objects = Home::new();
    let store = s3::Server::start(objects.path(), 0);
    let (one, other) = (sharing(&store), sharing(&store));
    let answer = one.chat(long());
    one.wait(|| !segments(objects.path()).is_empty());
    drop(one); // kill -9
    let next = other.chat(next_turn(long(), &answer));
    assert_eq!(content(&next), "5");
    assert!(usage(&next).0 >= 2048, "{:?}", usage(&next));
    // Without the store, from its own memory.
    drop(store);
    let again = other.chat(next_turn(long(), &answer));
    assert_eq!(content(&again), "5");
}
