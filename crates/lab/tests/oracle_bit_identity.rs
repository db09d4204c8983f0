//! The answer depends on the tokens only: every way to feed them gives the same bits.

mod common;

use std::sync::OnceLock;

use common::{Runner, exact_recipe, load};
use ds4_cpu::Cpu;
use ds4_gguf::File;
use ds4_lab::convert::Recipe;
use ds4_lab::synth;
use ds4_model::{Batch, NoTap, Numerics, Ops, Outputs, ROLLBACK, Shape, Weights, forward};
use ds4_testkit::{Tensors, oracle};
use ds4_tokenizer::{TokenType, Vocabulary};
use proptest::prelude::*;

/// A model in one numeric mode, with the logits of feeding all tokens at once on one thread.
struct Case {
    name: &'static str,
    numerics: Numerics,
    weights: Weights,
    ids: Vec<u32>,
    logits: Vec<u32>,
}

/// Every mode: the oracle's model with float and Q8_0 weights, a synthetic one with each K-quant recipe, the built-in one.
fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        let mut cases = Vec::new();
        let mut add = |name, numerics, weights: Weights, ids: &[u32]| {
            let logits = bits(&Runner::new(&weights, numerics, 1, ids.len()).feed(ids));
            cases.push(Case { name, numerics, weights, ids: ids.to_vec(), logits });
        };
        if let Some(folder) = oracle("tiny") {
            let ids = Tensors::read(&folder.join("oracle.safetensors")).i32s("input_ids");
            let ids: Vec<u32> = ids.into_iter().map(|i| i as u32).collect();
            add("exact", Numerics::EXACT, load(&folder, exact_recipe()), &ids);
            add("quality", Numerics::QUALITY, load(&folder, Recipe::Q8_0), &ids);
            add("default", Numerics::DEFAULT, load(&folder, Recipe::Q8_0), &ids);
        }
        let ids: Vec<u32> = (0..150).map(|i| (i * i * 31 + 17 * i) % 512).collect();
        add("Q2 experts", Numerics::DEFAULT, synthetic(synth::Recipe::Q2), &ids);
        add("Q4 experts", Numerics::DEFAULT, synthetic(synth::Recipe::Q4), &ids);
        add("Q2 experts, quality", Numerics::QUALITY, synthetic(synth::Recipe::Q2), &ids);
        let mini = ds4_testkit::root();
        let ids = Tensors::read(&mini.join("fixtures/mini-logits.safetensors")).i32s("ids");
        let ids: Vec<u32> = ids.into_iter().take(280).map(|i| i as u32).collect();
        let modes = [("exact", Numerics::EXACT), ("quality", Numerics::QUALITY), ("default", Numerics::DEFAULT)];
        for (name, numerics) in modes {
            let file = File::open(&mini.join("mini/v4-mini.gguf")).expect("the built-in model opens");
            add(name, numerics, Weights::load(&file).expect("it loads"), &ids);
        }
        cases
    })
}

