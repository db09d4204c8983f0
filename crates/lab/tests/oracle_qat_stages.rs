//! Every stage of every layer, fed with the reference's own inputs, with stored rows rounded as trained and without.

mod common;

use std::path::PathBuf;

use common::{Runner, exact_recipe, load};
use ds4_cpu::Cpu;
use ds4_model::{NoTap, Numerics, Ops, Seen, Series, Tap, attention, feed_forward};
use ds4_testkit::{Tensors, oracle};

/// At least this share of the elements of a rounded stage is equal.
const EQUAL: f64 = 0.995;

struct Chain {
    model: PathBuf,
    tensors: Tensors,
    ids: Vec<u32>,
}

/// The recorded stages, and the folder of the model that they come from.
fn chain(name: &str) -> Option<Chain> {
    let (qat, model) = (oracle("qat")?, oracle("tiny")?);
    let tensors = Tensors::read(&qat.join(name));
    let ids = tensors.i32s("input_ids").into_iter().map(|i| i as u32).collect();
    Some(Chain { model, tensors, ids })
}

/// Largest distance of neighbouring codes, relative to the larger one: 0 and 0.5 in e2m1, 8 and 9 (times a power of two)
/// in e4m3, 1024 and 1025 in f16.
const E2M1_STEP: f32 = 1.0;
const E4M3_STEP: f32 = 0.126;
const F16_STEP: f32 = 0.001;
/// Difference of two summation orders, relative to a stage's largest value.
const ORDER: f32 = 2e-5;
/// The same for attention over rounded rows: the reference keeps the rotary channels of a row in f32, a stored row in
/// f16.
const STORED: f32 = 1e-3;

/// Compares unrounded values, up to `tolerance` relative to the stage's largest.
fn assert_near(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let size = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let apart = got.iter().zip(want).filter(|(a, b)| (*a - *b).abs() > tolerance * size).count();
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / size;
    println!("{what}: {apart} of {} apart, worst {worst:e}", got.len());
    assert!(apart as f64 <= (1.0 - EQUAL) * got.len() as f64, "{what}: {apart} of {} apart", got.len());
}

/// Compares stored rows: equal, or (rarely) one code apart, which is at most `step` of the larger value, or next to
/// nothing close to zero.
fn assert_codes(got: &[f32], want: &[f32], step: f32, what: &str) {
    let nothing = 1e-5 * want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let differ: Vec<(f32, f32)> = got.iter().copied().zip(want.iter().copied()).filter(|(a, b)| a != b).collect();
    println!("{what}: {} of {} differ", differ.len(), got.len());
    assert!(differ.len() as f64 <= (1.0 - EQUAL) * got.len() as f64, "{what}: {} differ", differ.len());
    for (a, b) in differ {
        let one_code = nothing.max(step * a.abs().max(b.abs()));
        assert!((a - b).abs() <= one_code, "{what}: {a} and {b} are more than a code apart");
    }
}

/// Remembers the rows that the indexer selected.
#[derive(Default)]
struct Selected(Vec<u32>);

impl Tap<Cpu> for Selected {
    fn see(&mut self, cpu: &mut Cpu, _: usize, seen: Seen<'_, Cpu>) {
        if let Seen::Selected(picks) = seen {
            self.0 = cpu.read_picks(picks);
        }
    }
}

/// Compares the rows selected for each token as sets; `u32::MAX` and -1 stand for none.
fn assert_selected(got: &[u32], want: &[i32], tokens: usize, what: &str) {
    let rows = got.chunks(got.len() / tokens).zip(want.chunks(want.len() / tokens));
    let (mut wanted, mut missing) = (0, 0);
    for (got, want) in rows {
        let want: Vec<u32> = want.iter().filter(|r| **r >= 0).map(|r| *r as u32).collect();
        assert_eq!(got.iter().filter(|r| **r != u32::MAX).count(), want.len(), "{what}");
        wanted += want.len();
        missing += want.iter().filter(|r| !got.contains(r)).count();
    }
    println!("{what}: {missing} of {wanted} selected rows differ");
    assert!(missing as f64 <= (1.0 - EQUAL) * wanted as f64, "{what}: {missing} of {wanted} differ");
}

