//! The whole pass against transformers, without rounding.

mod common;

use common::{Runner, exact_recipe, load};
use ds4_cpu::{Buf, Cpu, Picks};
use ds4_lab::convert::Recipe;
use ds4_model::{Activations, Numerics, Ops, Seen, StoredRows, Tap};
use ds4_testkit::{Tensors, oracle};
use std::path::PathBuf;

const TOLERANCE: f32 = 1e-4;

struct Fixture {
    folder: PathBuf,
    oracle: Tensors,
    ids: Vec<u32>,
}

fn fixture() -> Option<Fixture> {
    let folder = oracle("tiny")?;
    let oracle = Tensors::read(&folder.join("oracle.safetensors"));
    let ids = oracle.i32s("input_ids").into_iter().map(|i| i as u32).collect();
    Some(Fixture { folder, oracle, ids })
}

fn assert_close(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{what}: max |difference| {worst:e}");
    assert!(worst <= TOLERANCE, "{what}: {worst}");
}

#[test]
fn oracle_tiny_logits_of_all_positions_at_once() {
    let Some(f) = fixture() else { return };
    let weights = load(&f.folder, exact_recipe());
    let logits = Runner::new(&weights, Numerics::EXACT, 2, f.ids.len()).feed(&f.ids);
    assert_close(&logits, &f.oracle.f32s("logits_prefill"), "prefill");
}

#[test]
fn oracle_tiny_logits_one_by_one() {
    let Some(f) = fixture() else { return };
    let weights = load(&f.folder, exact_recipe());
    let logits = Runner::new(&weights, Numerics::EXACT, 2, f.ids.len()).feed_chunks(&f.ids, &[1]);
    assert_close(&logits, &f.oracle.f32s("logits_incremental"), "one by one");
}

#[test]
fn oracle_tiny_logits_in_odd_chunks() {
    let Some(f) = fixture() else { return };
    let config = std::fs::read_to_string(f.folder.join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let chunks: Vec<usize> = serde_json::from_value(config["chunks_used"].clone()).unwrap();
    let weights = load(&f.folder, exact_recipe());
    let logits = Runner::new(&weights, Numerics::EXACT, 2, f.ids.len()).feed_chunks(&f.ids, &chunks);
    assert_close(&logits, &f.oracle.f32s("logits_chunked"), "odd chunks");
}

/// Remembers what the reference stored too.
#[derive(Default)]
struct Record {
    chosen: Vec<(Vec<u32>, Vec<f32>)>,
    streams: Vec<Vec<f32>>,
}

impl Tap<Cpu> for Record {
    fn see(&mut self, cpu: &mut Cpu, _: usize, seen: Seen<'_, Cpu>) {
        match seen {
            Seen::Chosen(picks, weights) => self.chosen.push((picks_of(cpu, picks), rows_of(cpu, weights))),
            Seen::Streams(streams) => self.streams.push(rows_of(cpu, streams)),
            _ => {}
        }
    }
}

fn rows_of(cpu: &mut Cpu, buf: &Buf) -> Vec<f32> {
    cpu.read(buf)
}

fn picks_of(cpu: &mut Cpu, picks: &Picks) -> Vec<u32> {
    cpu.read_picks(picks)
}

#[test]
fn oracle_tiny_experts_and_streams_of_every_layer() {
    let Some(f) = fixture() else { return };
    let weights = load(&f.folder, exact_recipe());
    let mut record = Record::default();
    Runner::new(&weights, Numerics::EXACT, 2, f.ids.len()).feed_tapped(&f.ids, &mut record);

    let width = weights.shape.streams_width();
    let used = weights.shape.experts_used;
    for (i, ((picks, w), streams)) in record.chosen.iter().zip(&record.streams).enumerate() {
        // The reference lists a token's experts in no particular order.
        let sorted = |picks: &[u32], weights: &[f32]| -> Vec<(u32, f32)> {
            let mut pairs: Vec<_> = picks.iter().copied().zip(weights.iter().copied()).collect();
            pairs.sort_by_key(|p| p.0);
            pairs
        };
        let want_picks: Vec<u32> =
            f.oracle.i32s(&format!("layer{i}.router_experts")).into_iter().map(|e| e as u32).collect();
        let want_weights = f.oracle.f32s(&format!("layer{i}.router_weights"));
        for t in 0..f.ids.len() {
            let range = t * used..(t + 1) * used;
            let got = sorted(&picks[range.clone()], &w[range.clone()]);
            let want = sorted(&want_picks[range.clone()], &want_weights[range]);
            for (got, want) in got.iter().zip(&want) {
                assert_eq!(got.0, want.0, "layer {i}, token {t}");
                assert!((got.1 - want.1).abs() < TOLERANCE, "layer {i}, token {t}");
            }
        }
        let got: Vec<f32> = f
            .oracle
            .i32s("hidden_positions")
            .iter()
            .flat_map(|&p| streams[p as usize * width..][..width].to_vec())
            .collect();
        assert_close(&got, &f.oracle.f32s(&format!("layer{i}.hidden_streams")), &format!("streams after layer {i}"));
    }
}

#[test]
fn oracle_tiny_logits_of_the_official_code() {
    let Some(f) = fixture() else { return };
    let official = Tensors::read(&f.folder.join("oracle_official.safetensors"));
    let weights = load(&f.folder, exact_recipe());
    let logits = Runner::new(&weights, Numerics::EXACT, 2, f.ids.len()).feed(&f.ids);
    assert_close(&logits, &official.f32s("exact"), "official, exact");
}

#[test]
fn oracle_tiny_eight_bit_activations_stay_close() {
    let Some(f) = fixture() else { return };
    let weights = load(&f.folder, Recipe::Q8_0);
    let logits = |activations| {
        // Rows unrounded: with rounding, the smallest difference flips codes.
        let numerics = Numerics { activations, rows: StoredRows::F32 };
        Runner::new(&weights, numerics, 2, f.ids.len()).feed(&f.ids)
    };
    let (exact, fast) = (logits(Activations::F32), logits(Activations::Int8));
    let n = exact.len() as f32;
    let rms = |x: &mut dyn Iterator<Item = f32>| (x.map(|x| x * x).sum::<f32>() / n).sqrt();
    let error = rms(&mut exact.iter().zip(&fast).map(|(a, b)| a - b)) / rms(&mut exact.iter().copied());
    let vocab = weights.shape.vocab;
    let best = |x: &[f32]| (0..vocab).max_by(|a, b| x[*a].total_cmp(&x[*b]));
    let agree = exact.chunks(vocab).zip(fast.chunks(vocab)).filter(|(a, b)| best(a) == best(b)).count();
    println!("relative error {error:.4}, {agree} of {} best tokens agree", f.ids.len());
    // Random weights route by chance: a choice that flips moves every later token.
    assert!(error < 0.15, "{error}");
    assert!(agree * 100 >= 80 * f.ids.len(), "{agree} of {}", f.ids.len());
}
