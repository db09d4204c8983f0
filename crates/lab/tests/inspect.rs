//! What the reports say. `UPDATE_GOLDEN=1` rewrites the expected texts.

use std::fs;
use std::path::Path;

use ds4_gguf::{File, Format, Header, Writer};
use ds4_lab::inspect::{check, metadata, summary, tensors};
use ds4_lab::synth::{self, Model, Options, Plan, Recipe};
use ds4_model::Shape;
use ds4_tokenizer::{TokenType, Vocabulary};

const VOCAB: usize = 300;

/// Five layers of all kinds with the narrowest matrices that hold whole blocks.
fn plan() -> Plan {
    let shape = Shape {
        name: "small".into(),
        hidden: 256,
        vocab: VOCAB,
        heads: 4,
        head_dim: 128,
        q_rank: 64,
        out_groups: 2,
        out_rank: 64,
        index_heads: 2,
        index_dim: 64,
        index_top_k: 16,
        expert_ff: 256,
        ..Model::Flash.shape(5, 8)
    };
    Plan { shape, recipe: Recipe::Q2, seed: 1 }
}

/// A vocabulary that is good enough for a header.
fn vocabulary(len: usize) -> Vocabulary {
    let tokens = (0..len).map(|i| format!("t{i}")).collect();
    let types = vec![TokenType::Normal; len];
    Vocabulary { tokens, types, merges: vec!["t0 t1".into()], bos: 0, eos: 1, pad: None }
}

fn small() -> File {
    File::from_bytes("small.gguf", small_with(&[])).unwrap()
}

/// The bytes of the small file, with others at (tensor, offset in its payload).
fn small_with(damage: &[(&str, usize, &[u8])]) -> Vec<u8> {
    let plan = plan();
    let header = plan.header(&vocabulary(VOCAB)).unwrap();
    let mut writer = Writer::begin("small.gguf", Vec::new(), &header).unwrap();
    for tensor in synth::tensors(&plan.shape, plan.recipe) {
        let mut payload = vec![0; tensor.bytes() as usize];
        tensor.fill(plan.seed, 0, &mut payload);
        for (_, offset, bad) in damage.iter().filter(|(name, ..)| *name == tensor.name) {
            payload[*offset..offset + bad.len()].copy_from_slice(bad);
        }
        writer.tensor(&tensor.name, &payload).unwrap();
    }
    writer.finish().unwrap()
}

/// The metadata of the small file and its tensors in the formats that `format` gives, none of it to leave one out, then
/// whatever `more` adds; all payloads zero.
fn variant(format: impl Fn(&str, Format) -> Option<Format>, more: impl Fn(&mut Header)) -> File {
    let file = small();
    let mut header = Header::new();
    for (key, value) in file.metadata().iter() {
        header.value(key, value.clone());
    }
    for tensor in file.tensors() {
        if let Some(format) = format(&tensor.name, tensor.format) {
            header.tensor(&tensor.name, &tensor.dims, format);
        }
    }
    more(&mut header);
    let mut writer = Writer::begin("variant.gguf", Vec::new(), &header).unwrap();
    for tensor in writer.tensors().to_vec() {
        writer.tensor(&tensor.name, &vec![0; tensor.len as usize]).unwrap();
    }
    File::from_bytes("variant.gguf", writer.finish().unwrap()).unwrap()
}

fn same(_: &str, format: Format) -> Option<Format> {
    Some(format)
}

/// The line of `text` that begins with `label`.
#[track_caller]
fn line<'a>(text: &'a str, label: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(label)).unwrap_or_else(|| panic!("no line {label} in:\n{text}"))
}

#[track_caller]
fn assert_golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{name} differs, found:\n{found}");
}

#[test]
fn the_summary_of_a_small_model() {
    let summary = summary(&small());
    assert!(summary.loads);
    assert_golden("inspect_summary.txt", &summary.text);
}

#[test]
fn the_lists_of_a_small_model() {
    assert_golden("inspect_tensors.txt", &tensors(&small()));
    assert_golden("inspect_metadata.txt", &metadata(&small()));
}

