//! `ds4 serve`: the process, HTTP, and limits.

mod common;

use std::io::{BufRead, BufReader};

use common::server::{Server, ask};
use common::{Home, said};
use serde_json::{Value, json};

#[test]
fn models_are_listed_with_their_context() {
    // H053, H054
    let server = Server::start(&["-c", "1000", "-n", "300"]);
    let list = server.get("/v1/models").ok();
    assert_eq!(list["object"], "list");
    let model = &list["data"][0];
    assert_eq!((&model["object"], &model["context_length"]), (&json!("model"), &json!(1000)));
    assert_eq!(model["top_provider"]["max_completion_tokens"], 300);
    let id = model["id"].as_str().unwrap();
    assert_eq!(&server.get(&format!("/v1/models/{id}")).ok(), model);
    assert_eq!(server.get("/v1/models/deepseek-v4-flash").ok()["id"], "deepseek-v4-flash");
    assert!(server.get("/v1/models/gpt").error(404).contains("no model \"gpt\""));

    let server = Server::start(&["-c", "1000"]);
    assert_eq!(server.get("/v1/models").ok()["data"][0]["top_provider"]["max_completion_tokens"], 1000);
}

#[test]
fn paths_and_methods_that_are_not_there_are_named() {
    // H055
    let server = Server::start(&[]);
    assert_eq!(server.get("/v1/nothing?a=b").error(404), "unknown endpoint: /v1/nothing");
    assert_eq!(server.post("/v1", &json!({})).error(404), "unknown endpoint: /v1");
    assert_eq!(server.get("/v1/messages").error(405), "/v1/messages does not answer GET; use POST");
    assert_eq!(server.post("/health", &json!({})).error(405), "/health does not answer POST; use GET");
}

#[test]
fn keys_query_strings_and_unknown_fields_do_not_matter() {
    // H058, H059, H060
    let server = Server::start(&[]);
    let mut body = ask("7+8");
    body["model"] = "anything/at-all".into();
    body["user"] = "me".into();
    body["unknown"] = json!({"deep": [[[{}]]]});
    let headers = "Authorization: Bearer none\r\nx-api-key: none\r\nanthropic-version: 1\r\n";
    let path = "/v1/chat/completions?beta=true";
    let answer = server.open("POST", path, headers, body.to_string().as_bytes()).ok();
    assert_eq!(answer["model"], "anything/at-all");
    assert_eq!(answer["choices"][0]["message"]["content"], "15");
}

#[test]
fn other_origins_are_let_in_only_with_cors() {
    // H061, H062
    let origin = "access-control-allow-origin";
    let server = Server::start(&[]);
    let options = server.open("OPTIONS", "/anything", "", b"");
    assert_eq!((options.status, options.header(origin)), (204, None));
    assert_eq!(server.get("/v1/models").header(origin), None);

    let server = Server::start(&["--cors"]);
    let options = server.open("OPTIONS", "/anything", "", b"");
    assert_eq!((options.status, options.header(origin)), (204, Some("*")));
    assert_eq!(options.header("access-control-allow-methods"), Some("GET, POST, OPTIONS"));
    assert_eq!(options.header("access-control-allow-headers"), Some("*"));
    let mut body = ask("Hello");
    for stream in [false, true] {
        body["stream"] = stream.into();
        assert_eq!(server.post("/v1/chat/completions", &body).header(origin), Some("*"));
    }
    assert_eq!(server.get("/nowhere").header(origin), Some("*"));
}