fn run(chain: &Chain, numerics: Numerics) {
    let (tensors, t) = (&chain.tensors, chain.ids.len());
    let weights = load(&chain.model, exact_recipe());
    let mut r = Runner::new(&weights, numerics, 2, t);
    let batch = r.batch(&chain.ids);
    r.cpu.begin(&batch);
    let rounded = numerics == Numerics::QUALITY;
    for (i, layer) in weights.layers.iter().enumerate() {
        let stage = |name: &str| tensors.f32s(&format!("layer{i}.{name}"));
        let ratio = weights.shape.ratios[i];
        let (cpu, s, cache) = (&mut r.cpu, &mut r.scratch, &mut r.cache);
        let before = if i == 0 { stage("in") } else { tensors.f32s(&format!("layer{}.out", i - 1)) };

        cpu.write(&mut s.streams, &before);
        cpu.hyper_in(&s.streams, &layer.hc_attention, &layer.attention.norm, &mut s.x, &mut s.mix);
        assert_near(&cpu.read(&s.x), &stage("attn.in"), ORDER, &format!("layer {i} attention input"));

        let mut selected = Selected::default();
        cpu.write(&mut s.x, &stage("attn.in"));
        attention(cpu, i, &layer.attention, ratio, s, cache, &mut selected);
        if let Some(rows) = t.checked_div(ratio) {
            let want = stage("compressor.out");
            let rows = 0..rows;
            let got = cpu.read_rows(cache, i, Series::Attention, &r.pages, rows);
            compare_rows(&got, &want, weights.shape.head_dim, weights.shape.nope_dim(), rounded, i);
        }
        if ratio == 4 {
            let want = stage("indexer.compressor.out");
            let got = cpu.read_rows(cache, i, Series::Index, &r.pages, 0..t / ratio);
            match rounded {
                true => assert_codes(&got, &want, E2M1_STEP, &format!("layer {i} indexer rows")),
                // The transform comes with the rounding in the reference.
                false => assert_eq!(got.len(), want.len()),
            }
            let want = tensors.i32s(&format!("layer{i}.indexer_topk.out"));
            assert_selected(&selected.0, &want, t, &format!("layer {i} indexer"));
        }
        let tolerance = if rounded { STORED } else { ORDER };
        assert_near(&cpu.read(&s.y), &stage("attn.out"), tolerance, &format!("layer {i} attention output"));

        cpu.write(&mut s.y, &stage("attn.out"));
        cpu.hyper_out(&s.y, &s.mix, &mut s.streams);
        cpu.hyper_in(&s.streams, &layer.hc_feed_forward, &layer.feed_forward.norm, &mut s.x, &mut s.mix);
        feed_forward(cpu, i, &layer.feed_forward, s, &mut NoTap);
        assert_near(&cpu.read(&s.y), &stage("ffn.out"), ORDER, &format!("layer {i} feed-forward output"));

        cpu.write(&mut s.y, &stage("ffn.out"));
        cpu.hyper_out(&s.y, &s.mix, &mut s.streams);
        assert_near(&cpu.read(&s.streams), &stage("out"), ORDER, &format!("layer {i} streams"));
    }
    let (cpu, s) = (&mut r.cpu, &mut r.scratch);
    cpu.write(&mut s.streams, &tensors.f32s(&format!("layer{}.out", weights.layers.len() - 1)));
    cpu.head_in(&s.streams, &weights.head, &weights.output_norm, &mut s.head);
    cpu.project(&s.head, &mut [(&weights.output, &mut s.logits)]);
    assert_near(&cpu.read(&s.logits), &tensors.f32s("logits"), ORDER, "logits");
}

fn compare_rows(got: &[f32], want: &[f32], width: usize, nope: usize, rounded: bool, layer: usize) {
    let what = format!("layer {layer} compressed rows");
    if !rounded {
        return assert_near(got, want, ORDER, &what);
    }
    let part = |x: &[f32], rotary: bool| -> Vec<f32> {
        x.chunks(width).flat_map(|row| if rotary { &row[nope..] } else { &row[..nope] }).copied().collect()
    };
    assert_codes(&part(got, false), &part(want, false), E4M3_STEP, &what);
    let f16 = |x: Vec<f32>| -> Vec<f32> { x.into_iter().map(|x| half::f16::from_f32(x).to_f32()).collect() };
    assert_codes(&part(got, true), &f16(part(want, true)), F16_STEP, &format!("{what}, rotary channels"));
}

#[test]
fn oracle_stages_with_rows_rounded_as_trained() {
    let Some(chain) = chain("chain_qat.safetensors") else { return };
    run(&chain, Numerics::QUALITY);
}

#[test]
fn oracle_stages_without_rounding() {
    let Some(chain) = chain("chain_exact.safetensors") else { return };
    run(&chain, Numerics::EXACT);
}
