//! What clients see, byte by byte, when the model writes what a script says: every answer of all APIs, whole and streamed,
//! is kept in `tests/wire/`. `UPDATE_GOLDEN=1 cargo test -p ds4-server wire` writes these files anew.

mod clients;
mod responses;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request as HttpRequest;
use ds4_dialog::Turns;
use ds4_engine::{Event, Finish, Model, Options, Request, Token, Usage};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

use crate::routes::router;
use crate::server::Server;
use crate::source::{Source, Submitted};
use crate::trace::Trace;
use crate::worker::work;
use crate::{Config, Error};

static MODEL: LazyLock<Arc<Model>> =
    LazyLock::new(|| Arc::new(Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap()));

/// Gives the same tokens to every request. With [`Finish::Cancelled`] it ends when its client leaves, who does so at the
/// sign [`LEAVES`].
struct Script {
    tokens: Vec<u32>,
    end: Result<Finish, &'static str>,
    options: Options,
    /// The prompts so far.
    asked: Mutex<Vec<Vec<u32>>>,
    /// How many clients have left.
    left: AtomicUsize,
}

const LEAVES: &str = "~";

impl Script {
    fn new(tokens: Vec<u32>, end: Result<Finish, &'static str>) -> Self {
        let options = Options { context: 4096, sessions: 1, ..Options::default() };
        Self { tokens, end, options, asked: Mutex::default(), left: AtomicUsize::new(0) }
    }

    /// Whether a client who has read this leaves.
    fn leaves(&self, bytes: &[u8]) -> bool {
        self.end == Ok(Finish::Cancelled) && String::from_utf8_lossy(bytes).contains(LEAVES)
    }

