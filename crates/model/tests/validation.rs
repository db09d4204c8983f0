//! What makes a file no model: a line for each key or tensor, with what was expected and found.

use ds4_gguf::{File, Format};
use ds4_model::{Mtp, Weights};

const NAME: &str = "odd.gguf";

/// The built-in model's bytes, to be damaged.
struct Bytes(Vec<u8>);

impl Bytes {
    fn new() -> Self {
        Self(std::fs::read(ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap())
    }

    fn find(&self, what: &str) -> usize {
        let at = self.0.windows(what.len()).position(|w| w == what.as_bytes());
        at.unwrap_or_else(|| panic!("{what} is in the file"))
    }

    /// Where the value of a metadata key begins.
    fn value(&self, key: &str) -> usize {
        self.find(key) + key.len() + 4
    }

    fn set_u32(mut self, key: &str, value: u32) -> Self {
        let at = self.value(key);
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    fn rename(mut self, from: &str, to: &str) -> Self {
        assert_eq!(from.len(), to.len());
        let at = self.find(from);
        self.0[at..at + to.len()].copy_from_slice(to.as_bytes());
        self
    }

    fn file(self) -> File {
        File::from_bytes(NAME, self.0).unwrap()
    }

    /// The loader's lines.
    fn problems(self) -> Vec<String> {
        let error = Weights::load(&self.file()).expect_err("the file is refused");
        let lines = error.to_string();
        lines.lines().map(|l| l.strip_prefix("odd.gguf: ").expect("each line names the file").to_string()).collect()
    }
}

#[test]
fn the_model_itself_loads() {
    let weights = Weights::load(&Bytes::new().file()).unwrap();
    assert_eq!(weights.shape.ratios, [0, 4, 128, 4, 128]);
    assert!(weights.mtp.is_none());
}

#[test]
fn sizes_out_of_range_are_named() {
    let one = |key: &str, value| Bytes::new().set_u32(&format!("deepseek4.{key}"), value).problems();
    assert_eq!(one("attention.head_count_kv", 2), ["key deepseek4.attention.head_count_kv: expected 1, found 2"]);
    assert_eq!(one("hyper_connection.count", 8), ["key deepseek4.hyper_connection.count: expected 4, found 8"]);
    assert_eq!(
        one("expert_gating_func", 1),
        ["key deepseek4.expert_gating_func: expected 4 (square root of softplus), found 1"]
    );
    assert_eq!(
        one("attention.value_length", 32),
        ["key deepseek4.attention.value_length: expected key_length 128, found 32"]
    );
    assert_eq!(
        one("attention.output_group_count", 3),
        ["key deepseek4.attention.output_group_count: expected a divisor of head_count 4, found 3"]
    );
    assert_eq!(
        one("expert_used_count", 9),
        ["key deepseek4.expert_used_count: expected at most expert_count 4, found 9"]
    );
    assert_eq!(
        one("rope.dimension_count", 33),
        [
            "key deepseek4.rope.dimension_count: expected an even number below attention.key_length 128, found 33",
            "key deepseek4.attention.key_length: expected rope.dimension_count 33 plus a multiple of 64, found 128",
        ]
    );
    let zero = one("block_count", 0);
    assert_eq!(zero[0], "key deepseek4.block_count: expected a number from 1 to 1024, found 0");
    let more = one("block_count", 12);
    let line = "key deepseek4.attention.compress_ratios: expected at least block_count 12 entries, found 5";
    assert!(more.iter().any(|l| l == line), "{more:?}");
}

#[test]
fn keys_that_are_missing_or_of_another_type_are_named() {
    let problems = Bytes::new().rename("deepseek4.expert_count", "deepseek4.expert_kount").problems();
    assert_eq!(problems, ["key deepseek4.expert_count: expected a number, found nothing"]);

    let mut bytes = Bytes::new();
    let at = bytes.value("deepseek4.rope.freq_base") - 4;
    bytes.0[at] = 4; // f32 becomes u32
    let problems = bytes.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("key deepseek4.rope.freq_base: expected f32, found u32"), "{problems:?}");

    let at = Bytes::new().value("deepseek4.attention.compress_ratios") + 12;
    let mut bytes = Bytes::new();
    bytes.0[at] = 3;
    let problems = bytes.problems();
    assert_eq!(problems, ["key deepseek4.attention.compress_ratios: expected entries 0, 4 or 128, found 3"]);
}

#[test]
fn tensors_that_are_missing_or_of_another_shape_are_named_all_of_them() {
    let problems = Bytes::new().rename("blk.3.attn_sinks.weight", "blk.3.attn_sinkz.weight");
    let problems = problems.rename("blk.4.ffn_norm.weight", "blk.4.ffn_morn.weight").problems();
    assert_eq!(
        problems,
        [
            "tensor blk.3.attn_sinks.weight: expected shape [4], found no such tensor",
            "tensor blk.4.ffn_norm.weight: expected shape [256], found no such tensor",
        ]
    );
    // A layer of another kind wants other tensors.
    let at = Bytes::new().value("deepseek4.attention.compress_ratios") + 12;
    let mut bytes = Bytes::new();
    bytes.0[at..at + 4].copy_from_slice(&4u32.to_le_bytes()); // layer 0 becomes ratio 4
    let problems = bytes.problems();
    assert_eq!(problems[0], "tensor blk.0.attn_compressor_kv.weight: expected shape [256, 256], found no such tensor");
    assert!(problems.len() > 8, "{problems:?}");
}

#[test]
fn formats_without_a_decoder_and_floats_that_must_be_floats_are_named() {
    let with_type = |tensor: &str, dims: usize, id: u32| {
        let mut bytes = Bytes::new();
        let at = bytes.find(tensor) + tensor.len() + 4 + 8 * dims;
        bytes.0[at..at + 4].copy_from_slice(&id.to_le_bytes());
        match File::from_bytes(NAME, bytes.0) {
            Ok(file) => Weights::load(&file).err().unwrap().to_string(),
            Err(error) => error.to_string(),
        }
    };
    // I8 has a byte an element, no more than what is there.
    let problem = with_type("blk.1.attn_q_b.weight", 2, 24);
    let line = "odd.gguf: tensor blk.1.attn_q_b.weight: expected type F32, F16, BF16, Q8_0, Q4_K, Q2_K or IQ2_XXS, found type I8";
    assert_eq!(problem, line);
    let problem = with_type("blk.1.hc_attn_fn.weight", 2, Format::Q8_0.id());
    assert_eq!(problem, "odd.gguf: tensor blk.1.hc_attn_fn.weight: expected type F32, F16 or BF16, found type Q8_0");
}

#[test]
fn values_that_would_poison_everything_are_found_when_loading() {
    let file = Bytes::new().file();
    let offset = |name: &str| file.tensor(name).unwrap().offset as usize;

    let mut bytes = Bytes::new();
    let at = offset("blk.2.attn_norm.weight") + 4 * 7;
    bytes.0[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert_eq!(bytes.problems(), ["tensor blk.2.attn_norm.weight: expected finite values, found NaN at index 7"]);

    let mut bytes = Bytes::new();
    let at = offset("blk.1.ffn_gate_tid2eid.weight") + 4 * (2 * 10 + 1);
    bytes.0[at..at + 4].copy_from_slice(&4i32.to_le_bytes());
    assert_eq!(
        bytes.problems(),
        ["tensor blk.1.ffn_gate_tid2eid.weight: expected experts 0 to 3, found 4 for token 10 slot 1"]
    );
}

#[test]
fn a_missing_router_bias_is_no_bias() {
    let bytes = Bytes::new().rename("blk.3.exp_probs_b.bias", "blk.3.exp_probs_x.bias");
    assert!(Weights::load(&bytes.file()).is_ok());
}

#[test]
fn a_file_without_drafting_weights_is_no_drafting_file() {
    let file = Bytes::new().file();
    let shape = Weights::load(&file).unwrap().shape;
    let error = Mtp::load(&shape, &file).err().unwrap().to_string();
    assert!(
        error.lines().next().unwrap().starts_with("odd.gguf: tensor mtp.0.e_proj.weight: expected shape"),
        "{error}"
    );
    assert!(error.lines().last().unwrap().contains("more"), "{error}");
}
