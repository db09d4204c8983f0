//! What the built-in model can do, through the engine as it ships: 8-bit activations, rounded rows, greedy.
//!
//! `fixtures/skills.json` holds 200 held-out prompts a skill (`mini/fixtures.py`). The first 40 of each are asked here;
//! `DS4_SKILL_PROMPTS` says another number, and the soak asks them all. Several are asked at once, which changes no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ds4_engine::{Engine, Event, Finish, Model, Options, Request};

/// Percent of exactly right answers that each skill must reach.
const AT_LEAST: [(&str, usize); 11] = [
    ("exact", 95),
    ("sum", 95),
    ("new sum", 90),
    ("recall", 95),
    ("tool", 85),
    ("think", 90),
    ("product", 90),
    ("remember", 90),
    ("result", 90),
    ("greet", 95),
    ("unknown", 90),
];
/// Percent of answers that must end by themselves, and of reasoning that must be closed.
const ENDS: usize = 98;
const CLOSED: usize = 95;
/// More than any right answer takes.
const MOST_TOKENS: usize = 200;
/// Prompts at once.
const SESSIONS: usize = 8;

/// How the answers to one skill's prompts came out.
#[derive(Default)]
struct Score {
    asked: usize,
    right: usize,
    ended: usize,
    closed: usize,
}

impl Score {
    fn percent(&self, count: usize) -> usize {
        100 * count / self.asked
    }
}

#[test]
fn the_built_in_model_has_its_skills() {
    let model = Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap();
    let options = Options { context: 1536, threads: 2, step: 256, sessions: SESSIONS, ..Options::default() };
    let engine = Engine::start(Arc::new(model), options).unwrap();
    let prompts = std::env::var("DS4_SKILL_PROMPTS").map_or(40, |n| n.parse().unwrap());

    let text = std::fs::read_to_string(ds4_testkit::root().join("fixtures/skills.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut misses = Vec::new();
    let mut all = Score::default();
    for (skill, least) in AT_LEAST {
        let rows: Vec<(String, String)> = serde_json::from_value(fixture["skills"][skill].clone()).unwrap();
        let mut score = Score::default();
        let rows = &rows[..prompts.min(rows.len())];
        for ((got, finish), (_, answer)) in answers(&engine, rows).into_iter().zip(rows) {
            score.asked += 1;
            score.right += usize::from(got == *answer);
            score.ended += usize::from(finish == Finish::Stop);
            score.closed +=
                usize::from(got.find("</think>").is_some_and(|at| at > 0) && got.matches("think>").count() == 1);
            if got != *answer {
                println!("{skill}: {got:?} instead of {answer:?}");
            }
        }
        let right = score.percent(score.right);
        println!("{skill}: {} of {} right, {right} %; {} ended", score.right, score.asked, score.ended);
        if right < least {
            misses.push(format!("{skill}: {right} % right, expected at least {least} %"));
        }
        if skill == "think" {
            let closed = score.percent(score.closed);
            println!("think: {closed} % closed");
            if closed < CLOSED {
                misses.push(format!("reasoning closed: {closed} %, expected at least {CLOSED} %"));
            }
        }
        all.asked += score.asked;
        all.ended += score.ended;
    }
    let ended = all.percent(all.ended);
    println!("all: {ended} % ended");
    if ended < ENDS {
        misses.push(format!("answers ended: {ended} %, expected at least {ENDS} %"));
    }
    assert!(misses.is_empty(), "{}", misses.join("; "));
}

/// What comes of each prompt, in order.
fn answers(engine: &Engine, rows: &[(String, String)]) -> Vec<(String, Finish)> {
    let next = AtomicUsize::new(0);
    let ask = || {
        let mut answers = Vec::new();
        loop {
            let row = next.fetch_add(1, Relaxed);
            let Some((prompt, _)) = rows.get(row) else { return answers };
            answers.push((row, answer_to(engine, prompt)));
        }
    };
    let mut answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    answers.sort_by_key(|(row, _)| *row);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// The text that follows `prompt`, with its control tokens, and why it ended.
fn answer_to(engine: &Engine, prompt: &str) -> (String, Finish) {
    let tokenizer = &engine.model().tokenizer;
    let request = Request::greedy(tokenizer.encode(prompt), MOST_TOKENS, tokenizer.eos());
    let (mut tokens, mut finish) = (Vec::new(), None);
    for event in engine.submit(request).unwrap() {
        match event {
            Event::Token(token) => tokens.push(token.id),
            Event::Finished(why, _) => finish = Some(why),
            Event::Failed(why) => panic!("{why}"),
            _ => {}
        }
    }
    (tokenizer.decode(&tokens), finish.expect("every request ends"))
}
