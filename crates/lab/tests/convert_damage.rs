//! Damaged and hostile checkpoints: each refused before anything is written, with a line for every fault.

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use common::options;
use ds4_gguf::Format;
use ds4_lab::convert::{Options, Recipe, convert, parse_header, parse_index};
use ds4_testkit::checkpoint::{Checkpoint, Sizes};
use safetensors::Dtype;
use tempfile::{TempDir, tempdir};

/// splitmix64: the same damage on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) as usize % n
    }

    /// Damage as transfers, editors and attackers do it: cut off, bits flipped, bytes replaced, a number made large.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        match self.below(4) {
            0 => bytes.truncate(self.below(bytes.len())),
            1 => {
                for _ in 0..1 + self.below(3) {
                    let at = self.below(bytes.len());
                    bytes[at] ^= 1 << self.below(8);
                }
            }
            2 => {
                let at = self.below(bytes.len());
                bytes[at] = b"0919{}[]\",:-e \n\0"[self.below(16)];
            }
            _ => {
                let digits: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i].is_ascii_digit()).collect();
                let at = digits.get(self.below(digits.len().max(1))).copied().unwrap_or(0);
                let digits = ["9", "99999999", "18446744073709551615", "-1", "1e9", "4294967296"][self.below(6)];
                bytes.splice(at..at, digits.bytes());
            }
        }
    }
}

fn sizes() -> Sizes {
    Sizes { hidden: 64, vocab: 16, experts: 2, expert_ff: 32, ratios: vec![0, 4], seed: 1 }
}

struct Case {
    folder: TempDir,
    checkpoint: Checkpoint,
}

impl Case {
    fn new() -> Self {
        Self { folder: tempdir().unwrap(), checkpoint: Checkpoint::new(&sizes()) }
    }

    fn write(self) -> Self {
        self.checkpoint.write(self.folder.path());
        self
    }

    fn sharded(self) -> Self {
        self.checkpoint.write_sharded(self.folder.path(), 3);
        self
    }

    /// What is said of it; nothing may be left behind.
    fn refusal(&self) -> String {
        refusal(&options(self.folder.path())).expect("the checkpoint is damaged")
    }
}

fn refusal(options: &Options<'_>) -> Option<String> {
    let out = options.checkpoint.join("out.gguf");
    let result = convert(options, &out, &AtomicBool::new(false), &mut |_| {});
    if result.is_ok() {
        fs::remove_file(&out).unwrap();
        return None;
    }
    assert!(!out.exists());
    let said = result.unwrap_err().to_string();
    assert!(said.lines().all(|l| !l.is_empty() && !l.chars().any(char::is_control)), "{said}");
    Some(said.replace(&options.checkpoint.display().to_string(), "DIR"))
}