    /// Waits until the client has left.
    fn wait(&self, cancelled: &AtomicBool) {
        for _ in 0..10_000 {
            if cancelled.load(SeqCst) {
                self.left.fetch_add(1, SeqCst);
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Source for Script {
    fn submit(&self, request: Request) -> Result<Submitted<'_>, Error> {
        let total = request.tokens.len();
        let usage = Usage { prompt: total, generated: self.tokens.len(), ..Usage::default() };
        let end = match self.end {
            Ok(finish) => Event::Finished(finish, usage),
            Err(why) => Event::Failed(why.into()),
        };
        let tokens = self.tokens.iter().map(|id| Event::Token(Token { id: *id, observed: None }));
        self.asked.lock().unwrap().push(request.tokens);
        let before = [Event::Prefill { done: 0, total }, Event::Prefill { done: total, total }];
        let flag = Arc::new(AtomicBool::new(false));
        let cancelled = Arc::clone(&flag);
        let end = std::iter::once_with(move || {
            if self.end == Ok(Finish::Cancelled) {
                self.wait(&cancelled);
            }
            end
        });
        Ok((Box::new(before.into_iter().chain(tokens).chain(end)), flag))
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn options(&self) -> &Options {
        &self.options
    }
}

/// Status and body.
type Answer = (u16, String);

/// A title, a path, and what is posted there.
type Asked = (&'static str, &'static str, Value);

/// A server whose model writes `text`.
fn serve<T>(
    text: &str,
    end: Result<Finish, &'static str>,
    test: impl FnOnce(&dyn Fn(&str, &Value) -> Answer) -> T,
) -> T {
    perform(&Arc::new(Script::new(MODEL.tokenizer.encode(text), end)), test)
}

/// A server whose model follows the script.
fn perform<T>(script: &Arc<Script>, test: impl FnOnce(&dyn Fn(&str, &Value) -> Answer) -> T) -> T {
    let turns = Some(Arc::new(Turns::new(9)));
    let config = Config { max_tokens: 1000, turns, ..Config::default() };
    let engine: Arc<dyn Source> = Arc::<Script>::clone(script);
    let server = Arc::new(Server::new(engine, Arc::clone(&MODEL), &config, Trace::new(None).unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| work(&server));
        let _close = Close(&server);
        let service = TowerToHyperService::new(router(Arc::clone(&server)));
        test(&|path, body| {
            let request = HttpRequest::post(path).body(Body::from(body.to_string())).unwrap();
            runtime.block_on(async {
                let response = service.call(request).await.unwrap();
                let status = response.status().as_u16();
                let (mut body, mut bytes) = (response.into_body(), Vec::new());
                while let Some(frame) = body.frame().await {
                    bytes.extend(frame.unwrap().into_data().unwrap_or_default());
                    if script.leaves(&bytes) {
                        break;
                    }
                }
                (status, String::from_utf8(bytes).unwrap())
            })
        })
    })
}

/// Lets the worker end, also when a test fails.
struct Close<'s>(&'s Server);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

/// Whether an event is a sign of life, which depends on the clock.
fn is_alive(event: &str) -> bool {
    [": ", "event: ping\n", "event: keepalive\n"].iter().any(|start| event.starts_with(start))
}

/// Where a text begins that is an id with this prefix.
fn find_id(answer: &str, prefix: &str) -> Option<usize> {
    let places = answer.match_indices(&format!("\"{prefix}")).map(|(at, _)| at + 1).collect::<Vec<_>>();
    places.into_iter().find(|at| !answer[*at..].starts_with("call_id\""))
}

/// What is different every time, replaced: ids by their order, times by nothing; signs of life depend on the clock.
fn normal(answer: &str) -> String {
    let mut ids: Vec<String> = Vec::new();
    let mut out = String::new();
    let mut rest = answer.split_inclusive("\n\n").filter(|event| !is_alive(event)).collect::<String>();
    while let Some(at) = rest.find(",\"timings\":{") {
        let end = at + rest[at..].find('}').unwrap();
        rest.replace_range(at..=end, "");
    }
    while let Some((at, prefix)) = ["chatcmpl-", "msg_", "call_", "toolu_", "resp_", "rs_", "fc_", "ctc_", "tsc_"]
        .iter()
        .filter_map(|p| Some((find_id(&rest, p)?, p)))
        .min()
    {
        let end = at + rest[at..].find('"').unwrap();
        let id = rest[at..end].to_owned();
        let known = ids.iter().position(|other| *other == id).unwrap_or_else(|| {
            ids.push(id);
            ids.len() - 1
        });
        out += &format!("{}{prefix}{known}", &rest[..at]);
        rest = rest[end..].to_owned();
    }
    out += &rest;
    for field in ["\"created\":", "\"created_at\":"] {
        let mut parts = out.split(field);
        let first = parts.next().unwrap_or_default().to_owned();
        out = parts.fold(first, |all, part| all + field + "0" + part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

/// What all APIs are asked.
#[derive(Clone, Copy)]
struct Ask {
    think: bool,
    tools: bool,
    stop: Option<&'static str>,
}

const PLAIN: Ask = Ask { think: false, tools: false, stop: None };
const TOOLS: Ask = Ask { think: true, tools: true, stop: None };

impl Ask {
    fn chat(self, stream: bool) -> Value {
        let parameters =
            json!({"type": "object", "properties": {"path": {"type": "string"}, "lines": {"type": "integer"}}});
        let tool = json!({"type": "function", "function": {"name": "read", "parameters": parameters}});
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "q"}], "think": self.think});
        if stream {
            body["stream"] = true.into();
            body["stream_options"] = json!({"include_usage": true});
        }
        if self.tools {
            body["tools"] = json!([tool]);
        }
        if let Some(stop) = self.stop {
            body["stop"] = stop.into();
        }
        body
    }

    fn messages(self, stream: bool) -> Value {
        let chat = self.chat(false);
        let kind = if self.think { "adaptive" } else { "disabled" };
        let mut body =
            json!({"model": "m", "max_tokens": 1000, "messages": chat["messages"], "thinking": {"type": kind}});
        body["stream"] = stream.into();
        if self.tools {
            let function = &chat["tools"][0]["function"];
            body["tools"] = json!([{"name": function["name"], "input_schema": function["parameters"]}]);
        }
        if let Some(stop) = self.stop {
            body["stop_sequences"] = json!([stop]);
        }
        body
    }

    /// The same to each API, whole and streamed.
    fn all(self) -> [Asked; 6] {
        [
            ("chat", "/v1/chat/completions", self.chat(false)),
            ("chat, streamed", "/v1/chat/completions", self.chat(true)),
            ("messages", "/v1/messages", self.messages(false)),
            ("messages, streamed", "/v1/messages", self.messages(true)),
            ("responses", "/v1/responses", self.responses(false)),
            ("responses, streamed", "/v1/responses", self.responses(true)),
        ]
    }

    fn responses(self, stream: bool) -> Value {
        let chat = self.chat(false);
        let effort = if self.think { "medium" } else { "none" };
        let mut body = json!({"model": "m", "input": "q", "reasoning": {"effort": effort, "summary": "auto"}});
        body["stream"] = stream.into();
        if self.tools {
            let function = &chat["tools"][0]["function"];
            let (name, parameters) = (&function["name"], &function["parameters"]);
            body["tools"] = json!([{"type": "function", "name": name, "parameters": parameters}]);
        }
        if let Some(stop) = self.stop {
            body["stop"] = stop.into();
        }
        body
    }
}

/// Asks all of the APIs, and compares with the file.
#[track_caller]
fn assert_golden(name: &str, ask: Ask, text: &str, end: Result<Finish, &'static str>) {
    assert_answers(name, text, end, &ask.all());
}

/// Asks each of these, and compares with the file.
#[track_caller]
fn assert_answers(name: &str, text: &str, end: Result<Finish, &'static str>, asks: &[Asked]) {
    let answers = serve(text, end, |post| all_answers(text, asks, post));
    compare(name, &answers);
}

fn all_answers(text: &str, asks: &[Asked], post: &dyn Fn(&str, &Value) -> Answer) -> String {
    let mut answers = format!("The model writes:\n{text}\n");
    for (title, path, body) in asks {
        let (status, body) = post(path, body);
        answers += &format!("\n== {title}\n{status}\n{}", normal(&body));
    }
    answers
}

#[track_caller]
fn compare(name: &str, answers: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/wire/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, answers).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(answers, expected, "{}: UPDATE_GOLDEN=1 writes it anew", file.display());
}