#[test]
fn headers_and_bodies_have_limits() {
    // H056
    let server = Server::start(&[]);
    let field = |n: usize| format!("X: {}\r\n", "a".repeat(n));
    assert_eq!(server.open("GET", "/health", &field(60_000), b"").status, 200);
    assert_eq!(
        server.open("GET", "/health", &field(66_000), b"").error(431),
        "the headers are larger than 65536 bytes"
    );
    assert_eq!(server.open("GET", "/health", &field(1_000_000), b"").status, 431);

    // The length is enough to refuse; nothing needs to be sent.
    let answer = server.raw(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 67108865\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let long = [b"{\"messages\": \"".to_vec(), vec![b'a'; 64 << 20]].concat();
    let chunk = [format!("{:x}\r\n", long.len()).into_bytes(), long, b"\r\n0\r\n\r\n".to_vec()].concat();
    let head = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let answer = server.raw(&[head, chunk].concat());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(server.health()["status"], "ok");
}

#[test]
fn json_that_is_none_is_refused_with_its_place() {
    // H057
    let server = Server::start(&[]);
    let post = |body: &str| server.open("POST", "/v1/chat/completions", "", body.as_bytes()).error(400);
    assert!(post("{\"messages\": [").starts_with("invalid JSON request: messages: EOF"));
    assert!(post("").contains("not a JSON object"));
    assert!(post("{}").contains("missing messages"));
    assert!(post(r#"{"messages": [{"role": "user", "content": 5}]}"#).contains("messages[0].content: invalid type"));
    assert!(post(r#"{"messages": [{"role": "robot"}]}"#).contains("messages[0].role: unknown variant `robot`"));
    assert!(post(r#"{"messages": []}"#).contains("messages: the list is empty"));
    let many = format!("{{\"messages\": [{}{{\"role\":\"user\"}}]}}", "{\"role\":\"user\"},".repeat(1 << 17));
    assert!(post(&many).contains(": more than 131072 items"));
    let nested = |n: usize| format!("{{\"messages\": [], \"x\": {}{}}}", "[".repeat(n), "]".repeat(n));
    assert!(post(&nested(255)).contains("the list is empty"), "256 levels are read");
    assert!(post(&nested(256)).contains("nested more than 256 levels deep"));
    let error = server.open("POST", "/v1/messages", "", b"{").json();
    assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
}

#[test]
fn health_shows_the_queue() {
    let health = Server::start(&["--queue", "7", "-c", "500"]).health();
    assert_eq!((&health["status"], &health["running"], &health["waiting"]), (&json!("ok"), &json!(0), &json!(0)));
    assert_eq!((&health["waiting_limit"], &health["context_length"]), (&json!(7), &json!(500)));
}

#[test]
fn the_folder_changes_before_the_model_is_opened() {
    // H050
    let home = Home::new();
    std::fs::create_dir(home.file("there")).unwrap();
    std::fs::copy(common::model(), home.file("there/ds4flash.gguf")).unwrap();
    let server = Server::start_in(home, &["--chdir", "there"]);
    assert!(!server.log().contains("built-in"), "{}", server.log());
    let home = Home::new();
    let line = "ds4: --chdir nowhere: No such file or directory (os error 2)";
    home.ds4(&["serve", "--chdir", "nowhere"]).fails(1, line);
}

#[test]
fn an_address_that_is_taken_or_unknown_is_named() {
    // H049
    let server = Server::start(&["--host", "localhost"]);
    let port = server.port.to_string();
    let said = Home::new().ds4(&["serve", "--port", &port]);
    assert_eq!(said.code, 1);
    let line = said.err.lines().last().unwrap();
    assert!(line.starts_with(&format!("ds4: cannot listen at 127.0.0.1:{port}: ")), "{line}");
    assert!(line.ends_with("; see --host and --port"), "{line}");
    let said = Home::new().ds4(&["serve", "--host", "no such host"]);
    assert!(said.code == 1 && said.err.contains("cannot listen at no such host:8000"), "{}", said.err);
}

#[test]
fn flags_are_checked_and_explained() {
    let home = Home::new();
    home.ds4(&["serve", "--port", "70000"])
        .fails(2, "ds4: invalid value for --port: 70000 (a whole number from 0 to 65535)");
    home.ds4(&["serve", "--tool-memory-max-ids=0"])
        .fails(2, "ds4: invalid value for --tool-memory-max-ids: 0 (a whole number from 1 to 2147483647)");
    let said = home.ds4(&["serve", "--frobnicate"]);
    assert!(said.err.contains("Usage: ds4 serve"), "{}", said.err);
    said.fails(2, "ds4: unknown option --frobnicate; ds4 serve --help lists what there is");
    let help = home.ds4(&["serve", "--help"]);
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.contains("127.0.0.1") && help.out.contains("8000") && help.out.contains("curl "));
    assert_eq!(home.ds4(&["serve", "--cuda"]).code, 2);
}

#[test]
fn the_usual_name_is_the_same_program() {
    let home = Home::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ds4-server"));
    let help = said(command.arg("--help").env("HOME", home.path()).output().unwrap());
    assert_eq!(help.answer(), home.ds4(&["serve", "--help"]).answer());
}

#[test]
fn a_log_that_nobody_reads_does_not_end_the_service() {
    let home = Home::new();
    let mut command = home.command(&["serve", "--port", "0"]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("listening")).unwrap();
    drop(lines); // the pipe is closed now
    let port = line.rsplit(':').next().unwrap().parse().unwrap();
    let server = Server::of(child, port, home);
    for _ in 0..2 {
        assert_eq!(server.chat(ask("What is 7 + 8?"))["choices"][0]["message"]["content"], "15");
    }
}

#[test]
fn private_texts_are_written_only_with_trace() {
    // H071
    let server = Server::start(&["--trace", "trace.txt"]);
    server.chat(ask("Reply with exactly: green falcon"));
    let trace = std::fs::read_to_string(server.home.file("trace.txt")).unwrap();
    for part in [
        " took: 0 tokens from memory; queued ",
        "Reply with exactly: green falcon<｜Assistant｜>",
        "cache: 0 of ",
        "\n-- text\ngreen falcon\n",
    ] {
        assert!(trace.contains(part), "{trace}");
    }
    assert!(!server.log().contains("falcon"));
    let said = Home::new().ds4(&["serve", "--trace", "/nowhere/trace"]);
    said.fails(1, "ds4: /nowhere/trace: No such file or directory (os error 2)");
}

#[test]
fn a_prompt_that_leaves_no_room_is_refused_with_numbers() {
    // H064, H065
    let server = Server::start(&["-c", "50"]);
    let body = json!({"messages": [{"role": "user", "content": "river stone ".repeat(40)}], "max_tokens": 9});
    let check = |error: &Value| {
        assert_eq!(error["n_ctx"], 50);
        assert!(error["n_prompt_tokens"].as_u64().unwrap() > 50);
        assert!(error["message"].as_str().unwrap().starts_with("prompt is too long: "), "{error}");
    };
    let answer = server.post("/v1/chat/completions", &body);
    assert_eq!(answer.status, 400);
    let error = &answer.json()["error"];
    check(error);
    assert_eq!((&error["code"], &error["param"]), (&json!("context_length_exceeded"), &json!("messages")));
    for path in ["/v1/messages", "/v1/messages/count_tokens"] {
        let answer = server.post(path, &body);
        assert_eq!(answer.status, 400);
        let error = answer.json();
        assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
        check(&error["error"]);
    }
}

#[test]
fn a_request_by_the_name_of_a_web_site_is_refused_unless_others_are_let_in() {
    let get =
        |server: &Server, host: &str| server.raw(format!("GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    let server = Server::start(&[]);
    let refused = get(&server, "evil.example:8000");
    assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("not to \\\"evil.example:8000\\\""), "{refused}");
    for host in ["127.0.0.1:8000", "localhost", "[::1]:1"] {
        assert!(get(&server, host).starts_with("HTTP/1.1 200 "), "{host}");
    }
    assert!(server.raw(b"GET /health HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200 "), "no name");
    for args in [&["--cors"][..], &["--host=0.0.0.0", "--insecure"], &["--api-key=x"]] {
        assert!(get(&Server::start(args), "ds4.example").starts_with("HTTP/1.1 200 "), "{args:?}");
    }
}
