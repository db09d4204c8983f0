//! The built-in model against transformers, with the weights that ship (`mini/reference.py`).

mod common;

use common::Runner;
use ds4_gguf::File;
use ds4_model::{Numerics, Weights};
use ds4_testkit::Tensors;

const TOLERANCE: f32 = 1e-3;

#[test]
fn the_built_in_model_computes_what_transformers_computes() {
    let root = ds4_testkit::root();
    let weights = Weights::load(&File::open(&root.join("mini/v4-mini.gguf")).unwrap()).unwrap();
    let reference = Tensors::read(&root.join("fixtures/mini-logits.safetensors"));
    let ids: Vec<u32> = reference.i32s("ids").into_iter().map(|i| i as u32).collect();
    let columns: Vec<usize> = reference.i32s("columns").into_iter().map(|c| c as usize).collect();
    let (want, best, narrow) = (reference.f32s("logits"), reference.i32s("best"), reference.i32s("narrow"));
    assert_eq!(ids.len(), 2048);

    let logits = Runner::new(&weights, Numerics::EXACT, 2, ids.len()).feed_chunks(&ids, &[512]);

    let (mut worst, mut compared) = (0f32, 0);
    for (t, logits) in logits.chunks(weights.shape.vocab).enumerate() {
        if narrow.contains(&(t as i32)) {
            println!("position {t}: a choice within 1e-5, not compared");
            continue;
        }
        for (column, want) in columns.iter().zip(&want[t * columns.len()..]) {
            worst = worst.max((logits[*column] - want).abs());
        }
        let first = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
        assert!(first as i32 == best[t] || logits[first] - logits[best[t] as usize] < TOLERANCE, "position {t}");
        compared += 1;
    }
    println!("{compared} positions, max |difference| {worst:e}");
    assert!(worst <= TOLERANCE, "{worst}");
    assert!(compared >= 2000, "only {compared} positions compared");
}