const STOP: Result<Finish, &str> = Ok(Finish::Stop);
const LENGTH: Result<Finish, &str> = Ok(Finish::Length);

/// A call of `read`.
fn invoke(path: &str, lines: &str) -> String {
    format!(
        "<｜DSML｜invoke name=\"read\">\n<｜DSML｜parameter name=\"path\" string=\"true\">{path}</｜DSML｜parameter>\n\
         <｜DSML｜parameter name=\"lines\" string=\"false\">{lines}</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
    )
}

fn block(calls: &str) -> String {
    format!("\n\n<｜DSML｜tool_calls>\n{calls}</｜DSML｜tool_calls>")
}

#[test]
fn text() {
    assert_golden("text", PLAIN, "The answer is 42.", STOP);
}

#[test]
fn reasoning() {
    assert_golden("reasoning", Ask { think: true, ..PLAIN }, "let me see</think>42", STOP);
    assert_golden("only_reasoning", Ask { think: true, ..PLAIN }, "let me", LENGTH);
}

#[test]
fn tools() {
    // H092, H095, H105, H120
    let call = block(&invoke("a \"b\"\n.rs", "10"));
    assert_golden("tool", TOOLS, &format!("hm</think>I read it.{call} and nothing after it"), STOP);
    assert_golden("tool_only", Ask { think: false, ..TOOLS }, &call, STOP);
}

#[test]
fn parallel_tools() {
    // H093
    let calls = block(&(invoke("a", "1") + &invoke("b", "\"2\"")));
    assert_golden("parallel_tools", TOOLS, &format!("hm</think>{calls}"), STOP);
}

#[test]
fn tools_in_reasoning_that_never_ends() {
    assert_golden("tool_in_reasoning", TOOLS, &format!("I read it.{}", block(&invoke("a", "1"))), STOP);
}

