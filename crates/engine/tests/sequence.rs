//! What one request after the other finds, on the built-in model.

use std::sync::Arc;

use ds4_engine::{Engine, Error, Event, Finish, Model, Observe, Observed, Options, Plan, Request, Sampling, Usage};

fn engine(context: usize) -> Engine {
    engine_with(Options { context, ..Options::default() })
}

fn engine_with(options: Options) -> Engine {
    let model = Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap();
    Engine::start(Arc::new(model), Options { threads: 2, step: 64, ..options }).unwrap()
}

/// Some text of `len` tokens.
fn prompt(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| 3 + (i * i * 7 + i * 13) % 900).collect()
}

/// Everything that came of a request.
#[derive(Default)]
struct Answer {
    reused: usize,
    tokens: Vec<u32>,
    logits: Vec<f32>,
    scores: Vec<(usize, f64)>,
    end: Option<(Finish, Usage)>,
}

fn ask(engine: &Engine, request: Request) -> Answer {
    let mut answer = Answer::default();
    let mut first = true;
    for event in engine.submit(request).unwrap() {
        match event {
            Event::Queued { .. } => {}
            Event::Prefill { done, .. } if std::mem::take(&mut first) => answer.reused = done,
            Event::Prefill { .. } => {}
            Event::Token(token) => answer.tokens.push(token.id),
            Event::Observed(Observed::Logits(logits)) => answer.logits = logits,
            Event::Observed(other) => panic!("{other:?}"),
            Event::Scored { position, logprob } => answer.scores.push((position, logprob)),
            Event::Finished(finish, usage) => answer.end = Some((finish, usage)),
            Event::Failed(why) => panic!("{why}"),
        }
    }
    answer
}

