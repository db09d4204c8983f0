//! What a sequence promises, on the built-in model.

use std::sync::Arc;

use ds4_engine::{
    Engine, Error, Event, Finish, Model, Observe, Observed, Options, Plan, Request, Sampling, Sequence, Usage,
};

fn engine(context: usize) -> Engine {
    let model = Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap();
    let options = Options { context, threads: 2, step: 64, ..Options::default() };
    Engine::start(Arc::new(model), options).unwrap()
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

fn ask(sequence: &mut Sequence<'_>, request: Request) -> Answer {
    let mut answer = Answer::default();
    let mut first = true;
    for event in sequence.submit(request).unwrap() {
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
    let mut sequence = engine.sequence().unwrap();
    let cold = ask(&mut sequence, read(&text));
    assert_eq!(cold.reused, 0);

    sequence.reset();
    ask(&mut sequence, read(&text[..200]));
    let warm = ask(&mut sequence, read(&text));
    assert_eq!(warm.reused, 200);
    assert_eq!(bits(&warm.logits), bits(&cold.logits));
}

#[test]
fn a_prompt_that_ends_otherwise_starts_at_the_resume_point() {
    let engine = engine(512);
    let text = prompt(300);
    let mut other = text[..199].to_vec();
    other.extend([5, 6, 7, 8]);
    let mut sequence = engine.sequence().unwrap();
    let cold = ask(&mut sequence, read(&other));

    sequence.reset();
    ask(&mut sequence, Request { max_tokens: 60, stop: vec![], ..Request::greedy(text[..200].to_vec(), 60, 1) });
    let warm = ask(&mut sequence, read(&other));
    assert_eq!(warm.reused, 199, "everything before the last token of the previous prompt");
    assert_eq!(bits(&warm.logits), bits(&cold.logits));

    // One that parts earlier has nowhere to start but the beginning, and is right all the same.
    other.remove(100);
    let parted = ask(&mut sequence, read(&other));
    assert_eq!(parted.reused, 0);
    sequence.reset();
    assert_eq!(bits(&ask(&mut sequence, read(&other)).logits), bits(&parted.logits));
}

#[test]
fn a_resume_point_among_tokens_taken_back_reaches_no_further_than_they_let_it() {
    let engine = engine(512);
    let text = prompt(300);
    let and = |len: usize, end: &[u32]| [&text[..len], end].concat();
    let mut sequence = engine.sequence().unwrap();
    ask(&mut sequence, read(&text[..200]));
    // Ten tokens back; the resume point's copy still holds what they left behind.
    ask(&mut sequence, Request { stop: vec![], ..Request::greedy(and(190, &[5]), 40, 1) });
    assert_eq!(ask(&mut sequence, read(&and(190, &[6, 7]))).reused, 190);
    let warm = ask(&mut sequence, read(&and(180, &[8; 9])));
    sequence.reset();
    assert_eq!(bits(&warm.logits), bits(&ask(&mut sequence, read(&and(180, &[8; 9]))).logits));
}

#[test]
fn sixteen_tokens_can_be_taken_back_exactly() {
    let engine = engine(512);
    let text = prompt(300);
    let mut sequence = engine.sequence().unwrap();
    let plain = ask(&mut sequence, read(&text));

    sequence.rollback(16).unwrap();
    assert_eq!(sequence.tokens(), &text[..284]);
    let mut other = text[..284].to_vec();
    other.extend([9; 12]);
    ask(&mut sequence, read(&other));
    sequence.rollback(12).unwrap();
    assert_eq!(bits(&ask(&mut sequence, read(&text)).logits), bits(&plain.logits));

    let error = sequence.rollback(17).unwrap_err();
    assert!(matches!(error, Error::Rollback { asked: 17, possible: 16 }), "{error}");
}

#[test]
fn a_full_context_ends_the_answer_and_nothing_else() {
    let engine = engine(300);
    let mut sequence = engine.sequence().unwrap();
    let go_on = |tokens: Vec<u32>| Request { stop: vec![], ..Request::greedy(tokens, 1000, 1) };

    let answer = ask(&mut sequence, go_on(prompt(290)));
    let (finish, usage) = answer.end.unwrap();
    assert_eq!((finish, usage.prompt, usage.generated), (Finish::Context, 290, 10));

    let answer = ask(&mut sequence, go_on(prompt(300)));
    let (finish, usage) = answer.end.unwrap();
    assert_eq!((finish, usage.prompt, usage.generated), (Finish::Context, 300, 0));

    let error = sequence.submit(go_on(prompt(301))).err().unwrap();
    assert_eq!(error.to_string(), "the prompt has 301 tokens, the context holds 300; shorten it or raise --ctx");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let engine = engine(64);
    let mut sequence = engine.sequence().unwrap();
    assert!(matches!(sequence.submit(read(&[])).err(), Some(Error::EmptyPrompt)));
    assert!(matches!(sequence.submit(read(&[7, 2048])).err(), Some(Error::UnknownToken { id: 2048, last: 2047 })));
    assert!(matches!(engine.sequence().err(), Some(Error::Busy(1))));
    drop(sequence);
    assert!(engine.sequence().is_ok());
}

#[test]
fn dropping_a_run_cancels_it_and_the_sequence_goes_on() {
    let engine = engine(4096);
    let text = prompt(4000);
    let mut sequence = engine.sequence().unwrap();
    let mut run = sequence.submit(read(&text)).unwrap();
    run.next();
    drop(run);
    let held = sequence.tokens().len();
    assert!(held < text.len(), "cancelled before the prompt was read");
    assert_eq!(sequence.tokens(), &text[..held]);

    let warm = ask(&mut sequence, read(&text[..500.max(held)]));
    sequence.reset();
    let cold = ask(&mut sequence, read(&text[..500.max(held)]));
    assert_eq!(bits(&warm.logits), bits(&cold.logits));
}

#[test]
fn scores_are_the_log_probabilities_of_the_prompt() {
    let engine = engine(512);
    let text = prompt(80);
    let mut sequence = engine.sequence().unwrap();
    let scored = ask(&mut sequence, Request { score_from: Some(32), ..Request::greedy(text.clone(), 0, 1) });
    assert_eq!(scored.scores.iter().map(|s| s.0).collect::<Vec<_>>(), (32..80).collect::<Vec<_>>());
    for &(position, logprob) in scored.scores.iter().step_by(16) {
        let logits = ask(&mut sequence, read(&text[..position])).logits;
        let sum: f64 = logits.iter().map(|l| (*l as f64).exp()).sum();
        let want = logits[text[position] as usize] as f64 - sum.ln();
        assert!((logprob - want).abs() < 1e-5, "position {position}: {logprob}, not {want}");
    }
}

#[test]
fn the_same_seed_gives_the_same_answer() {
    let engine = engine(512);
    let mut sequence = engine.sequence().unwrap();
    let mut draw = |seed| {
        let sampling = Sampling { temperature: 1.5, top_p: 1.0, min_p: 0.0, top_k: 0, seed };
        ask(&mut sequence, Request { sampling, stop: vec![], ..Request::greedy(prompt(20), 40, 1) }).tokens
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
