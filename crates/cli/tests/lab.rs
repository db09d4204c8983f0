//! `ds4 lab`

mod common;

use common::{Home, model};

#[test]
fn inspect_lists_and_checks() {
    let home = Home::new();
    let said = home.ds4(&["lab", "inspect", &model(), "--tensors"]).answer();
    assert!(said.lines().any(|l| l.contains("blk.1.indexer.attn_q_b.weight") && l.contains("F16")), "{said}");
    let said = home.ds4(&["lab", "inspect", &model(), "--metadata"]).answer();
    assert!(said.contains("deepseek4.attention.compress_ratios"), "{said}");
    assert!(home.ds4(&["lab", "inspect", &model(), "--check"]).answer().contains("every scale and value is finite"));

    let mut bytes = std::fs::read(model()).unwrap();
    let len = bytes.len();
    bytes[len - 4000..].fill(0xFF); // the last tensors are in Q8_0: NaN scales
    std::fs::write(home.file("nan.gguf"), bytes).unwrap();
    let said = home.ds4(&["lab", "inspect", "nan.gguf", "--check"]);
    assert!(said.code == 1 && said.out.contains("damaged"), "{said:?}");
}

#[test]
fn convert_makes_a_model_that_answers_and_the_drafting_file_beside_it() {
    let Some(tiny) = ds4_testkit::oracle("tiny") else { return };
    let home = Home::new();
    // The oracle has no tokenizer of its size: name the mistake.
    let Some(tok) = ds4_testkit::oracle("tok") else { return };
    let (tiny, tok) = (tiny.to_str().unwrap(), tok.join("tokenizer.json"));
    let said = home.ds4(&["lab", "convert", tiny, "--out", "x.gguf", "--tokenizer", tok.to_str().unwrap()]);
    let line = "ds4: the tokenizer has 129280 tokens, the model's vocab_size is 512; they belong to different models";
    said.fails(1, line);
    assert!(!home.file("x.gguf").exists());

    let said = home.ds4(&["lab", "convert", tiny, "--mtp", "--out", "mtp.gguf", "--type", "f32"]);
    assert_eq!(said.code, 0, "{said:?}");
    let said = home.ds4(&["lab", "convert", tiny, "--mtp", "--out", "mtp.gguf"]);
    said.fails(1, "ds4: mtp.gguf exists; remove it or pass --overwrite");
    assert_eq!(home.ds4(&["lab", "convert", tiny, "--mtp", "--out", "mtp.gguf", "--overwrite"]).code, 0);
    // It belongs to another model than the built-in one: every shape that differs has its line.
    let said = home.ds4(&["--mtp", "mtp.gguf", "-p", "Hi"]);
    assert!(said.err.contains("tensor mtp.0.attn_q_a.weight: expected shape [256, 256], found shape [256, 64]"));
}

#[test]
fn synth_refuses_what_no_model_has() {
    let home = Home::new();
    let Some(tok) = ds4_testkit::oracle("tok") else { return };
    let tok = tok.join("tokenizer.json");
    let synth = |args: &[&str]| {
        home.ds4(&[&["lab", "synth", "--out", "s.gguf", "--tokenizer", tok.to_str().unwrap()], args].concat())
    };
    let said = synth(&["--layers", "44"]);
    assert!(said.code == 1 && said.err.contains("44") && said.err.contains("43"), "{said:?}");
    let said = synth(&["--model", "v5"]);
    said.fails(2, "ds4: invalid value for --model: v5 (one of flash, pro)");
    assert!(!home.file("s.gguf").exists());
}
