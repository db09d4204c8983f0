//! What a long conversation pays for: a side request, its next turn, an edit, a restart, many turns.
//!
//! ```sh
//! cargo run --release -p ds4-engine --example conversation -- MODEL.gguf TOKENS DIRECTORY [TURNS]
//! ```
//!
//! TOKENS is the length of the first prompt, DIRECTORY an empty one for the tier below RAM, TURNS how many more turns of
//! 1,500 tokens follow at the end (0 by default). Greedy, whatever the model says.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ds4_engine::{Engine, Event, Model, Options, Request, Usage};
use ds4_kv::Tier;
use ds4_kv::store::{Disk, Store};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Tokens of an answer.
const ANSWER: usize = 100;

/// An answer with the time of each token.
struct Answer {
    tokens: Vec<u32>,
    /// From the request to the first token.
    first: Duration,
    /// Between tokens, ascending.
    gaps: Vec<Duration>,
    usage: Usage,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, tokens, directory, turns @ ..] = &arguments[..] else {
        return Err("usage: conversation MODEL.gguf TOKENS DIRECTORY [TURNS]".into());
    };
    let (tokens, directory): (usize, &Path) = (tokens.parse()?, directory.as_ref());
    let turns: usize = turns.first().map_or(Ok(0), |n| n.parse())?;
    let model = Arc::new(Model::open(model.as_ref())?);
    let context = tokens + 2000 * turns + 6000;
    let options = Options { context, sessions: 2, pool: Some(context + 4096), ..Options::default() };
    let start = || -> Outcome<Engine> {
        let tier = Tier { store: Box::new(Disk::open(directory)?), name: "disk".into(), budget: None };
        Ok(Engine::start_with(Arc::clone(&model), options, vec![tier])?)
    };
    let engine = start()?;
    println!("{}", engine.plan());
    let vocab = model.weights.shape.vocab as u32;
    let text =
        |from: usize, count: usize| (from..from + count).map(|i| (i * i * 7 + i * 13) as u32 % (vocab - 200) + 100);

    let mut talk: Vec<u32> = text(0, tokens).collect();
    let alone = ask(&engine, &talk, ANSWER)?;
    report("first turn, cold", &alone, 0);
    talk.extend(&alone.tokens);

    talk.extend(text(1, 50));
    let old = talk.len() - 50;
    let (next, side) = std::thread::scope(|scope| {
        let next = scope.spawn(|| ask(&engine, &talk, 4 * ANSWER).map_err(|e| e.to_string()));
        std::thread::sleep(alone.gaps.iter().sum::<Duration>() / 2);
        let prompt: Vec<u32> = text(77, 200).collect();
        let side = ask(&engine, &prompt, 20); // while the other one writes
        (next.join().expect("it ends"), side)
    });
    let (next, side) = (next?, side?);
    report("next turn, with a side request", &next, old);
    report("the side request", &side, 0);
    talk.extend(&next.tokens);

    talk.extend(text(2, 50));
    let third = ask(&engine, &talk, ANSWER)?;
    report("the turn after that", &third, talk.len() - 50);

    let edited: Vec<u32> = talk[..tokens - 500].iter().copied().chain(text(3, 500)).collect();
    let edit = ask(&engine, &edited, 1)?;
    println!("{:32} {} tokens computed again", "the last 500 of the prompt edited", edited.len() - edit.usage.reused);
    let last = many_turns(&engine, &mut talk, turns, &text)?;

    drop(engine);
    restart(&start()?, &last, directory)
}

/// More turns of an agent: mostly results of tools. The last prompt.
fn many_turns<I: Iterator<Item = u32>>(
    engine: &Engine,
    talk: &mut Vec<u32>,
    turns: usize,
    text: &impl Fn(usize, usize) -> I,
) -> Outcome<Vec<u32>> {
    let (mut again, mut last) = (0, talk.clone());
    for turn in 0..turns {
        let old = talk.len();
        talk.extend(text(1000 + turn, 1500));
        last.clone_from(talk);
        let answer = ask(engine, talk, 20)?;
        again += (old - 1).saturating_sub(answer.usage.reused);
        talk.extend(answer.tokens);
    }
    if turns > 0 {
        println!("{:32} {again} old tokens computed again, {} in all", format!("{turns} turns"), talk.len());
    }
    Ok(last)
}

/// The last prompt in a new engine, beside the time to read the files and a step.
fn restart(engine: &Engine, prompt: &[u32], directory: &Path) -> Outcome<()> {
    let disk = Disk::open(directory)?;
    let files = disk.list("")?;
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    println!("{:32} {} files, {:.1} MB", "on disk", files.len(), bytes as f64 / 1e6);
    ask(engine, &prompt[..1], 1)?; // memory is made when the engine starts, which is not what this is about
    let again = ask(engine, prompt, 20)?;
    let step = again.gaps[again.gaps.len() / 2];
    let read = engine.metrics().tiers[0].read;
    let start = Instant::now();
    let mut rest = read.bytes;
    for file in &files {
        if rest > 0 {
            rest = rest.saturating_sub(disk.get(&file.name)?.map_or(0, |bytes| bytes.len() as u64));
        }
    }
    let reading = start.elapsed();
    println!(
        "{:32} first token after {:.1?}; reading {:.1} MB takes {reading:.1?}, a step {step:.1?}: {:.2} times both",
        "the last prompt after a restart",
        again.first,
        read.bytes as f64 / 1e6,
        again.first.as_secs_f64() / (reading + step).as_secs_f64()
    );
    println!("{:32} {} of {} tokens from {:?}", "", again.usage.reused, prompt.len(), again.usage.source);
    Ok(())
}

fn ask(engine: &Engine, prompt: &[u32], count: usize) -> Outcome<Answer> {
    let start = Instant::now();
    let (mut tokens, mut times) = (Vec::new(), Vec::new());
    for event in engine.submit(Request { stop: vec![], ..Request::greedy(prompt.to_vec(), count, u32::MAX) })? {
        match event {
            Event::Token(token) => {
                tokens.push(token.id);
                times.push(Instant::now());
            }
            Event::Finished(_, usage) => {
                let mut gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
                gaps.sort_unstable();
                let first = times.first().map_or_else(|| start.elapsed(), |time| *time - start);
                return Ok(Answer { tokens, first, gaps, usage });
            }
            Event::Failed(why) => return Err(why.into()),
            _ => {}
        }
    }
    Err("it ended without a word".into())
}

fn report(what: &str, answer: &Answer, old: usize) {
    let Answer { first, gaps, usage, .. } = answer;
    let at = |share: usize| gaps.get((gaps.len().max(1) - 1) * share / 100).copied().unwrap_or_default();
    println!(
        "{what:32} first token after {first:.1?}; between tokens {:.1?}, p99 {:.1?}, most {:.1?}; {} of {} tokens computed, {} old ones again",
        at(50),
        at(99),
        at(100),
        usage.prompt - usage.reused,
        usage.prompt,
        // The last token of an answer is drawn and not read.
        (old.max(1) - 1).saturating_sub(usage.reused)
    );
}