#[test]
fn tools_that_break_off() {
    // H100, H101
    let calls = block(&(invoke("a", "1") + &invoke("b", "2")));
    let cut = calls.rfind("2</").unwrap();
    assert_golden("tool_cut", Ask { think: false, ..TOOLS }, &format!("I read it.{}", &calls[..cut]), LENGTH);
    let first = block(&invoke("a", "1"));
    let cut = first.find("</").unwrap();
    assert_golden("tool_unterminated", Ask { think: false, ..TOOLS }, &first[..cut], STOP);
    assert_golden("tool_unparsable", Ask { think: false, ..TOOLS }, &block("read a\n"), STOP);
}

#[test]
fn tools_that_are_not_on_offer() {
    // H097
    assert_golden("tools_not_offered", PLAIN, &block(""), STOP);
    let raw = block(&invoke("a", "1"));
    serve(&raw, STOP, |post| {
        for (path, mut body, none) in [
            ("/v1/chat/completions", TOOLS.chat(false), json!("none")),
            ("/v1/messages", TOOLS.messages(false), json!({"type": "none"})),
            ("/v1/responses", TOOLS.responses(false), json!("none")),
        ] {
            body["tool_choice"] = none;
            let (_, answer) = post(path, &body);
            assert!(
                answer.contains("tool_calls>")
                    && !["\"tool_calls\"", "tool_use", "function_call"].iter().any(|word| answer.contains(word))
            );
        }
    });
}

#[test]
fn completions_tell_nothing_apart() {
    let raw = format!("hm</think>{}", block(&invoke("a", "1")));
    let body = json!({"prompt": "q", "tools": TOOLS.chat(false)["tools"]});
    serve(&raw, STOP, |post| {
        let (_, answer) = post("/v1/completions", &body);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            (&answer["choices"][0]["text"], &answer["choices"][0]["finish_reason"]),
            (&json!(raw), &json!("stop"))
        );
    });
}

#[test]
fn completions_can_have_several_answers() {
    let mut body = json!({"prompt": "q", "think": false, "n": 3, "seed": 5});
    serve("The answer is 42.", STOP, |post| {
        let (_, answer) = post("/v1/completions", &body);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let choices = answer["choices"].as_array().unwrap().iter();
        let texts: Vec<_> = choices.map(|c| (c["index"].as_u64().unwrap(), c["text"].as_str().unwrap())).collect();
        assert_eq!(texts, [0, 1, 2].map(|i| (i, "The answer is 42.")));
        let tokens = answer["usage"]["completion_tokens"].as_u64().unwrap();

        (body["stream"], body["stream_options"]) = (true.into(), json!({"include_usage": true}));
        let (_, events) = post("/v1/completions", &body);
        let chunks = events.split("\n\n").filter_map(|event| event.strip_prefix("data: {"));
        let chunks: Vec<Value> = chunks.map(|data| serde_json::from_str(&format!("{{{data}")).unwrap()).collect();
        let (mut texts, mut finished) = (vec![String::new(); 3], 0);
        for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
            texts[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
            finished += usize::from(choice["finish_reason"] == "stop");
        }
        assert_eq!((texts, finished), (vec!["The answer is 42.".to_owned(); 3], 3));
        assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], tokens);
        assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]) && events.ends_with("data: [DONE]\n\n"));

        body["n"] = 9.into();
        let (status, error) = post("/v1/completions", &body);
        assert!(status == 400 && error.contains("n: 9 answers, at most 8 are possible"), "{error}");
    });
}

/// Reasoning, a text and calls, each character of which is a token.
fn spelled(reasoning: &str, text: &str, calls: &str) -> Vec<u32> {
    let tokenizer = &MODEL.tokenizer;
    let spell = |text: &str| text.chars().flat_map(|c| tokenizer.encode_inert(&c.to_string())).collect::<Vec<_>>();
    let id = |token: &str| tokenizer.id(token).unwrap();
    let calls = calls.split("｜DSML｜").map(spell).collect::<Vec<_>>().join(&id("｜DSML｜"));
    [spell(reasoning), vec![id("</think>")], spell(text), calls].concat()
}