/// A header and a hole have all that the summary reads.
#[test]
fn flash_has_the_published_numbers() {
    let plan = Options { layers: 43, ..Options::new(Model::Flash, Recipe::Q2) }.plan().unwrap();
    let header = plan.header(&vocabulary(plan.shape.vocab)).unwrap();
    let mut bytes = Vec::new();
    let end = Writer::begin("flash", &mut bytes, &header).unwrap().tensors().last().map(|t| t.offset + t.len).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flash.gguf");
    fs::write(&path, bytes).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(end).unwrap();

    let text = summary(&File::open(&path).unwrap()).text;
    assert!(line(&text, "parameters").ends_with("284B, 13.3B active per token"), "{text}");
    assert!(
        line(&text, "layers").contains("43: 2 window only, 21 of ratio 4, 20 of ratio 128; 3 hash-routed"),
        "{text}"
    );
    assert!(line(&text, "per token").ends_with("3.51 KB"), "{text}");
}

#[test]
fn mixed_experts_are_reported_by_range() {
    let late = |name: &str, format| {
        let layer = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()).unwrap_or("0");
        Some(if name.contains("_exps") && ["2", "3"].contains(&layer) { Format::Q4_K } else { format })
    };
    let summary = summary(&variant(late, |_| {}));
    assert!(summary.loads, "{}", summary.text);
    let lines: Vec<&str> =
        summary.text.lines().skip_while(|line| !line.starts_with("routed experts")).take(4).collect();
    let end = lines.iter().map(|line| line.split("B  ").last().unwrap()).collect::<Vec<_>>();
    assert_eq!(end, ["mixed:", "gate and up IQ2_XXS, down Q2_K", "Q4_K", "gate and up IQ2_XXS, down Q2_K"]);
    let starts = ["routed experts", "  layers 0-1", "  layers 2-3", "  layer 4"];
    assert!(lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{lines:?}");
}

#[test]
fn a_file_that_does_not_load_is_described_with_what_is_wrong() {
    let missing = |name: &str, format| (name != "blk.3.attn_kv.weight").then_some(format);
    let summary = summary(&variant(missing, |_| {}));
    assert!(!summary.loads);
    assert!(line(&summary.text, "hidden").ends_with("256 in 4 streams"), "{}", summary.text);
    let (_, problems) = summary.text.split_once("\nds4 cannot run this file:\n").unwrap();
    let expected = "tensor blk.3.attn_kv.weight: expected shape [256, 128], found no such tensor\n";
    assert_eq!(problems, format!("variant.gguf: {expected}"));
}

#[test]
fn another_architecture_is_described_too() {
    let mut header = Header::new();
    header.str("general.architecture", "llama").str("general.name", "other\u{1b}[31m");
    header.tensor("blk.0.ffn_up.weight", &[256, 2], Format::Other(14)).tensor("ids", &[3], Format::I32);
    let mut writer = Writer::begin("llama.gguf", Vec::new(), &header).unwrap();
    writer.tensor("blk.0.ffn_up.weight", &[0xff; 420]).unwrap();
    writer.tensor("ids", &[0xff; 12]).unwrap();
    let file = File::from_bytes("llama.gguf", writer.finish().unwrap()).unwrap();
    let summary = summary(&file);
    assert!(!summary.loads);
    assert_golden("inspect_llama.txt", &summary.text);

    let checked = check(&file, &mut |_, _| {});
    assert_eq!((checked.tensors, checked.skipped.len()), (0, 2));
    assert!(checked.is_sound());
}

/// Whatever the reader lets through, the reports survive.
#[test]
fn damaged_headers_are_described_or_refused() {
    let mut bytes = small_with(&[]);
    let (header, mut opened) = (16_700, 0);
    for i in 0..400 {
        let at = (i * 7919) % header;
        let before = bytes[at];
        bytes[at] ^= 1 << (i % 8);
        if let Ok(file) = File::from_bytes("damaged.gguf", bytes.clone()) {
            opened += 1;
            let all = [summary(&file).text, tensors(&file), metadata(&file), check(&file, &mut |_, _| {}).to_string()];
            assert!(all.iter().all(|text| !text.contains('\u{1b}')));
        }
        bytes[at] = before;
    }
    assert!(opened > 50, "{opened}");
}

