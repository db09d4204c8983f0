//! What is counted and timed, on the built-in model.

use std::time::Duration;

use ds4_engine::{Model, Options};
use ds4_lab::bench::{Profile, Work};
use ds4_model::{OperationTime, StoredRows};

fn mini() -> Model {
    Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap()
}

fn options(context: usize) -> Options {
    Options { context, threads: 2, step: 64, ..Options::default() }
}

/// Every operation of a step of the built-in model, as it is printed.
const OPERATIONS: [&str; 22] = [
    "begin ",
    "embed ",
    "hyper_in ",
    "project attn_q_a",
    "norm ",
    "store_window ",
    "project attn_q_b",
    "queries ",
    "attend ",
    "project_groups attn_output_a",
    "project attn_output_b",
    "hyper_out ",
    "route ",
    "experts_in ",
    "experts_out ",
    "shared_expert ",
    "compress attention rows",
    "compress indexer rows",
    "select_rows ",
    "head_in ",
    "project output",
    "read_logits ",
];

#[test]
fn a_profile_has_every_operation_and_no_more_time_than_there_was() {
    let model = mini();
    let tokens: Vec<u32> = (3..203).collect();
    let profile = Profile::measure(&model, &options(256), &tokens, 4);
    assert_eq!((profile.context, profile.step, profile.generated), (200, 64, 4));
    let names = |of: &[OperationTime]| of.iter().map(|o| format!("{} {}", o.operation, o.detail)).collect::<Vec<_>>();
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let all = sorted(OPERATIONS.map(String::from).to_vec());
    assert_eq!(sorted(names(&profile.decode.operations)), all);
    let read: Vec<String> = all.iter().filter(|n| !n.starts_with("read_logits")).cloned().collect();
    assert_eq!(sorted(names(&profile.prefill.operations)), read);
    let layers = model.weights.shape.layers();
    for (part, steps) in [(&profile.prefill, 1), (&profile.decode, 4)] {
        let sum: Duration = part.operations.iter().map(|o| o.time).sum();
        assert!(!sum.is_zero() && sum <= part.wall, "{sum:?} of {:?}", part.wall);
        let calls = |name| part.operations.iter().find(|o| o.operation == name).unwrap().calls;
        assert_eq!((calls("begin"), calls("attend"), calls("hyper_in")), (steps, steps * layers, 2 * steps * layers));
    }
    let printed = profile.to_string();
    assert!(all.iter().all(|name| printed.contains(name.trim())), "{printed}");
    assert!(printed.contains("all "), "{printed}");
}

#[test]
fn a_profile_of_one_token_has_no_prompt_step() {
    let profile = Profile::measure(&mini(), &options(8), &[3], 1);
    assert_eq!((profile.step, profile.prefill.operations.len()), (0, 0));
    assert_eq!(profile.decode.operations.len(), OPERATIONS.len());
}

#[test]
fn attention_grows_with_the_context_until_only_the_indexer_does() {
    let model = mini();
    let work = Work::of(&model.weights, StoredRows::Trained);
    let shape = &model.weights.shape;
    let bytes = |context| work.attention(context).bytes;
    // One token sees itself in the window of every layer, and no compressed row yet.
    let row = shape.nope_dim() + shape.nope_dim() / shape.row_block() + 2 * shape.rope_dim;
    assert_eq!(bytes(1), shape.layers() * row);
    // Far out, 1,024 tokens more are 8 rows for a ratio-128 layer and 256 to choose from for a ratio-4 one.
    let layers = |ratio| shape.ratios.iter().filter(|r| **r == ratio).count();
    let index_row = shape.index_dim / 2 + shape.index_dim / 32;
    let far = 128 * 1024;
    assert_eq!(bytes(far + 1024) - bytes(far), layers(128) * 8 * row + layers(4) * 256 * index_row);
    assert!(work.decode_limit(1e9, far) < work.decode_limit(1e9, 1));
    assert_eq!(work.prefill_limit(2.0 * work.prefill_products), 2.0);
}