#[test]
fn calls_come_back_with_the_tokens_with_which_they_were_sampled() {
    // H107: each character is a token, which is how no text is tokenised.
    let tokenizer = &MODEL.tokenizer;
    let script =
        Arc::new(Script::new(spelled("hm", "I read it.", &block(&(invoke("a", "1") + &invoke("b", "2")))), STOP));
    perform(&script, |post| {
        let mut body = TOOLS.chat(false);
        let (_, answer) = post("/v1/chat/completions", &body);
        let mut message = serde_json::from_str::<Value>(&answer).unwrap()["choices"][0]["message"].take();
        let ids = [&message["tool_calls"][0]["id"], &message["tool_calls"][1]["id"]].map(Value::clone);
        message["tool_calls"][0]["function"]["arguments"] = json!("{\"lines\": 1.0, \"path\": \"a\"}");
        let results = ids.map(|id| json!({"role": "tool", "tool_call_id": id, "content": "done"}));
        body["messages"].as_array_mut().unwrap().extend([&[message][..], &results].concat());
        post("/v1/chat/completions", &body);
        let asked = script.asked.lock().unwrap();
        let sampled = [&asked[0][..], &script.tokens, &[tokenizer.eos()]].concat();
        assert_eq!(tokenizer.decode(&asked[1][..sampled.len()]), tokenizer.decode(&sampled));
        assert_eq!(asked[1][..sampled.len()], sampled);
    });
}

#[test]
fn stop_strings() {
    assert_golden("stop", Ask { stop: Some(" is"), ..PLAIN }, "The answer is 42.", STOP);
}

#[test]
fn length() {
    assert_golden("length", PLAIN, "The answer", LENGTH);
}

#[test]
fn overflow() {
    // H064, H065
    let asks = PLAIN.all().map(|(title, path, body)| {
        let long = body.to_string().replace("\"q\"", &format!("\"{}\"", "q ".repeat(5000)));
        (title, path, serde_json::from_str(&long).unwrap())
    });
    assert_answers("overflow", "", STOP, &asks);
}

#[test]
fn a_client_that_leaves_takes_its_request_with_it() {
    // H066: the next one finds the only place free.
    let text = format!("The answer{LEAVES}");
    let streams = PLAIN.all().into_iter().filter(|(title, ..)| title.ends_with("streamed")).collect::<Vec<_>>();
    let script = Arc::new(Script::new(MODEL.tokenizer.encode(&text), Ok(Finish::Cancelled)));
    compare("cancel", &perform(&script, |post| all_answers(&text, &streams, post)));
    assert_eq!(script.left.load(SeqCst), streams.len());
}

#[test]
fn errors() {
    assert_golden("error", PLAIN, "The answer", Err("the device is gone"));
}

#[test]
fn a_seed_gives_calls_the_same_names_again() {
    // H111
    let calls = block(&(invoke("a", "1") + &invoke("a", "1")));
    serve(&format!("hm</think>{calls}"), STOP, |post| {
        let ask = |stream: bool, seed: u64| {
            let mut body = TOOLS.chat(stream);
            body["seed"] = seed.into();
            let (_, answer) = post("/v1/chat/completions", &body);
            let ids = answer.match_indices("\"call_").map(|(at, _)| answer[at + 1..at + 38].to_owned());
            ids.collect::<Vec<_>>()
        };
        let ids = ask(false, 7);
        assert!(ids.len() == 2 && ids[0] != ids[1]);
        assert_eq!(ask(true, 7), ids);
        assert_ne!(ask(false, 8), ids);
        assert_ne!(ask(false, 0), ask(false, 0));
        let ask = |seed: u64| {
            let mut body = TOOLS.messages(false);
            body["seed"] = seed.into();
            let (_, answer) = post("/v1/messages", &body);
            answer.match_indices("\"toolu_").map(|(at, _)| answer[at + 1..at + 39].to_owned()).collect::<Vec<_>>()
        };
        let ids = ask(7);
        assert!(ids.len() == 2 && ids[0] != ids[1]);
        assert_eq!(ask(7), ids);
        assert_ne!(ask(0), ask(0));
    });
}
