//! Synthetic models: bytes against other implementations, and that what is made loads.

use std::fs;
use std::path::Path;

use ds4_gguf::{File, Header, Writer};
use ds4_lab::synth::{Model, Options, Plan, Recipe, tensors, write};
use ds4_model::{Shape, Weights};
use ds4_tokenizer::{TokenType, Vocabulary};

/// Parts of payloads as `tests/golden/synth_payloads.py` makes them.
const PAYLOADS: &str = include_str!("golden/synth_payloads.txt");

/// FNV-1a of everything before the payloads of five layers of Flash (256 experts, seed 1, V4's tokenizer) in a file made
/// with NumPy, whose payloads were byte-equal to ours as well.
const HEADER_HASH: u64 = 0x7896_6bd5_9204_c5f5;

fn options() -> Options {
    Options::new(Model::Flash, Recipe::Q2)
}

/// Five layers of all kinds with the narrowest matrices that hold whole blocks. The embedding takes several pieces.
fn small() -> Plan {
    let shape = Shape {
        name: "small".into(),
        hidden: 256,
        vocab: 9000,
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
    Plan { shape, recipe: Recipe::Q2, seed: 3 }
}

/// A vocabulary that is good enough for a header.
fn vocabulary(len: usize) -> Vocabulary {
    let tokens = (0..len).map(|i| format!("t{i}")).collect();
    let types = vec![TokenType::Normal; len];
    Vocabulary { tokens, types, merges: vec!["t0 t1".into()], bos: 0, eos: 1, pad: Some(2) }
}

fn header_bytes(header: &Header) -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer::begin("header", &mut bytes, header).unwrap();
    bytes
}

#[test]
fn payloads_are_those_of_other_implementations() {
    let tensors = tensors(&Model::Flash.shape(5, 256), Recipe::Q2);
    for line in PAYLOADS.lines() {
        let [name, offset, hex] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let tensor = tensors.iter().find(|t| t.name == name).unwrap();
        let mut bytes = vec![0; hex.len() / 2];
        tensor.fill(1, offset.parse().unwrap(), &mut bytes);
        let found: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert!(found == hex, "{name} at {offset}");
    }
}

#[test]
fn the_header_is_that_of_other_implementations() {
    let Some(dir) = ds4_testkit::oracle("tok") else { return };
    let json = fs::read_to_string(dir.join("tokenizer.json")).unwrap();
    let vocabulary = Vocabulary::from_hf_json(&json).unwrap();
    let header = options().plan().unwrap().header(&vocabulary).unwrap();
    let fnv = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3);
    let hash = header_bytes(&header).iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    assert_eq!(hash, HEADER_HASH, "{hash:#x}");
}

#[test]
fn a_written_model_loads_and_holds_what_was_planned() {
    for recipe in [Recipe::Q2, Recipe::Q4] {
        let plan = Plan { recipe, ..small() };
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("small.gguf");
        let mut last = (0, 1);
        let summary = plan.write(&vocabulary(9000), &out, false, &mut |done, all| last = (done, all)).unwrap();
        let file = File::open(&out).unwrap();
        assert_eq!(Weights::load(&file).unwrap().shape, plan.shape);
        assert_eq!((summary.tensors, summary.bytes), (file.tensors().len(), file.size()));
        assert_eq!(last.0, last.1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        for tensor in tensors(&plan.shape, recipe) {
            let mut whole = vec![0; tensor.bytes() as usize];
            tensor.fill(plan.seed, 0, &mut whole);
            assert!(*file.bytes(file.tensor(&tensor.name).unwrap()) == *whole, "{}", tensor.name);
        }
    }
}

/// Real widths, as files that are nothing but a header and a hole. The layers after the first five repeat these.
#[test]
fn the_published_shapes_load() {
    let vocabulary = vocabulary(129_280);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse.gguf");
    for (model, recipe) in [(Model::Flash, Recipe::Q4), (Model::Pro, Recipe::Q2)] {
        let plan = Options::new(model, recipe).plan().unwrap();
        sparse(&path, &plan.header(&vocabulary).unwrap());
        let weights = Weights::load(&File::open(&path).unwrap()).unwrap();
        assert_eq!(weights.shape, plan.shape);
    }
}

fn sparse(path: &Path, header: &Header) {
    let writer = Writer::begin("sparse", Vec::new(), header).unwrap();
    let last = writer.tensors().last().unwrap();
    let end = last.offset + last.len;
    fs::write(path, header_bytes(header)).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_len(end).unwrap();
}

#[test]
fn fewer_layers_and_experts_load_too() {
    for layers in 1..5 {
        let mut plan = small();
        plan.shape.ratios.truncate(layers);
        plan.shape.hash_layers = layers.min(3);
        plan.shape.swiglu_clamp.truncate(layers);
        plan.shape.experts = 6;
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("few.gguf");
        plan.write(&vocabulary(9000), &out, false, &mut |_, _| {}).unwrap();
        Weights::load(&File::open(&out).unwrap()).unwrap();
    }
}

#[test]
fn an_existing_file_is_replaced_only_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model.gguf");
    fs::write(&out, "precious").unwrap();
    let write = |overwrite| small().write(&vocabulary(9000), &out, overwrite, &mut |_, _| {});
    let error = write(false).unwrap_err().to_string();
    assert!(error.ends_with("model.gguf: exists; give another name, or --overwrite to replace it"), "{error}");
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    write(true).unwrap();
    File::open(&out).unwrap();
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = small();
    plan.shape.hidden = 200;
    let error = plan.write(&vocabulary(9000), &dir.path().join("m.gguf"), false, &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("row length 200 is not a multiple of 32"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

    let missing = dir.path().join("no/such/m.gguf");
    let error = small().write(&vocabulary(9000), &missing, false, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("m.gguf.part: cannot create: "), "{error}");
    let error = small().write(&vocabulary(9000), dir.path(), true, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.ends_with("expected the name of a file to write"), "{error}");
}

#[test]
fn impossible_options_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = |options: Options| {
        let out = dir.path().join("m.gguf");
        write(&options, &vocabulary(300), &out, &mut |_, _| {}).unwrap_err().to_string()
    };
    assert_eq!(error(Options { layers: 44, ..options() }), "--layers 44: V4 Flash takes 1 to 43");
    assert_eq!(error(Options { layers: 0, ..options() }), "--layers 0: V4 Flash takes 1 to 43");
    assert_eq!(error(Options { experts: 5, ..options() }), "--experts 5: V4 Flash takes 6 to 65536");
    let other = "the tokenizer has 300 tokens, the model 129280; give the tokenizer.json of DeepSeek V4";
    assert_eq!(error(options()), other);
}

#[test]
fn names_say_what_is_in_a_file() {
    let name = |options: Options| options.plan().unwrap().shape.name;
    assert_eq!(name(options()), "synthetic-v4-flash-5L-256E-s1");
    let pro = Options { layers: 61, seed: 9, ..Options::new(Model::Pro, Recipe::Q4) };
    assert_eq!(name(pro), "synthetic-v4-pro-q4-61L-384E-s9");
}
