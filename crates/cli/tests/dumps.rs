//! Diagnostics that other programs read.

mod common;

use common::Home;
use serde_json::Value;

fn read(path: &std::path::Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn tokens_are_listed_with_their_text() {
    // H038
    let said = Home::new().ds4(&["--dump-tokens", "-p", "<｜User｜>7+8<think>"]).answer();
    let mut lines = said.lines();
    let ids: Vec<u32> = serde_json::from_str(lines.next().unwrap()).unwrap();
    assert_eq!(ids.len(), 5);
    let rest: Vec<&str> = lines.collect();
    let texts = ["<｜User｜>", "7", "+", "8", "<think>"];
    for ((line, id), text) in rest.iter().zip(&ids).zip(texts) {
        assert_eq!(*line, format!("{id:6}  {text}"));
    }
}

#[test]
fn logprobs_are_written_as_documented() {
    // H039
    let home = Home::new();
    let path = home.file("out.json");
    let args = ["--nothink", "--dump-logprobs", path.to_str().unwrap(), "--logprobs-top-k", "5", "-p", "7+8"];
    let said = home.ds4(&args);
    assert_eq!((said.code, said.out.as_str()), (0, ""));
    let json = read(&path);
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["source", "prompt_tokens", "ctx", "top_k", "steps"]);
    assert_eq!((&json["source"], &json["ctx"], &json["top_k"]), (&"ds4".into(), &32768.into(), &5.into()));
    let steps = json["steps"].as_array().unwrap();
    let text: String = steps.iter().map(|s| s["selected"]["text"].as_str().unwrap()).collect();
    assert_eq!(text, "15<｜end▁of▁sentence｜>", "the end is a step");
    for (i, step) in steps.iter().enumerate() {
        assert_eq!(step["step"], i);
        let top = step["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 5);
        assert_eq!(top[0]["token"], step["selected"], "greedy takes the best");
        assert_eq!(step["selected"]["bytes"], serde_json::json!(step["selected"]["text"].as_str().unwrap().as_bytes()));
        let logprobs: Vec<f64> = top.iter().map(|t| t["logprob"].as_f64().unwrap()).collect();
        assert!(logprobs.is_sorted_by(|a, b| a >= b) && logprobs[0] <= 0.0);
        let differences = |key: &str| top[0][key].as_f64().unwrap() - top[4][key].as_f64().unwrap();
        assert!((differences("logit") - differences("logprob")).abs() < 1e-5);
    }
}

#[test]
fn logprobs_have_at_most_128_alternatives_and_n_steps() {
    let home = Home::new();
    let path = home.file("out.json");
    let out = path.to_str().unwrap();
    let args = ["--dump-logprobs", out, "--logprobs-top-k", "5000", "-n", "2", "-p", "What is my name?"];
    assert_eq!(home.ds4(&args).code, 0);
    let json = read(&path);
    assert_eq!(json["top_k"], 128);
    let steps = json["steps"].as_array().unwrap();
    assert_eq!((steps.len(), steps[0]["top_logprobs"].as_array().unwrap().len()), (2, 128));
}

#[test]
fn logits_cover_the_vocabulary() {
    // H041
    let home = Home::new();
    let path = home.file("out.json");
    assert_eq!(home.ds4(&["--nothink", "--dump-logits", path.to_str().unwrap(), "-p", "7+8"]).code, 0);
    let json = read(&path);
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    let documented = "source model backend mt quant_bits prompt_tokens ctx vocab argmax_token argmax_logit logits";
    assert_eq!(keys, documented.split(' ').collect::<Vec<_>>());
    let logits: Vec<f64> = serde_json::from_value(json["logits"].clone()).unwrap();
    assert_eq!((logits.len(), &json["vocab"]), (2048, &2048.into()));
    let best = logits[json["argmax_token"].as_u64().unwrap() as usize];
    assert!(logits.iter().all(|l| *l <= best) && json["argmax_logit"] == best);
}

#[test]
fn a_text_is_scored() {
    // H040
    let home = Home::new();
    std::fs::write(home.file("text.txt"), "What is the weather in Rome? I need the weather tool. ".repeat(8)).unwrap();
    let scores = |args: &[&str]| -> Vec<f64> {
        let said = home.ds4(&[&["--perplexity-file", "text.txt"], args].concat()).answer();
        let keys = ["tokens=", "scored=", "nll=", "avg_nll=", "ppl="];
        let fields = said.trim().split(' ').zip(keys);
        fields.map(|(field, key)| field.strip_prefix(key).unwrap().parse().unwrap()).collect()
    };
    let all = scores(&[]);
    assert_eq!(all[1], all[0] - 32.0);
    assert!((all[3] - all[2] / all[1]).abs() < 1e-6 && (all[4] - all[3].exp()).abs() < 1e-3 * all[4]);
    assert_eq!(scores(&["-n", "10"])[1], 10.0);
    assert_eq!(scores(&["-c", "50"])[1], 18.0);

    std::fs::write(home.file("short.txt"), "too short").unwrap();
    let said = home.ds4(&["--perplexity-file", "short.txt"]);
    assert!(said.code == 1 && said.err.contains("more than 32"), "{}", said.err);
}

#[test]
fn inspect_describes_a_model_and_explains_what_does_not_load() {
    // H042
    let home = Home::new();
    let said = home.ds4(&["--inspect"]).answer();
    for part in ["V4-mini", "5: 1 window only, 2 of ratio 4, 2 of ratio 128", "Q8_0", "2,048 tokens"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let mut bytes = std::fs::read(common::model()).unwrap();
    let at = bytes.windows(15).position(|w| w == b"attn_q_a.weight").unwrap();
    bytes[at + 5] = b'x';
    std::fs::write(home.file("odd.gguf"), bytes).unwrap();
    let said = home.ds4(&["-m", "odd.gguf", "--inspect"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("tensor blk.0.attn_q_a.weight: expected shape"), "{}", said.out);
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let said = Home::new().ds4(&["--dump-logits", "/nowhere/x.json", "-p", "Hi"]);
    said.fails(1, "ds4: /nowhere/x.json: No such file or directory (os error 2)");
}
