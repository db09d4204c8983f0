//! Checkpoints that convert, and what is said of those that do not.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use common::{exact_recipe, load, options, shape_of};
use ds4_gguf::{File, Format};
use ds4_lab::convert::{Error, Options, Progress, Recipe};
use ds4_model::{Mtp, Weights};
use ds4_testkit::oracle;

/// A copy of some files of the oracle's checkpoint, to damage.
fn copy(folder: &Path, files: &[&str]) -> Option<PathBuf> {
    let tiny = oracle("tiny")?;
    let copy = folder.join("checkpoint");
    fs::create_dir(&copy).unwrap();
    for file in files {
        fs::copy(tiny.join(file), copy.join(file)).unwrap();
    }
    Some(copy)
}

fn convert(options: &Options<'_>, out: &Path) -> Result<(), Error> {
    ds4_lab::convert::convert(options, out, &AtomicBool::new(false), &mut |_| {})
}

/// The error of converting a checkpoint; nothing may be left behind.
fn refusal(checkpoint: &Path) -> String {
    let out = checkpoint.join("out.gguf");
    let error = convert(&options(checkpoint), &out).unwrap_err().to_string();
    assert!(!out.exists() && !checkpoint.join("out.gguf.part").exists());
    error.replace(&checkpoint.display().to_string(), "DIR")
}

#[test]
fn every_format_holds_the_checkpoints_values() {
    let Some(tiny) = oracle("tiny") else { return };
    let exact = load(&tiny, exact_recipe());
    let same = |recipe| {
        let weights: Weights = load(&tiny, recipe);
        let decode = |w: &Weights| {
            let m = &w.layers[4].attention.q_b;
            let mut values = vec![0.0; m.cols * m.rows];
            ds4_gguf::blocks::decode(m.format, &m.bytes, &mut values).unwrap();
            values
        };
        decode(&weights).iter().zip(decode(&exact)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    // The oracle's weights are exact in both 16-bit formats.
    assert_eq!(same(Recipe::uniform(Format::F16)), 0.0);
    assert_eq!(same(Recipe::uniform(Format::BF16)), 0.0);
    assert!((1e-6..1e-2).contains(&same(Recipe::Q8_0)));
}

#[test]
fn the_drafting_block_becomes_a_file_that_fits_its_model() {
    let Some(tiny) = oracle("tiny") else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("mtp.gguf");
    convert(&Options { mtp: true, ..options(&tiny) }, &out).unwrap();
    let mtp = Mtp::load(&shape_of(&tiny), &File::open(&out).unwrap()).unwrap();
    assert_eq!((mtp.e_proj.rows, mtp.layer.feed_forward.experts.gate.count), (256, 8));
    assert!(mtp.layer.attention.compressor.is_none());
}

#[test]
fn progress_grows_from_nothing_to_everything() {
    let Some(tiny) = oracle("tiny") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut seen: Vec<Progress> = Vec::new();
    let out = folder.path().join("x.gguf");
    ds4_lab::convert::convert(&options(&tiny), &out, &AtomicBool::new(false), &mut |p| seen.push(p)).unwrap();
    let total = File::open(&out).unwrap().tensors().iter().map(|t| t.len).sum();
    assert_eq!((seen[0], seen[seen.len() - 1]), (Progress { done: 0, total }, Progress { done: total, total }));
    assert!(seen.windows(2).all(|w| w[0].done < w[1].done));
}

#[test]
fn folders_that_are_no_checkpoints_are_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(refusal(folder.path()), "DIR/config.json: No such file or directory (os error 2)");
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let missing = refusal(folder.path());
    assert!(missing.starts_with("DIR/config.json: missing field `vocab_size`"), "{missing}");
    let Some(bare) = copy(folder.path(), &["config.json"]) else { return };
    assert_eq!(refusal(&bare), "DIR: no *.safetensors file in this folder");
}

#[test]
fn configurations_the_engine_would_refuse_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let Some(checkpoint) = copy(folder.path(), &["config.json", "model.safetensors"]) else { return };
    let path = checkpoint.join("config.json");
    let original = fs::read_to_string(&path).unwrap();
    for (from, to, line) in [
        (
            "\"o_groups\": 2",
            "\"o_groups\": 0",
            "key deepseek4.attention.output_group_count: expected a number from 1 to 1024, found 0",
        ),
        (
            "\"n_routed_experts\": 8",
            "\"n_routed_experts\": 0",
            "key deepseek4.expert_count: expected a number from 1 to 65536, found 0",
        ),
    ] {
        fs::write(&path, original.replace(from, to)).unwrap();
        let refused = refusal(&checkpoint);
        assert!(refused.lines().any(|l| l.ends_with(line)), "{refused}");
    }
    // Shapes that do not belong to these tensors.
    fs::write(&path, original.replace("\"moe_intermediate_size\": 256", "\"moe_intermediate_size\": 128")).unwrap();
    let refused = refusal(&checkpoint);
    let line = "DIR: tensor model.layers.0.mlp.experts.gate_up_proj: shape [8, 512, 256], expected [8, 256, 256]";
    assert!(refused.contains(line), "{refused}");
}

#[test]
fn damaged_shards_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let Some(checkpoint) = copy(folder.path(), &["config.json", "model.safetensors"]) else { return };
    let path = checkpoint.join("model.safetensors");
    let original = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        refusal(&checkpoint)
    };
    assert!(refused(b"").starts_with("DIR/model.safetensors: no safetensors header"));
    assert!(refused(&[255; 64]).contains("not a safetensors file, or cut off"));
    let cut = refused(&original[..original.len() / 2]);
    assert!(cut.starts_with("DIR/model.safetensors: expected ") && cut.contains("cut-off download"), "{cut}");
    let mut renamed = original.clone();
    let name = b"model.layers.3.self_attn.sinks";
    let at = renamed.windows(name.len()).position(|w| w == name).unwrap();
    renamed[at + name.len() - 1] = b'z';
    let line = "DIR: tensor model.layers.3.self_attn.sinks: no such tensor; expected shape [4]";
    assert_eq!(refused(&renamed), line);
}