/// Reads a prompt and reports the logits after it.
fn read(tokens: &[u32]) -> Request {
    Request { observe: Observe::Logits, ..Request::greedy(tokens.to_vec(), 0, 1) }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_longer_prompt_pays_only_for_what_is_new() {
    let engine = engine(512);
    let text = prompt(300);
    let cold = ask(&engine, read(&text));
    assert_eq!(cold.reused, 0);

    engine.forget().unwrap();
    ask(&engine, read(&text[..200]));
    let warm = ask(&engine, read(&text));
    assert_eq!(warm.reused, 200);
    assert_eq!(bits(&warm.logits), bits(&cold.logits));
}

#[test]
fn a_prompt_that_ends_otherwise_starts_at_the_resume_point() {
    let engine = engine(512);
    let text = prompt(300);
    let other = [&text[..199], &[5, 6, 7, 8]].concat();
    let cold = ask(&engine, read(&other));

    engine.forget().unwrap();
    ask(&engine, Request { stop: vec![], ..Request::greedy(text[..200].to_vec(), 60, 1) });
    let warm = ask(&engine, read(&other));
    assert_eq!(warm.reused, 199, "everything before the last token of the previous prompt");
    assert_eq!(bits(&warm.logits), bits(&cold.logits));

    // One that parts earlier has nowhere to start but the beginning, and is right all the same.
    let parted = [&other[..100], &other[101..]].concat();
    let warm = ask(&engine, read(&parted));
    assert_eq!(warm.reused, 0);
    engine.forget().unwrap();
    assert_eq!(bits(&ask(&engine, read(&parted)).logits), bits(&warm.logits));
}

#[test]
fn an_edit_goes_back_to_the_last_resume_point_before_it() {
    let engine = engine_with(Options { context: 2048, resume_every: 256, ..Options::default() });
    let text = prompt(1500);
    ask(&engine, read(&text));
    let edited = [&text[..1000], &[7; 300]].concat();
    let warm = ask(&engine, read(&edited));
    assert_eq!(warm.reused, 768);
    engine.forget().unwrap();
    assert_eq!(bits(&ask(&engine, read(&edited)).logits), bits(&warm.logits));
}

#[test]
fn the_next_turn_goes_on_from_the_end_of_the_answer() {
    let engine = engine(1024);
    let mut text = prompt(150);
    for turn in 0..5 {
        let answer = ask(&engine, Request { stop: vec![], ..Request::greedy(text.clone(), 41, 1) });
        text.extend(&answer.tokens);
        // The last token was drawn and never read.
        let held = text.len() - 1;
        text.extend([30 + turn, 40, 50]);
        assert_eq!(ask(&engine, read(&text)).reused, held);
    }
}

#[test]
fn the_same_prompt_again_computes_one_token() {
    let engine = engine(512);
    let first = ask(&engine, read(&prompt(300)));
    let again = ask(&engine, read(&prompt(300)));
    assert_eq!(again.reused, 299);
    assert_eq!(bits(&first.logits), bits(&again.logits));
}

#[test]
fn a_full_context_ends_the_answer_and_nothing_else() {
    let engine = engine(300);
    let go_on = |tokens: Vec<u32>| Request { stop: vec![], ..Request::greedy(tokens, 1000, 1) };

    let answer = ask(&engine, go_on(prompt(290)));
    let (finish, usage) = answer.end.unwrap();
    assert_eq!((finish, usage.prompt, usage.generated), (Finish::Context, 290, 10));

    let answer = ask(&engine, go_on(prompt(300)));
    let (finish, usage) = answer.end.unwrap();
    assert_eq!((finish, usage.prompt, usage.generated), (Finish::Context, 300, 0));

    let error = engine.submit(go_on(prompt(301))).err().unwrap();
    assert_eq!(error.to_string(), "the prompt has 301 tokens, the context holds 300; shorten it or raise --ctx");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let engine = engine(64);
    assert!(matches!(engine.submit(read(&[])).err(), Some(Error::EmptyPrompt)));
    assert!(matches!(engine.submit(read(&[7, 2048])).err(), Some(Error::UnknownToken { id: 2048, last: 2047 })));
}

#[test]
fn what_a_cancelled_request_has_read_is_kept() {
    let engine = engine(4096);
    let text = prompt(4000);
    let mut run = engine.submit(read(&text)).unwrap();
    while !matches!(run.next(), Some(Event::Prefill { done: 1.., .. })) {}
    drop(run);
    let warm = ask(&engine, read(&text));
    assert!((64..4000).contains(&warm.reused), "{}", warm.reused);
    engine.forget().unwrap();
    assert_eq!(bits(&warm.logits), bits(&ask(&engine, read(&text)).logits));
}

#[test]
fn scores_are_the_log_probabilities_of_the_prompt() {
    let engine = engine(512);
    let text = prompt(80);
    let scored = ask(&engine, Request { score_from: Some(32), ..Request::greedy(text.clone(), 0, 1) });
    assert_eq!(scored.scores.iter().map(|s| s.0).collect::<Vec<_>>(), (32..80).collect::<Vec<_>>());
    for &(position, logprob) in scored.scores.iter().step_by(16) {
        let logits = ask(&engine, read(&text[..position])).logits;
        let sum: f64 = logits.iter().map(|l| (*l as f64).exp()).sum();
        let want = logits[text[position] as usize] as f64 - sum.ln();
        assert!((logprob - want).abs() < 1e-5, "position {position}: {logprob}, not {want}");
    }
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let engine = engine(512);
    let draw = |seed| {
        let sampling = Sampling { temperature: 1.5, seed, ..Sampling::GREEDY };
        ask(&engine, Request { sampling, stop: vec![], ..Request::greedy(prompt(20), 40, 1) }).tokens
    };
    let first = draw(11);
    assert_eq!(first.len(), 40);
    assert_eq!(draw(11), first);
    assert_ne!(draw(12), first);
}

#[test]
fn a_plan_that_does_not_fit_is_refused_with_its_numbers() {
    let model = Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap();
    let options = Options { context: 1 << 20, threads: 2, step: 64, ..Options::default() };
    let plan = Plan::new(&model, &options);
    let small = ds4_engine::Machine { total: 1 << 30, available: plan.anonymous() + plan.weights - 1 };
    let message = plan.check(&small, false).unwrap_err().to_string();
    assert!(message.contains("available of 1.00 GiB") && message.contains("--allow-oversubscribe"), "{message}");
    assert!(plan.check(&small, true).is_ok());
    let tiny = ds4_engine::Machine { total: 1 << 30, available: plan.anonymous() - 1 };
    assert!(plan.check(&tiny, true).unwrap_err().to_string().ends_with("lower --ctx"));
}