#[test]
fn every_fault_is_named_at_once() {
    let mut case = Case::new();
    let c = &mut case.checkpoint;
    c.tensors.remove("layers.0.attn.wq_b.scale");
    c.tensors.remove("layers.1.ffn.experts.1.w2.weight");
    c.tensor("layers.0.attn.wkv.weight").shape = vec![48, 128];
    c.tensor("layers.1.attn.wo_a.scale").shape = vec![4, 1];
    c.tensor("layers.0.ffn.experts.0.w1.scale").shape = vec![64, 1];
    c.tensor("layers.0.ffn.experts.1.w3.weight").dtype = Dtype::U8;
    c.tensor("layers.0.ffn.shared_experts.w1.scale").dtype = Dtype::U8;
    c.tensor("layers.0.ffn.gate.tid2eid").dtype = Dtype::U64;
    let norm = c.tensor("norm.weight");
    *norm = ds4_testkit::checkpoint::Stored { dtype: Dtype::I8, shape: vec![64], bytes: vec![0; 64] };
    c.tensor("layers.1.attn.wo_a.scale").bytes.resize(4, 127);
    let said = case.write().refusal();
    let expected = [
        "DIR: tensor norm.weight: type I8 in 1 dimensions, expected a matrix",
        "DIR: tensor layers.0.attn.wq_b.scale: no such tensor; F8_E4M3 without scales",
        "DIR: tensor layers.0.attn.wkv.weight: shape [48, 128], expected [96, 64] for this config.json",
        "DIR: tensor layers.0.ffn.gate.tid2eid: type U64, expected I32 or I64",
        "DIR: tensor layers.0.ffn.experts.0.w1.scale: shape [64, 1], expected [32, 2] for this config.json",
        "DIR: tensor layers.0.ffn.shared_experts.w1.scale: type U8, expected F8_E8M0",
        "DIR: tensor layers.0.ffn.experts.1.w3.weight: type U8, expected F32, F16, BF16, F8_E4M3 or I8 (FP4)",
        "DIR: tensor layers.1.attn.wo_a.scale: shape [4, 1], expected [2, 2] for this config.json",
        "DIR: tensor layers.1.ffn.experts.1.w2.weight: no such tensor; expected shape [64, 32]",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{said}");
}

#[test]
fn missing_cut_off_and_doubled_shards_are_named() {
    let shard = |case: &Case, i: usize| case.folder.path().join(format!("model-0000{i}-of-00003.safetensors"));
    let case = Case::new().sharded();
    fs::remove_file(shard(&case, 2)).unwrap();
    let whole = fs::read(shard(&case, 3)).unwrap();
    fs::write(shard(&case, 3), &whole[..whole.len() - 1]).unwrap();
    let said = case.refusal();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "DIR/model-00002-of-00003.safetensors: No such file or directory (os error 2)");
    let (expected, found) = (whole.len(), whole.len() - 1);
    let cut = "DIR/model-00003-of-00003.safetensors: expected ";
    assert_eq!(lines[1..], [format!("{cut}{expected} bytes, found {found} (cut-off download?)")], "{said}");

    // The index takes precedence: a shard that it does not name is not looked at.
    let case = Case::new().sharded();
    fs::write(case.folder.path().join("consolidated.safetensors"), "not a shard").unwrap();
    assert_eq!(refusal(&options(case.folder.path())), None);

    // Without an index the tensors are in two files then.
    let case = Case::new().sharded().write();
    fs::remove_file(case.folder.path().join("model.safetensors.index.json")).unwrap();
    let said = case.refusal();
    assert!(said.lines().count() == 41 && said.ends_with("more problems"), "{said}");
    let line = "DIR/model.safetensors: tensor embed.weight is in model-00001-of-00003.safetensors too";
    assert!(said.lines().any(|l| l == line), "{said}");
}

#[test]
fn an_index_that_is_wrong_is_named() {
    let case = Case::new().sharded();
    let path = case.folder.path().join("model.safetensors.index.json");
    let index = fs::read_to_string(&path).unwrap();
    let said = |index: &str| {
        fs::write(&path, index).unwrap();
        case.refusal()
    };
    let moved = index.replacen("model-00001", "model-00002", 1);
    let line = "DIR/model-00002-of-00003.safetensors: tensor embed.weight is not in this file but in \
                model-00001-of-00003.safetensors";
    assert_eq!(said(&moved), line);
    for elsewhere in ["/etc/passwd", "../model.safetensors", "a/b", "..", ""] {
        let refused = said(&index.replacen("model-00001-of-00003.safetensors", elsewhere, 1));
        let line = format!("tensor embed.weight: expected the name of a file in this folder, found {elsewhere:?}");
        assert!(refused.contains(&line), "{refused}");
    }
    assert!(said("{\"weight_map\": {}}").contains("weight_map lists no tensors"));
    assert!(said("[]").starts_with("DIR/model.safetensors.index.json: "));
}

