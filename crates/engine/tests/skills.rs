//! What the built-in model can do, through the engine as it ships: 8-bit activations, rounded rows, greedy.

use std::sync::Arc;

use ds4_engine::{Engine, Event, Model, Options, Request};
use ds4_model::Numerics;

/// Percent that each skill must reach; the trained model has 100 of all in the reference implementation.
const AT_LEAST: [(&str, usize); 6] =
    [("exact", 97), ("sum", 97), ("sum_held", 97), ("greet", 97), ("system", 97), ("tool", 97)];

#[test]
fn the_built_in_model_has_its_skills() {
    let model = Model::open(&ds4_testkit::root().join("mini/v4-micro.gguf")).unwrap();
    let options = Options { numerics: Numerics::DEFAULT, context: 1024, threads: 1, step: 256, oversubscribe: false };
    let engine = Engine::start(Arc::new(model), options).unwrap();
    let mut sequence = engine.sequence().unwrap();
    let tokenizer = &engine.model().tokenizer;

    let text = std::fs::read_to_string(ds4_testkit::root().join("fixtures/skills.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (skill, least) in AT_LEAST {
        let rows: Vec<(String, String)> = serde_json::from_value(fixture["skills"][skill].clone()).unwrap();
        let mut right = 0;
        for (prompt, answer) in &rows {
            let request = Request::greedy(tokenizer.encode(prompt), 120, tokenizer.eos());
            let tokens: Vec<u32> = sequence
                .submit(request)
                .unwrap()
                .filter_map(|event| if let Event::Token(token) = event { Some(token.id) } else { None })
                .collect();
            let got = tokenizer.decode(&tokens);
            if got == *answer {
                right += 1;
            } else {
                println!("{skill}: {got:?} instead of {answer:?}");
            }
        }
        let percent = 100 * right / rows.len();
        println!("{skill}: {right} of {} right, {percent} %", rows.len());
        assert!(percent >= least, "{skill}: {percent} %, expected at least {least} %");
    }
}
