//! Steering takes a direction out of what layers add, for the tokens that it is meant for and no others.

use std::sync::Arc;

use ds4_engine::{
    Directions, Engine, Event, Guide, Model, Observe, Observed, Options, Request, Rule, Sampling, Steering, When,
};

fn model() -> Arc<Model> {
    Arc::new(Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap())
}

/// The same unit vector for every layer: alternating signs.
fn directions(model: &Model) -> Arc<Directions> {
    let shape = &model.weights.shape;
    let unit = 1.0 / (shape.hidden as f32).sqrt();
    let values = (0..shape.layers() * shape.hidden).map(|i| if i % 2 == 0 { unit } else { -unit });
    Arc::new(Directions::new(values.collect(), shape).unwrap())
}

fn prompt(model: &Model) -> Vec<u32> {
    let mut tokens = vec![model.tokenizer.bos()];
    tokens.extend(model.tokenizer.encode(&"Once there was a cat that could count to seven. ".repeat(20)));
    tokens
}

/// Steers after some tokens.
#[derive(Debug)]
struct After(usize);

impl Guide for After {
    fn rule(&mut self) -> Rule<'_> {
        Rule::default()
    }

    fn drawn(&mut self, _: u32) {
        self.0 = self.0.saturating_sub(1);
    }

    fn steers(&self) -> bool {
        self.0 == 0
    }
}

/// Logits after the prompt, tokens of the answer, and how much of the prompt was there already.
fn ask(engine: &Engine, tokens: &[u32], steering: Option<Steering>, after: usize) -> (Vec<u32>, Vec<u32>, usize) {
    let guide: Option<Box<dyn Guide>> = Some(Box::new(After(after)));
    let request = Request {
        steering,
        guide,
        observe: Observe::Logits,
        sampling: Sampling { temperature: 0.8, seed: 5, ..Sampling::GREEDY },
        stop: vec![],
        ..Request::greedy(tokens.to_vec(), 40, 0)
    };
    let (mut logits, mut answer, mut reused) = (Vec::new(), Vec::new(), 0);
    for event in engine.submit(request).unwrap() {
        match event {
            Event::Observed(Observed::Logits(all)) => logits = all.iter().map(|l| l.to_bits()).collect(),
            Event::Token(token) => answer.push(token.id),
            Event::Finished(_, usage) => reused = usage.reused,
            Event::Failed(why) => panic!("{why}"),
            _ => {}
        }
    }
    (logits, answer, reused)
}

#[test]
fn only_the_tokens_that_are_meant_are_steered_and_the_cache_tells_them_apart() {
    // H209, H212, H213
    let model = model();
    let engine =
        Engine::start(Arc::clone(&model), Options { context: 2048, threads: 2, ..Options::default() }).unwrap();
    let (tokens, directions) = (prompt(&model), directions(&model));
    let steer = |ffn, when| Some(Steering { directions: Arc::clone(&directions), ffn, attention: ffn / 2.0, when });
    let plain = ask(&engine, &tokens, None, 0);

    let always = ask(&engine, &tokens, steer(-3.0, When::Always), 0);
    assert_eq!(always.2, 0, "steered rows are not those of the plain prompt");
    assert!(always.0 != plain.0 && always.1 != plain.1);
    let again = ask(&engine, &tokens, steer(-3.0, When::Always), 0);
    assert_eq!((&again.0, &again.1, again.2), (&always.0, &always.1, tokens.len() - 1), "steered prompts are kept too");
    assert_ne!(ask(&engine, &tokens, steer(3.0, When::Always), 0).0, always.0, "the sign counts");

    let decoding = ask(&engine, &tokens, steer(-3.0, When::Decoding), 0);
    assert_eq!((&decoding.0, decoding.1[0]), (&plain.0, plain.1[0]), "the prompt is read as it is");
    assert_ne!(decoding.1, plain.1);

    let guided = ask(&engine, &tokens, steer(-3.0, When::Guided), 9);
    assert_eq!((&guided.0, &guided.1[..9]), (&plain.0, &plain.1[..9]), "plain up to the token that is steered");
    assert_ne!(guided.1, plain.1);

    // An answer that comes back is read as any prompt is, whatever is in the cache.
    let next = [&tokens[..], &guided.1, &model.tokenizer.encode("And then?")].concat();
    let warm = ask(&engine, &next, None, 0);
    assert!(warm.2 >= tokens.len() - 1 && warm.2 <= tokens.len() + 9, "{} of {}", warm.2, tokens.len());
    engine.forget().unwrap();
    let cold = ask(&engine, &next, None, 0);
    assert_eq!((warm.0, warm.1, cold.2), (cold.0, cold.1, 0));
    assert_eq!(ask(&engine, &tokens, steer(-3.0, When::Guided), 9).1, guided.1);
}
