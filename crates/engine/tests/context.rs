//! A context filled to its last token (H013).

use std::sync::Arc;

use ds4_engine::{Engine, Event, Finish, Model, Observe, Observed, Options, Request};

/// Tokens of the context; a soak wants 100,000.
fn context() -> usize {
    std::env::var("DS4_SOAK_CONTEXT").ok().and_then(|n| n.parse().ok()).unwrap_or(3000)
}

#[test]
fn a_context_is_filled_exactly() {
    let context = context();
    let model = Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap();
    let options = Options { context, threads: 2, step: 256, ..Options::default() };
    let engine = Engine::start(Arc::new(model), options).unwrap();
    let tokens: Vec<u32> = (0..context as u32 - 7).map(|i| 3 + (i.wrapping_mul(i) * 7 + i * 13) % 900).collect();

    let request = Request { stop: vec![], observe: Observe::Logits, ..Request::greedy(tokens, 100, 1) };
    let mut generated = 0;
    for event in engine.submit(request).unwrap() {
        match event {
            Event::Observed(Observed::Logits(logits)) => assert!(logits.iter().all(|l| l.is_finite())),
            Event::Token(_) => generated += 1,
            Event::Finished(finish, usage) => {
                assert_eq!((finish, usage.generated), (Finish::Context, 7));
                println!(
                    "{context} tokens: {:.0} t/s prefill, {:.0} t/s decode",
                    usage.prefill_rate(),
                    usage.decode_rate()
                );
            }
            Event::Failed(why) => panic!("{why}"),
            _ => {}
        }
    }
    assert_eq!(generated, 7);
}
