//! What the server adds to the engine's time: `cargo run --release -p ds4-server --example overhead`.
//!
//! The engine is a script, so that all that is measured is the server's: the processor's time for each token of a stream
//! (the client is another process), and the time from a request of 100 KB to the moment when the engine has it, the first
//! time and with the conversation known but for its end.

use std::error::Error as StdError;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ds4_dialog::Turns;
use ds4_engine::{Event, Finish, Model, Options, Request, Token, Usage};
use ds4_server::{Config, Error, Source, Submitted, run};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn StdError>>;

/// Tokens of the long stream, and the time between two: as if 5,000 came in a second.
const STREAMED: usize = 20_000;
const PAUSE: Duration = Duration::from_micros(200);
/// Characters of the conversation and of each of its turns.
const BODY: usize = 100_000;
const TURN: usize = 4_000;
/// Times that each wait is measured; the median is shown.
const REPEATS: usize = 9;

/// Writes the same tokens to everybody, some of them or all, and says when it is asked.
struct Script {
    tokens: Vec<u32>,
    asked: Mutex<Sender<Instant>>,
    options: Options,
}

impl Source for Script {
    fn submit(&self, request: Request) -> Result<Submitted<'_>, Error> {
        let _ = self.asked.lock().map(|asked| asked.send(Instant::now())); // nobody may listen
        let (total, wanted) = (request.tokens.len(), request.max_tokens);
        let usage = Usage { prompt: total, generated: wanted, ..Usage::default() };
        let flag = Arc::new(AtomicBool::new(false));
        let cancelled = Arc::clone(&flag);
        let tokens = self.tokens.iter().cycle().take(wanted).take_while(move |_| !cancelled.load(Relaxed));
        let tokens = tokens.map(|id| {
            std::thread::sleep(PAUSE);
            Event::Token(Token { id: *id, observed: None })
        });
        let before = [Event::Prefill { done: 0, total }, Event::Prefill { done: total, total }];
        Ok((Box::new(before.into_iter().chain(tokens).chain([Event::Finished(Finish::Length, usage)])), flag))
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn options(&self) -> &Options {
        &self.options
    }
}

/// Sends a chat and reads the answer.
fn post(port: u16, body: &Value) -> std::io::Result<String> {
    let body = body.to_string();
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    connection.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Some text that is different for each `seed`.
fn text(seed: usize, length: usize) -> String {
    let words =
        ["the", "server", "reads", "let x = 5;", "a file", "{\"key\": 1}", "again", "fn main()", "and", "so on."];
    let mut state = seed as u64 * 2 + 1;
    let mut out = String::new();
    while out.len() < length {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        out += words[(state >> 33) as usize % words.len()];
        out += if state >> 60 == 0 { "\n" } else { " " };
    }
    out
}

/// The processor's time of this process, where the system tells.
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10)) // a tick is 10 ms on all of Linux
}

/// The client of the long stream, a process of its own: `overhead PORT`.
fn client(port: &str) -> Outcome<()> {
    let body = json!({"messages": [{"role": "user", "content": "Go"}], "think": false, "stream": true, "max_tokens": STREAMED});
    let answer = post(port.parse()?, &body)?;
    let events = BufReader::new(answer.as_bytes()).lines().map_while(Result::ok).filter(|l| l.starts_with("data: "));
    println!("{}", events.count());
    Ok(())
}

/// Processor time for each token, and events for each token.
fn stream(port: u16) -> Outcome<(Option<f64>, f64)> {
    let before = processor_time();
    let mut child = Command::new(std::env::current_exe()?).arg(port.to_string()).stdout(Stdio::piped()).spawn()?;
    let mut events = String::new();
    child.stdout.take().ok_or("no output")?.read_to_string(&mut events)?;
    child.wait()?;
    let took = processor_time().zip(before).map(|(after, before)| (after - before).as_secs_f64());
    Ok((took.map(|seconds| seconds * 1e6 / STREAMED as f64), events.trim().parse::<f64>()? / STREAMED as f64))
}

/// The median time until the engine has a conversation of [`BODY`] bytes: one that is new, and one that is known but for
/// its end.
fn waits(port: u16, asked: &std::sync::mpsc::Receiver<Instant>) -> Outcome<[f64; 2]> {
    let (mut cold, mut known) = (Vec::new(), Vec::new());
    for repeat in 0..REPEATS {
        let mut messages: Vec<Value> = Vec::new();
        for turn in 0..BODY / TURN {
            messages.push(json!({"role": "user", "content": text(repeat * 1000 + turn, TURN / 2)}));
            messages.push(json!({"role": "assistant", "content": text(repeat * 1000 + turn + 500, TURN / 2)}));
        }
        messages.push(json!({"role": "user", "content": "And now?"}));
        for times in [&mut cold, &mut known] {
            let body = json!({"messages": messages, "think": false, "max_tokens": 9});
            let start = Instant::now();
            let answer = post(port, &body)?;
            times.push((asked.recv()? - start).as_secs_f64() * 1e3);
            let answer: Value = serde_json::from_str(answer.rsplit("\r\n\r\n").next().unwrap_or_default())?;
            messages.push(answer["choices"][0]["message"].clone());
            messages.push(json!({"role": "user", "content": "And then?"}));
        }
    }
    Ok([cold, known].map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }))
}

fn main() -> Outcome<()> {
    if let Some(port) = std::env::args().nth(1) {
        return client(&port);
    }
    let model =
        Arc::new(Model::open(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mini/v4-mini.gguf"))?);
    let (asked, times) = channel();
    let options = Options { context: 131_072, sessions: 4, ..Options::default() };
    let script = Script { tokens: model.tokenizer.encode(&text(0, 9_000)), asked: Mutex::new(asked), options };
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let config = Config {
        addresses: vec![([127, 0, 0, 1], port).into()],
        turns: Some(Arc::new(Turns::new(1000))),
        ..Config::default()
    };
    std::thread::spawn(move || run(Arc::new(script), model, &config).map_err(|e| eprintln!("{e}")));
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (per_token, events) = stream(port)?;
    let _ = times.recv();
    let [cold, known] = waits(port, &times)?;
    match per_token {
        Some(micros) => println!("processor time of a streamed token   {micros:6.1} us ({events:.2} events a token)"),
        None => println!("processor time of a streamed token   not known on this system"),
    }
    println!("100 KB to the engine, all of it new  {cold:6.1} ms");
    println!("100 KB to the engine, but for the end known {known:6.1} ms");
    Ok(())
}