#[test]
fn values_that_no_weight_has_are_named_with_their_place() {
    let value = |change: fn(&mut Checkpoint), format: Format| {
        let mut case = Case::new();
        change(&mut case.checkpoint);
        let case = case.write();
        refusal(&Options { recipe: Recipe::uniform(format), ..options(case.folder.path()) }).unwrap()
    };
    let nan_code = value(|c| c.tensor("layers.0.attn.wq_a.weight").bytes[64 + 5] = 0x7f, Format::Q8_0);
    let damaged = "not a weight; the checkpoint is damaged";
    assert_eq!(nan_code, format!("tensor layers.0.attn.wq_a.weight: NaN in row 1, column 5: {damaged}"));
    let nan_scale = value(|c| c.tensor("layers.1.ffn.experts.1.w3.scale").bytes[3] = 255, Format::F32);
    assert_eq!(nan_scale, format!("tensor layers.1.ffn.experts.1.w3.weight: NaN in row 1, column 32: {damaged}"));
    let large = value(|c| c.tensor("layers.0.attn.wq_a.scale").bytes[0] = 250, Format::F16);
    assert!(large.contains("too large for F16; choose another format for it"), "{large}");
    let expert = value(|c| c.tensor("layers.0.ffn.gate.tid2eid").bytes[8 * 7] = 9, Format::F32);
    assert_eq!(expert, "tensor layers.0.ffn.gate.tid2eid: 9 in row 3, column 1: expected an expert, 0 to 1");
}

#[test]
fn formats_that_cannot_be_written_are_refused_for_each_tensor() {
    let case = Case::new().write();
    let recipe = Recipe { experts: Format::Q4_K, small: Format::Q8_0, ..Recipe::Q8_0 };
    let said = refusal(&Options { recipe, ..options(case.folder.path()) }).unwrap();
    let line = "tensor blk.1.ffn_up_exps.weight: Q4_K cannot be written yet; choose F32, F16, BF16 or Q8_0";
    assert!(said.lines().any(|l| l == line), "{said}");
    let line = "tensor blk.0.ffn_gate_inp.weight: must stay a float; choose F32, F16 or BF16";
    assert!(said.lines().any(|l| l == line), "{said}");
}

