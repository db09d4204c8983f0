//! Rotation frequencies against the official code's tables.

use ds4_model::rope::Frequencies;
use ds4_model::{Shape, Yarn};
use ds4_testkit::{Tensors, oracle};

/// Only what the tables depend on; the rest of a shape does not matter here.
fn shape(rope_dim: usize) -> Shape {
    let (yarn, ratios) = (Yarn { factor: 16.0, original_context: 65536, beta_fast: 32.0, beta_slow: 1.0 }, vec![0]);
    Shape {
        name: "rope".into(),
        context_length: 1 << 20,
        hidden: 32,
        vocab: 1,
        heads: 1,
        head_dim: 2 * rope_dim,
        rope_dim,
        q_rank: 1,
        out_groups: 1,
        out_rank: 1,
        window: 128,
        ratios,
        index_heads: 0,
        index_dim: 0,
        index_top_k: 0,
        experts: 1,
        experts_used: 1,
        expert_ff: 1,
        hash_layers: 0,
        expert_scale: 1.0,
        swiglu_clamp: vec![10.0],
        sinkhorn_iterations: 20,
        hc_eps: 1e-6,
        rms_eps: 1e-6,
        rope_base: 10000.0,
        compress_rope_base: 160000.0,
        yarn,
        mtp_blocks: 0,
    }
}

#[test]
fn oracle_rope_frequencies_are_within_an_ulp() {
    let Some(dir) = oracle("qat") else { return };
    let ops = Tensors::read(&dir.join("ops.safetensors"));
    for name in ["main", "compress"] {
        let want = ops.f32s(&format!("rope.{name}.inv_freq"));
        let tables = Frequencies::new(&shape(2 * want.len()));
        let got = if name == "main" { &tables.main } else { &tables.compressed };
        // The reference raises to powers with an error of up to an ulp, we with less than one half.
        let apart = |(got, want): (&f32, &f32)| got.to_bits().abs_diff(want.to_bits());
        assert!(got.iter().zip(&want).map(apart).max() <= Some(1), "{name}");
        let equal = got.iter().zip(&want).filter(|p| apart(*p) == 0).count();
        assert!(equal * 10 >= want.len() * 9, "{name}: {equal} of {} equal", want.len());
    }
}
