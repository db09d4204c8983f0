//! A server whose model writes what a script says, to see what real clients make of it:
//! `cargo run -p ds4-server --example scripted -- SCRIPT.json [PORT]`.
//!
//! The script is a list of answers: `{"when": …, "writes": …, "length": true, "pause_ms": 20}`. The first one counts whose `when` is in what
//! was said last, that is, behind the last `<｜User｜>` of the prompt; without `when` it always does. With `length`
//! the answer ends because it is as long as it may be, with `pause_ms` each token takes its time.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use ds4_engine::{Event, Finish, Model, Options, Request, Token, Usage};
use ds4_server::{Config, Error, Source, Submitted, run};

/// An answer, and when to give it.
struct Answer {
    when: String,
    tokens: Vec<u32>,
    finish: Finish,
    pause: Duration,
}

struct Script {
    answers: Vec<Answer>,
    model: Arc<Model>,
    options: Options,
}

impl Script {
    fn read(path: &str, model: Arc<Model>) -> Result<Self, Box<dyn StdError>> {
        let script: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(path)?)?;
        let answers = script.iter().map(|answer| Answer {
            when: answer["when"].as_str().unwrap_or_default().into(),
            tokens: model.tokenizer.encode(answer["writes"].as_str().unwrap_or_default()),
            finish: if answer["length"] == true { Finish::Length } else { Finish::Stop },
            pause: Duration::from_millis(answer["pause_ms"].as_u64().unwrap_or(0)),
        });
        let answers = answers.collect();
        Ok(Self { answers, model, options: Options { context: 131_072, sessions: 4, ..Options::default() } })
    }
}

impl Source for Script {
    fn submit(&self, request: Request) -> Result<Submitted<'_>, Error> {
        let prompt = self.model.tokenizer.decode(&request.tokens);
        let last = prompt.rsplit("<｜User｜>").next().unwrap_or_default();
        let answer = self.answers.iter().find(|answer| last.contains(&answer.when));
        let answer = answer.ok_or_else(|| Error::Failed(format!("the script has no answer to {last:?}")))?;
        let total = request.tokens.len();
        let usage = Usage { prompt: total, generated: answer.tokens.len(), ..Usage::default() };
        let cancel = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancel);
        let tokens = answer.tokens.iter().take_while(move |_| !flag.load(Relaxed));
        let tokens = tokens.map(|id| {
            std::thread::sleep(answer.pause);
            Event::Token(Token { id: *id, observed: None })
        });
        let before = [Event::Prefill { done: 0, total }, Event::Prefill { done: total, total }];
        let left = Arc::clone(&cancel);
        let end = std::iter::once_with(move || {
            Event::Finished(if left.load(Relaxed) { Finish::Cancelled } else { answer.finish }, usage)
        });
        Ok((Box::new(before.into_iter().chain(tokens).chain(end)), cancel))
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }

    fn options(&self) -> &Options {
        &self.options
    }
}

fn main() -> Result<(), Box<dyn StdError>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let path = args.first().ok_or("which script?")?;
    let port = args.get(1).map_or(Ok(0), |port| port.parse())?;
    let model = Arc::new(Model::open("mini/v4-mini.gguf".as_ref())?);
    let script = Script::read(path, Arc::clone(&model))?;
    let turns = Some(Arc::new(ds4_dialog::Turns::new(1000)));
    let (addresses, trace) = (vec![([127, 0, 0, 1], port).into()], std::env::var_os("TRACE").map(Into::into));
    let config = Config { addresses, turns, trace, ..Config::default() };
    Ok(run(Arc::new(script), model, &config)?)
}