#[test]
fn a_thousand_damaged_headers_are_refused_or_describe_what_is_there() {
    let case = Case::new().write();
    let file = fs::read(case.folder.path().join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header = &file[8..8 + length];
    let whole = parse_header(header).unwrap();
    let (mut random, mut refused) = (Random(1), 0);
    for i in 0..1000 {
        let mut damaged = header.to_vec();
        (0..1 + i % 2).for_each(|_| random.damage(&mut damaged));
        match parse_header(&damaged) {
            Err(why) => {
                refused += 1;
                assert!(!why.is_empty() && why.chars().count() <= 257 && !why.chars().any(char::is_control), "{why}");
            }
            // A name, a type of the same size, or white space.
            Ok((tensors, data)) => assert_eq!((tensors.len(), data), (whole.0.len(), whole.1)),
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn a_name_that_a_header_has_twice_is_refused() {
    let twice = br#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                     "a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}"#;
    assert_eq!(parse_header(twice).unwrap_err(), "invalid offset for tensor `a`");
}

#[test]
fn sizes_that_lie_are_refused_without_taking_memory() {
    let case = Case::new().write();
    let path = case.folder.path().join("model.safetensors");
    let file = fs::read(&path).unwrap();
    for length in [u64::MAX, 1 << 40, (32 << 20) + 1, file.len() as u64, 0, 7] {
        fs::write(&path, [&length.to_le_bytes(), &file[8..]].concat()).unwrap();
        assert!(case.refusal().starts_with("DIR/model.safetensors: "));
    }
    fs::write(&path, file).unwrap();
    // A model of billions of experts, of which two are there.
    let config = case.folder.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap();
    let layers = 1000;
    let many = text
        .replace("\"n_routed_experts\": 2", "\"n_routed_experts\": 65536")
        .replace("\"num_hidden_layers\": 2", &format!("\"num_hidden_layers\": {layers}"))
        .replace("[0, 4, 0]", &format!("{:?}", vec![4; layers]));
    fs::write(&config, many).unwrap();
    let said = case.refusal();
    assert!(said.lines().count() == 41 && said.ends_with("more problems"), "{said}");
    fs::write(&config, text.replace("\"num_nextn_predict_layers\": 1", "\"num_nextn_predict_layers\": 4000000000"))
        .unwrap();
    assert!(case.refusal().contains("nextn_predict_layers"));
    peak_memory_below(256);
}

#[test]
fn hundreds_of_damaged_checkpoints_are_refused_or_converted() {
    let case = Case::new().sharded();
    let file = |name: &str| case.folder.path().join(name);
    let names = ["config.json", "model.safetensors.index.json", "model-00001-of-00003.safetensors"];
    let (mut random, mut refused) = (Random(2), [0; 3]);
    for (name, refused) in names.iter().zip(&mut refused) {
        let whole = fs::read(file(name)).unwrap();
        for _ in 0..150 {
            let mut damaged = whole.clone();
            random.damage(&mut damaged);
            fs::write(file(name), &damaged).unwrap();
            *refused += usize::from(refusal(&options(case.folder.path())).is_some());
            remove_unfinished(case.folder.path());
        }
        fs::write(file(name), whole).unwrap();
    }
    assert!(refused.iter().all(|n| *n > 30), "{refused:?}");
    peak_memory_below(256);
}

#[test]
fn damaged_scales_are_refused_with_their_tensor() {
    let whole = Checkpoint::new(&sizes());
    let scales: Vec<&String> =
        whole.tensors.keys().filter(|n| n.ends_with(".scale") && !n.starts_with("mtp.")).collect();
    let mut random = Random(4);
    for _ in 0..150 {
        let mut case = Case::new();
        let name = scales[random.below(scales.len())];
        let stored = case.checkpoint.tensor(name);
        match random.below(4) {
            0 => stored.shape.reverse(),
            1 => stored.dtype = [Dtype::U8, Dtype::I8, Dtype::F8_E5M2, Dtype::BOOL][random.below(4)],
            2 => stored.bytes.fill(255),
            _ => _ = case.checkpoint.tensors.remove(name),
        }
        let square = case.checkpoint.tensors.get(name) == whole.tensors.get(name);
        let case = case.write();
        let said = refusal(&options(case.folder.path()));
        assert!(square || said.is_some_and(|s| s.contains(name.trim_end_matches("scale")) && s.lines().count() == 1));
    }
}

#[test]
fn damaged_indexes_name_files_of_the_folder_only() {
    let case = Case::new().sharded();
    let index = fs::read(case.folder.path().join("model.safetensors.index.json")).unwrap();
    let mut random = Random(3);
    for _ in 0..500 {
        let mut damaged = index.clone();
        random.damage(&mut damaged);
        match parse_index(&damaged) {
            Err(why) => assert!(!why.is_empty() && !why.contains('\n'), "{why}"),
            Ok(map) => {
                assert!(map.values().all(|file| Path::new(file).file_name().is_some_and(|n| n == file.as_str())))
            }
        }
    }
}

/// What damage that only the values show leaves: the beginning of a file, to be continued.
fn remove_unfinished(folder: &Path) {
    for name in ["out.gguf.part", "out.gguf.part.json"] {
        let _ = fs::remove_file(folder.join(name));
    }
}

/// Checks how much memory this test's process ever had (other tests share it unless each runs in its own).
fn peak_memory_below(megabytes: usize) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let Some(line) = status.lines().find_map(|l| l.strip_prefix("VmHWM:")) else {
        return ds4_testkit::skip("peak memory: no /proc/self/status");
    };
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < megabytes * 1024, "{kilobytes} kB");
}
