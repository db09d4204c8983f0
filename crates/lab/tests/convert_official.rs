//! Checkpoints as DeepSeek publishes them: FP8 and FP4 with scales, in shards.

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::{Runner, load, options};
use ds4_gguf::{File, Format};
use ds4_lab::convert::{Options, Recipe, convert};
use ds4_model::Numerics;
use ds4_testkit::checkpoint::{Checkpoint, Sizes};
use tempfile::{TempDir, tempdir};

fn written(checkpoint: &Checkpoint) -> TempDir {
    let folder = tempdir().unwrap();
    checkpoint.write(folder.path());
    folder
}

/// The file that a conversion makes.
fn bytes(options: &Options<'_>) -> Vec<u8> {
    let folder = tempdir().unwrap();
    let out = folder.path().join("x.gguf");
    convert(options, &out, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["x.gguf"], "nothing but the result is left");
    fs::read(out).unwrap()
}

#[test]
fn fp8_and_fp4_become_the_values_of_their_definition_bit_for_bit() {
    let checkpoint = Checkpoint::new(&Sizes::default());
    let decoded = checkpoint.decoded();
    let folder = written(&checkpoint);
    let file = File::from_bytes("x", bytes(&options(folder.path()))).unwrap();
    let payload = |name: &str| file.bytes(file.tensor(name).unwrap()).to_vec();
    let source = |name: &str| &decoded.tensors[name].bytes;
    for (gguf, official) in [
        ("blk.0.attn_q_a.weight", "layers.0.attn.wq_a.weight"),
        ("blk.1.attn_output_b.weight", "layers.1.attn.wo_b.weight"),
        ("blk.3.indexer.attn_q_b.weight", "layers.3.attn.indexer.wq_b.weight"),
        ("blk.2.ffn_down_shexp.weight", "layers.2.ffn.shared_experts.w2.weight"),
        ("blk.1.hc_ffn_fn.weight", "layers.1.hc_ffn_fn"),
    ] {
        assert!(payload(gguf) == *source(official), "{gguf}");
    }
    for (gguf, w) in [("gate", "w1"), ("down", "w2"), ("up", "w3")] {
        let experts = (0..6).flat_map(|e| source(&format!("layers.2.ffn.experts.{e}.{w}.weight")).clone());
        assert!(payload(&format!("blk.2.ffn_{gguf}_exps.weight")) == experts.collect::<Vec<u8>>(), "{gguf}");
    }
}

#[test]
fn decoding_first_changes_no_byte_whatever_the_format() {
    let checkpoint = Checkpoint::new(&Sizes::default());
    let (folder, decoded) = (written(&checkpoint), written(&checkpoint.decoded()));
    for format in [Format::F32, Format::F16, Format::BF16, Format::Q8_0] {
        for mtp in [false, true] {
            let convert = |folder: &Path| bytes(&Options { recipe: Recipe::uniform(format), mtp, ..options(folder) });
            assert!(convert(folder.path()) == convert(decoded.path()), "{format} mtp {mtp}");
        }
    }
}

#[test]
fn shards_and_threads_change_no_byte() {
    let sizes = Sizes { hidden: 1024, vocab: 2000, experts: 3, ..Sizes::default() }; // several pieces a tensor
    let checkpoint = Checkpoint::new(&sizes);
    let folder = written(&checkpoint);
    let whole = bytes(&Options { threads: 1, recipe: Recipe::Q8_0, ..options(folder.path()) });
    for (shards, indexed, threads) in [(1, true, 2), (3, true, 7), (5, false, 2)] {
        let folder = tempdir().unwrap();
        checkpoint.write_sharded(folder.path(), shards);
        if !indexed {
            fs::remove_file(folder.path().join("model.safetensors.index.json")).unwrap();
        }
        let same = bytes(&Options { threads, recipe: Recipe::Q8_0, ..options(folder.path()) }) == whole;
        assert!(same, "{shards} shards, {threads} threads");
    }
}

#[test]
fn a_converted_checkpoint_computes() {
    let folder = written(&Checkpoint::new(&Sizes::default()));
    for recipe in [Recipe::uniform(Format::F32), Recipe::Q8_0] {
        let weights = load(folder.path(), recipe);
        let mut runner = Runner::new(&weights, Numerics::DEFAULT, 2, 256);
        let tokens: Vec<u32> = (0..200).map(|i| i * 7 % 64).collect();
        let logits = runner.feed_chunks(&tokens, &[64, 1, 9]);
        assert!(logits.len() == 200 * 64 && logits.iter().all(|x| x.is_finite()));
        assert!(logits[..64].iter().any(|x| *x != logits[0]));
    }
}
