//! The same answer, to the last bit, computed cold and in company: random trees of conversations at once, with edits and
//! forks, with little memory and less time, and from the tiers below RAM after a restart.

mod common;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::load;
use ds4_engine::{Engine, Event, Finish, Model, Observe, Observed, Options, Request, Sampling};
use ds4_kv::Tier;
use ds4_kv::store::Memory;
use ds4_lab::convert::Recipe;
use ds4_testkit::oracle;
use proptest::prelude::*;

const CONTEXT: usize = 300;

/// The built-in model, and the oracle's, whose vocabulary does not matter here.
fn models() -> &'static [Arc<Model>] {
    static MODELS: OnceLock<Vec<Arc<Model>>> = OnceLock::new();
    MODELS.get_or_init(|| {
        let mini = || Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).expect("it opens");
        let mut models = vec![mini()];
        if let Some(checkpoint) = oracle("tiny") {
            models.push(Model { weights: load(&checkpoint, Recipe::Q8_0), ..mini() });
        }
        models.into_iter().map(Arc::new).collect()
    })
}

/// One turn of a conversation.
#[derive(Clone, Debug)]
struct Turn {
    /// Tokens taken off the end of what was said so far.
    cut: usize,
    /// Tokens that are new.
    new: usize,
    /// Tokens of the answer.
    answer: usize,
    seed: u64,
    /// Events after which the client leaves.
    leaves: Option<usize>,
    /// Milliseconds before it comes.
    pause: u64,
}

fn turn() -> impl Strategy<Value = Turn> {
    let cut = prop_oneof![3 => Just(0), 2 => 0usize..30, 1 => 0usize..200];
    let leaves = prop_oneof![4 => Just(None), 1 => (1usize..30).prop_map(Some)];
    (cut, 1usize..100, 0usize..25, 1u64..1000, leaves, 0u64..30)
        .prop_map(|(cut, new, answer, seed, leaves, pause)| Turn { cut, new, answer, seed, leaves, pause })
}

/// What is asked.
struct Ask {
    tokens: Vec<u32>,
    answer: usize,
    seed: u64,
}

impl Ask {
    fn request(&self) -> Request {
        Request {
            sampling: Sampling { temperature: 1.0, seed: self.seed, ..Sampling::GREEDY },
            stop: vec![],
            observe: Observe::Logits,
            ..Request::greedy(self.tokens.clone(), self.answer, 0)
        }
    }
}

/// What came of a request.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    logits: Vec<u32>,
    tokens: Vec<u32>,
    finish: Option<Finish>,
}

fn ask(engine: &Engine, request: Request, leaves: Option<usize>) -> Answer {
    let mut answer = Answer::default();
    let run = engine.submit(request).expect("it fits");
    let cancel = run.cancel_flag();
    for (i, event) in run.enumerate() {
        if leaves == Some(i) {
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        match event {
            Event::Observed(Observed::Logits(logits)) => answer.logits = logits.iter().map(|l| l.to_bits()).collect(),
            Event::Token(token) => answer.tokens.push(token.id),
            Event::Finished(finish, _) => answer.finish = Some(finish),
            Event::Failed(why) => panic!("{why}"),
            _ => {}
        }
    }
    answer
}

/// Has a conversation and keeps what was asked and answered.
fn talk(engine: &Engine, vocab: usize, topic: u64, turns: &[Turn]) -> Vec<(Ask, Answer)> {
    // Conversations on a topic begin alike, and part where their turns do.
    let (mut said, mut number, mut all) = (Vec::new(), topic, Vec::new());
    for turn in turns {
        std::thread::sleep(Duration::from_millis(turn.pause));
        said.truncate(said.len().saturating_sub(turn.cut));
        for _ in 0..turn.new {
            number = number.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            said.push((number >> 33) as u32 % vocab as u32);
        }
        said.truncate(CONTEXT);
        let asked = Ask { tokens: said.clone(), answer: turn.answer, seed: turn.seed };
        let answer = ask(engine, asked.request(), turn.leaves);
        said.extend(&answer.tokens);
        all.push((asked, answer));
    }
    all
}

/// Random cases; `PROPTEST_CASES` says how many a soak wants.
fn cases_wanted() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(2)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases_wanted(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn oracle_answers_in_company_are_those_of_a_sequence_alone(
        talks in prop::collection::vec(prop::collection::vec(turn(), 1..3), 4..=8),
        step in 3usize..80,
        quantum in prop::sample::select(&[0u64, 2, 20, 250][..]),
        pool in prop::sample::select(&[1usize, 2, 8][..]),
        threads in 1usize..3,
        topics in 1u64..4,
        every in prop::sample::select(&[128usize, 256, 2048][..]),
    ) {
        for model in models() {
            let vocab = model.weights.shape.vocab;
            let options = Options {
                context: CONTEXT,
                threads,
                step,
                sessions: talks.len(),
                pool: Some(pool * CONTEXT),
                prefill_quantum: Duration::from_millis(quantum),
                resume_every: every,
                save_from: 1,
                ..Options::default()
            };
            let store = Arc::new(Memory::default());
            let start = || {
                let tier = Tier { store: Box::new(Arc::clone(&store)), name: "store".into(), budget: Some(1 << 20) };
                Engine::start_with(Arc::clone(model), options, vec![tier]).expect("it fits")
            };
            let engine = start();
            let answers = std::thread::scope(|scope| {
                let threads: Vec<_> = talks.iter().zip(0..).map(|(turns, i)| {
                    let engine = &engine;
                    scope.spawn(move || talk(engine, vocab, i % topics, turns))
                }).collect();
                threads.into_iter().flat_map(|t| t.join().expect("it talks")).collect::<Vec<_>>()
            });
            drop(engine);
            let again = start();
            let alone = Options { context: CONTEXT, threads: 2, step: 256, ..Options::default() };
            let engine = Engine::start(Arc::clone(model), alone).expect("it fits");
            for (asked, answer) in answers {
                engine.forget().expect("it lives");
                let want = ask(&engine, asked.request(), None);
                prop_assert!(ask(&again, asked.request(), None) == want, "after a restart, {} tokens", asked.tokens.len());
                if answer.finish != Some(Finish::Cancelled) {
                    prop_assert!(answer == want, "after {} tokens", asked.tokens.len());
                    continue;
                }
                prop_assert!(want.tokens.starts_with(&answer.tokens));
                prop_assert!(answer.logits.is_empty() || answer.logits == want.logits);
            }
        }
    }
}