#[test]
fn drafting_and_release_are_recognised() {
    let text = |more: fn(&mut Header)| summary(&variant(same, more)).text;
    assert!(line(&text(|_| {}), "drafting").ends_with("no MTP block"));
    let beside = text(|h| {
        h.u32("deepseek4.nextn_predict_layers", 1);
    });
    assert!(line(&beside, "drafting").ends_with("the MTP block is a file of its own (--mtp)"));
    let inside = text(|h| {
        h.tensor("mtp.0.norm.weight", &[256], Format::F32);
    });
    assert!(line(&inside, "drafting").ends_with("MTP block of 256 parameters"));
    assert!(inside.contains("tensor mtp.0.e_proj.weight: expected shape [256, 256], found no such tensor"), "{inside}");

    assert!(line(&text(|_| {}), "chat release").ends_with("not stated"));
    let named = text(|h| {
        h.str("general.basename", "DeepSeek-V4-Flash-0731");
    });
    assert!(line(&named, "chat release").ends_with("0731, by general.basename"));
}

/// What the check says about the small file with some bytes changed.
fn check_with(damage: &[(&str, usize, &[u8])]) -> String {
    let file = File::from_bytes("small.gguf", small_with(damage)).unwrap();
    let mut last = (0, 1);
    let checked = check(&file, &mut |done, all| last = (done, all));
    assert_eq!(last.0, last.1, "progress ends at the end");
    assert_eq!(checked.is_sound(), damage.is_empty());
    checked.to_string()
}

#[test]
fn a_sound_file_passes_the_check() {
    let text = check_with(&[]);
    let end = ": every scale and value is finite; not checked: 3 tensors of integers or unknown formats";
    assert!(text.starts_with("checked 147 tensors, ") && text.ends_with(end), "{text}");
}

#[test]
fn scales_and_values_that_are_not_finite_are_named() {
    let nan = 0x7e00u16.to_le_bytes();
    let minus_infinity = 0xfc00u16.to_le_bytes();
    let text = check_with(&[
        // 8 blocks of 34 bytes a row.
        ("blk.1.attn_kv.weight", 34 * (5 * 8 + 2), &nan),
        ("blk.1.attn_kv.weight", 34 * (5 * 8 + 3), &nan),
        // One block of 84 bytes a row, 256 rows an expert.
        ("blk.2.ffn_down_exps.weight", 84 * (3 * 256 + 7) + 82, &minus_infinity),
        ("blk.4.ffn_gate_exps.weight", 66 * 256 * 8 - 66, &nan),
        ("token_embd.weight", 2 * (299 * 256 + 255), &nan),
        ("output_norm.weight", 4 * 9, &f32::INFINITY.to_le_bytes()),
    ]);
    let found: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(
        found,
        [
            "tensor token_embd.weight: row 299 column 255: value is NaN",
            "tensor output_norm.weight: row 0 column 9: value is inf",
            "tensor blk.1.attn_kv.weight: row 5 block 2: d is NaN; 2 in all",
            "tensor blk.2.ffn_down_exps.weight: expert 3 row 7 block 0: dmin is -inf",
            "tensor blk.4.ffn_gate_exps.weight: expert 7 row 255 block 0: d is NaN",
        ]
    );
}

#[test]
fn every_format_is_checked() {
    for (format, at) in [
        (Format::F32, 0),
        (Format::BF16, 0),
        (Format::F16, 0),
        (Format::Q8_0, 0),
        (Format::Q4_K, 0),
        (Format::Q4_K, 2),
        (Format::Q2_K, 80),
        (Format::Q2_K, 82),
        (Format::IQ2_XXS, 0),
    ] {
        let mut header = Header::new();
        header.tensor("t", &[256, 3], format);
        let mut writer = Writer::begin("one.gguf", Vec::new(), &header).unwrap();
        let size = format.block_bytes();
        let mut payload = vec![0; 3 * 256 / format.block_len() * size];
        // All ones are a NaN in every kind of float.
        let last_block = payload.len() - size;
        payload[last_block + at..][..size.min(4 - at % 4)].fill(0xff);
        writer.tensor("t", &payload).unwrap();
        let file = File::from_bytes("one.gguf", writer.finish().unwrap()).unwrap();
        let found = check(&file, &mut |_, _| {}).damaged.remove(0);
        let block = 256 / format.block_len() as u64 - 1;
        assert!((found.row, found.block, found.count) == (2, block, 1) && found.value.is_nan(), "{format}: {found}");
    }
}