/// A small model with random K-quant experts and every kind of layer.
fn synthetic(recipe: synth::Recipe) -> Weights {
    let shape = Shape {
        hidden: 256,
        vocab: 512,
        heads: 4,
        head_dim: 128,
        q_rank: 64,
        out_groups: 2,
        out_rank: 64,
        index_heads: 8,
        index_dim: 64,
        index_top_k: 16,
        expert_ff: 256,
        ..synth::Model::Flash.shape(5, 8)
    };
    let vocabulary = Vocabulary {
        tokens: (0..512).map(|i| format!("t{i}")).collect(),
        types: vec![TokenType::Normal; 512],
        merges: vec!["t0 t1".into()],
        bos: 0,
        eos: 1,
        pad: None,
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("synthetic.gguf");
    synth::Plan { shape, recipe, seed: 5 }.write(&vocabulary, &out, false, &mut |_, _| {}).expect("it is written");
    Weights::load(&File::open(&out).expect("it opens")).expect("it loads")
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

impl Case {
    fn runner(&self, threads: usize) -> Runner<'_> {
        Runner::new(&self.weights, self.numerics, threads, self.ids.len())
    }

    /// Checks the logits of the tokens from `first` on.
    fn check(&self, first: usize, logits: &[f32], how: &str) {
        let vocab = self.weights.shape.vocab;
        for (i, logits) in logits.chunks(vocab).enumerate() {
            let want = &self.logits[(first + i) * vocab..][..vocab];
            assert!(bits(logits) == want, "{}, {how}: position {} differs", self.name, first + i);
        }
    }
}

#[test]
fn oracle_bits_are_the_same_on_one_to_eight_threads() {
    for case in cases() {
        for threads in 1..=8 {
            case.check(0, &case.runner(threads).feed(&case.ids), &format!("{threads} threads"));
        }
    }
}

#[test]
fn oracle_bits_of_decoding_are_those_of_prefill() {
    for case in cases() {
        case.check(0, &case.runner(2).feed_chunks(&case.ids, &[1]), "one by one");
    }
}

/// Random cases of each property; `PROPTEST_CASES` says how many a soak wants.
fn cases_wanted() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases_wanted(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn oracle_bits_do_not_depend_on_chunks(chunks in prop::collection::vec(1usize..150, 1..8), threads in 1usize..5) {
        for case in cases() {
            case.check(0, &case.runner(threads).feed_chunks(&case.ids, &chunks), &format!("chunks {chunks:?}"));
        }
    }

    /// Feeds, takes up to 16 tokens back, feeds other tokens, takes those back, and goes on.
    #[test]
    fn oracle_bits_survive_rollback_and_redo(steps in prop::collection::vec((1usize..120, 0..=ROLLBACK), 1..8)) {
        for case in cases() {
            let (mut runner, mut longest) = (case.runner(2), 0);
            for &(feed, back) in &steps {
                let first = runner.tokens;
                let end = case.ids.len().min(first + feed);
                if first == end {
                    break;
                }
                case.check(first, &runner.feed(&case.ids[first..end]), &format!("steps {steps:?}"));
                // Sixteen tokens from the longest state so far.
                longest = longest.max(end);
                runner.rollback(back.min(runner.tokens).min(runner.tokens + ROLLBACK - longest));
                let other: Vec<u32> = case.ids[runner.tokens..end].iter().map(|t| (t + 1) % 512).collect();
                if !other.is_empty() {
                    runner.feed(&other);
                    runner.rollback(other.len());
                }
            }
            let first = runner.tokens;
            if first < case.ids.len() {
                case.check(first, &runner.feed(&case.ids[first..]), &format!("after steps {steps:?}"));
            }
        }
    }

    #[test]
    fn oracle_bits_do_not_depend_on_the_rest_of_the_batch(cut in 1usize..149, chunk in 1usize..40) {
        for case in cases() {
            let mut shared = Shared::new(case);
            // One sequence reads the tokens in order, the other one those from `cut` on first: different neighbours in
            // every step, and other positions.
            let ids = &case.ids[..150];
            let (a, b) = (ids, &ids[cut..]);
            let mut runner = case.runner(1);
            let alone = runner.feed(b);
            let (mut got_a, mut got_b) = (Vec::new(), Vec::new());
            for first in (0..a.len()).step_by(chunk) {
                let part = |x: &'static [u32]| x.get(first..x.len().min(first + chunk)).unwrap_or(&[]);
                let (logits_a, logits_b) = shared.feed(part(a), part(b));
                got_a.extend(logits_a);
                got_b.extend(logits_b);
            }
            case.check(0, &got_a, "first sequence of two");
            prop_assert!(bits(&got_b) == bits(&alone), "{}: second sequence of two, from {cut}", case.name);
        }
    }
}

/// Two sequences in one cache.
struct Shared {
    case: &'static Case,
    cpu: Cpu,
    scratch: ds4_model::Scratch<Cpu>,
    cache: ds4_cpu::Cache,
    tokens: [u32; 2],
}

impl Shared {
    fn new(case: &'static Case) -> Self {
        let shape = &case.weights.shape;
        let limits = ds4_cpu::Limits { threads: 2, tokens: 80, context: case.ids.len() };
        let mut cpu = Cpu::new(shape, case.numerics, limits);
        let plan = ds4_model::CachePlan { slots: 2, pages: 8, step: 40 };
        let cache = cpu.cache(&ds4_model::CacheLayout::new(shape, case.numerics.rows, plan));
        let scratch = ds4_model::Scratch::new(&mut cpu, shape, 80, 80);
        Self { case, cpu, scratch, cache, tokens: [0, 0] }
    }

    fn feed(&mut self, a: &[u32], b: &[u32]) -> (Vec<f32>, Vec<f32>) {
        let mut batch = Batch::new();
        // Interleaved pages.
        for (slot, (part, pages)) in [(a, [0, 2, 4, 6]), (b, [7, 5, 3, 1])].into_iter().enumerate() {
            if !part.is_empty() {
                batch.push(slot, self.tokens[slot], part, &pages, Outputs::All);
                self.tokens[slot] += part.len() as u32;
            }
        }
        self.cpu.begin(&batch);
        forward(&mut self.cpu, &self.case.weights, &mut self.scratch, &mut self.cache, &mut NoTap);
        let mut logits = Vec::new();
        (0..batch.len()).for_each(|i| self.cpu.read_logits(&self.scratch.logits, i, &mut logits));
        let b = logits.split_off(a.len() * self.case.weights.shape.vocab);
        (logits, b)
    }
}
