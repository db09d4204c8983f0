//! The built-in model has the same logits on every machine, to the last bit. A change of docs/numerics.md or of the
//! model changes these numbers; nothing else may.

use ds4_cpu::{Cpu, Family, Limits};
use ds4_gguf::File;
use ds4_model::{Batch, CacheLayout, CachePlan, NoTap, Numerics, Ops, Outputs, PAGE_TOKENS, Scratch, Weights, forward};
use ds4_testkit::Tensors;

/// FNV-1a over the bits of the logits after each of the first tokens, fed at once.
fn fingerprint(weights: &Weights, numerics: Numerics, ids: &[u32]) -> u64 {
    let (shape, pages) = (&weights.shape, ids.len().div_ceil(PAGE_TOKENS));
    let mut cpu = Cpu::new(shape, numerics, Limits { threads: 1, tokens: ids.len(), context: ids.len() });
    let plan = CachePlan { slots: 1, pages, step: ids.len() };
    let mut cache = cpu.cache(&CacheLayout::new(shape, numerics.rows, plan));
    let mut scratch = Scratch::new(&mut cpu, shape, ids.len(), ids.len());
    let mut batch = Batch::new();
    batch.push(0, 0, ids, &(0..pages as u32).collect::<Vec<_>>(), Outputs::All);
    cpu.begin(&batch);
    forward(&mut cpu, weights, &mut scratch, &mut cache, &mut NoTap);
    let mut logits = Vec::new();
    (0..ids.len()).for_each(|i| cpu.read_logits(&scratch.logits, i, &mut logits));
    assert_eq!(logits.len(), ids.len() * shape.vocab);
    let bytes = logits.iter().flat_map(|logit| logit.to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn the_built_in_model_has_the_same_logits_everywhere() {
    let root = ds4_testkit::root();
    let weights = Weights::load(&File::open(&root.join("mini/v4-mini.gguf")).unwrap()).unwrap();
    let ids = Tensors::read(&root.join("fixtures/mini-logits.safetensors")).i32s("ids");
    let ids: Vec<u32> = ids.into_iter().map(|id| id as u32).collect();
    // 280 tokens reach a third page, rows of the slowest compressor and choices by the indexer. The other modes differ
    // in their products and stored rows only.
    for (numerics, name, tokens, want) in [
        (Numerics::DEFAULT, "default", 280, 0xde34_ae60_117e_63fd),
        (Numerics::QUALITY, "quality", 30, 0x73cd_55f2_7515_9d32),
        (Numerics::EXACT, "exact", 30, 0x105e_f80a_c09f_22c9),
    ] {
        let found = fingerprint(&weights, numerics, &ids[..tokens]);
        assert_eq!(found, want, "{name} on {}: {found:#018x} instead of {want:#018x}", Family::current());
    }
}
