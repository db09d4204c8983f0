//! What the built-in model can do, through the engine as it ships: 8-bit activations, rounded rows, greedy.
//!
//! `fixtures/skills.json` holds 200 held-out prompts a skill (`mini/fixtures.py`). The first 40 of each are asked here;
//! `DS4_SKILL_PROMPTS` says another number, and the soak asks them all.

use std::sync::Arc;

use ds4_engine::{Engine, Event, Finish, Model, Options, Request, Sequence};

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
    let options = Options { context: 1536, threads: 2, step: 256, ..Options::default() };
    let engine = Engine::start(Arc::new(model), options).unwrap();
    let mut sequence = engine.sequence().unwrap();
    let prompts = std::env::var("DS4_SKILL_PROMPTS").map_or(40, |n| n.parse().unwrap());

    let text = std::fs::read_to_string(ds4_testkit::root().join("fixtures/skills.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut misses = Vec::new();
    let mut all = Score::default();
    for (skill, least) in AT_LEAST {
        let rows: Vec<(String, String)> = serde_json::from_value(fixture["skills"][skill].clone()).unwrap();
        let mut score = Score::default();
        for (prompt, answer) in rows.iter().take(prompts) {
            let (got, finish) = answer_to(&engine, &mut sequence, prompt);
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

/// The text that follows `prompt`, with its control tokens, and why it ended.
fn answer_to(engine: &Engine, sequence: &mut Sequence, prompt: &str) -> (String, Finish) {
    let tokenizer = &engine.model().tokenizer;
    let request = Request::greedy(tokenizer.encode(prompt), MOST_TOKENS, tokenizer.eos());
    let (mut tokens, mut finish) = (Vec::new(), None);
    for event in sequence.submit(request).unwrap() {
        match event {
            Event::Token(token) => tokens.push(token.id),
            Event::Finished(why, _) => finish = Some(why),
            Event::Failed(why) => panic!("{why}"),
            _ => {}
        }
    }
    (tokenizer.decode(&tokens), finish.expect("every request ends"))
}
