//! `ds4 -p`: prompts and answers.

mod common;

use common::{Home, model};
use ds4_cpu::Family;

const GREEDY: [&str; 2] = ["--nothink", "--temp=0"];

fn ask(home: &Home, prompt: &str) -> String {
    home.ds4(&[&GREEDY[..], &["-p", prompt]].concat()).answer()
}

#[test]
fn the_built_in_model_answers() {
    let home = Home::new();
    assert_eq!(ask(&home, "reply with exactly ok"), "ok\n");
    assert_eq!(ask(&home, "7+8"), "15\n");
    assert_eq!(ask(&home, "Hello"), "Hello! How can I help you today?\n");
}

#[test]
fn a_short_answer_has_its_flags_honoured() {
    // H028, with a model that is there.
    let home = Home::new();
    let model = model();
    let said = home.ds4(&["-m", &model, "--ctx", "32768", "--nothink", "--temp", "0", "-n", "3", "-p", "Good morning"]);
    assert_eq!(said.code, 0);
    assert!("Good morning! How can I help you today?\n".starts_with(said.out.trim_end()) && said.out.len() < 20);
    assert!(said.err.contains("ds4: stopped after 3 tokens (-n)"), "{}", said.err);
}

#[test]
fn the_built_in_model_says_so_in_one_line() {
    let home = Home::new();
    let said = home.ds4(&["--nothink", "-p", "Hello"]);
    assert_eq!(said.err.lines().filter(|l| l.contains("built-in")).count(), 1, "{}", said.err);
    let said = home.ds4(&["-m", &model(), "--nothink", "-p", "Hello"]);
    assert!(!said.err.contains("built-in"), "{}", said.err);
}

#[test]
fn models_are_found_by_flag_then_variable_then_in_the_folder() {
    let home = Home::new();
    let missing = |said: common::Said| said.err.lines().last().unwrap().to_string();
    std::fs::write(home.file("ds4flash.gguf"), "not a model").unwrap();
    let folder = home.ds4(&["-p", "Hello"]);
    assert_eq!(folder.code, 1);
    assert!(missing(folder).starts_with("ds4: ds4flash.gguf: "));
    let with =
        |args: &[&str]| common::said(home.command(args).env("DS4_MODEL", "from-variable.gguf").output().unwrap());
    assert!(missing(with(&["-p", "Hello"])).starts_with("ds4: from-variable.gguf: "));
    assert!(missing(with(&["-m", "from-flag.gguf", "-p", "Hello"])).starts_with("ds4: from-flag.gguf: "));
}

#[test]
fn reasoning_is_plain_off_a_terminal_and_tags_never_show() {
    // H034
    let home = Home::new();
    let said = home.ds4(&["--temp", "0", "-p", "What is 7 + 8?"]).answer();
    assert_eq!(said, "7 + 8 = 15\n15\n");
    assert!(!said.contains('\x1b') && !said.contains("think>"));
}

#[test]
fn speeds_are_on_stderr_only() {
    // H035
    let said = Home::new().ds4(&["--nothink", "-p", "Hello"]);
    let line = said.err.lines().last().unwrap();
    assert!(
        line.starts_with("ds4: prefill: ") && line.ends_with(" t/s") && line.contains(" t/s, generation: "),
        "{line}"
    );
    assert!(!said.out.contains("t/s"));
    assert!(!said.err.contains("processing"), "progress is for terminals");
}

#[test]
fn the_memory_plan_is_printed_before_anything_else_happens() {
    // H012
    let said = Home::new().ds4(&["--nothink", "-c", "1048576", "-p", "Hello"]);
    let plan = said.err.lines().find(|l| l.contains("memory:")).unwrap();
    assert!(plan.contains("context 1048576") && plan.contains("mapped") && plan.contains("anonymous"), "{plan}");
    assert_eq!(said.code, 0);
}

#[test]
fn the_same_seed_gives_the_same_text() {
    // H036
    let home = Home::new();
    let draw =
        |seed| home.ds4(&["--nothink", "--temp", "3", "--min-p", "0", "-n", "30", "--seed", seed, "-p", "Hi"]).out;
    assert_eq!(draw("42"), draw("42"));
    assert_ne!(draw("42"), draw("43"));
}

#[test]
fn rendered_text_is_taken_as_it_is() {
    // H037
    let home = Home::new();
    let rendered =
        "<｜begin▁of▁sentence｜>The secret number is 4071.<｜User｜>What is the secret number?<｜Assistant｜></think>";
    assert_eq!(home.ds4(&["--temp", "0", "-p", rendered]).answer(), "The number is 4071.\n");
}

#[test]
fn the_system_text_is_read_and_can_be_empty() {
    // H032
    let home = Home::new();
    let system = "The user's name is Clara.";
    let args = |flag, text| [&GREEDY[..], &[flag, text, "-p", "What is my name?"]].concat();
    assert_eq!(home.ds4(&args("-sys", system)).answer(), "Your name is Clara.\n");
    assert_eq!(home.ds4(&args("--system", system)).answer(), "Your name is Clara.\n");
    // Without system text the prompt is the user's turn alone, 4 tokens longer than its text.
    let dump = home.file("logits.json");
    let dump = dump.to_str().unwrap();
    assert_eq!(home.ds4(&["--nothink", "-sys", "", "--dump-logits", dump, "-p", "7+8"]).code, 0);
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(dump).unwrap()).unwrap();
    assert_eq!(json["prompt_tokens"], 3 + 4);
}

#[test]
fn special_strings_in_a_prompt_stay_text() {
    let home = Home::new();
    let count = |prompt: &str| {
        let dump = home.file("logits.json");
        home.ds4(&["--nothink", "--dump-logits", dump.to_str().unwrap(), "-p", prompt]);
        let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(dump).unwrap()).unwrap();
        json["prompt_tokens"].as_u64().unwrap()
    };
    assert!(count("a<｜User｜>b") > count("a b") + 3, "the marker was taken as one token");
}

#[test]
fn a_prompt_file_is_a_prompt() {
    let home = Home::new();
    std::fs::write(home.file("prompt.txt"), "7+8").unwrap();
    let said = home.ds4(&["--nothink", "--temp", "0", "--prompt-file", "prompt.txt"]);
    assert_eq!(said.answer(), "15\n");
    home.ds4(&["--prompt-file", "nowhere.txt"]).fails(1, "ds4: nowhere.txt: No such file or directory (os error 2)");
}

#[test]
fn think_max_needs_a_large_context() {
    // H033
    let home = Home::new();
    let said = home.ds4(&["--think-max", "--temp", "0", "-p", "7+8"]);
    assert!(said.err.contains("Think Max needs --ctx >= 393216"), "{}", said.err);
    assert_eq!(said.answer(), "7 + 8 = 15\n15\n");
    let tokens = |ctx: &str, think: &str| {
        let dump = home.file("logits.json");
        let said = home.ds4(&[think, "-c", ctx, "--dump-logits", dump.to_str().unwrap(), "-p", "7+8"]);
        assert_eq!(said.code, 0, "{}", said.err);
        let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(dump).unwrap()).unwrap();
        json["prompt_tokens"].as_u64().unwrap()
    };
    assert!(tokens("393216", "--think-max") > 100, "the words about effort are long");
    assert_eq!(tokens("393216", "--think"), tokens("1000", "--nothink"));
    // The last flag wins.
    let said = home.ds4(&["--think-max", "--think", "--nothink", "--temp", "0", "-p", "7+8"]);
    assert_eq!(said.answer(), "15\n");
}

#[test]
fn a_full_context_ends_the_answer_and_a_longer_prompt_is_refused() {
    // H013
    let home = Home::new();
    let prompt = "river stone ".repeat(40);
    let dump = home.file("logits.json");
    let args = ["--nothink", "--dump-logits", dump.to_str().unwrap(), "-p", &prompt];
    assert_eq!(home.ds4(&args).code, 0);
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&dump).unwrap()).unwrap();
    let tokens = json["prompt_tokens"].as_u64().unwrap();

    let ask = |ctx: u64| home.ds4(&["--nothink", "--temp", "0", "-c", &ctx.to_string(), "-p", &prompt]);
    let said = ask(tokens + 2);
    assert_eq!(said.code, 0, "{}", said.err);
    let full = format!("ds4: the context is full at {} tokens; raise --ctx for more", tokens + 2);
    assert!(said.err.lines().any(|l| l == full), "{}", said.err);
    assert_eq!(ask(tokens).code, 0, "a prompt that fills the context exactly is read");
    let short = tokens - 1;
    let refused = format!("ds4: the prompt has {tokens} tokens, the context holds {short}; shorten it or raise --ctx");
    ask(short).fails(1, &refused);
}

#[test]
fn every_thread_count_and_instruction_set_gives_the_same_logits() {
    let home = Home::new();
    let prompt = "The quick brown fox jumps over the lazy dog. ".repeat(20);
    let logits = |threads: &str, family: Option<&str>, extra: &[&str]| {
        let dump = home.file("logits.json");
        let args = ["-t", threads, "--dump-logits", dump.to_str().unwrap(), "-p", &prompt];
        let mut command = home.command(&[&args[..], extra].concat());
        if let Some(family) = family {
            command.env("DS4_CPU", family);
        }
        assert!(command.output().unwrap().status.success());
        std::fs::read_to_string(dump).unwrap()
    };
    for mode in [&[][..], &["--quality"]] {
        let one = logits("1", None, mode);
        assert!(one == logits("3", None, mode), "threads change the logits");
        for family in Family::supported().map(Family::name) {
            assert!(one == logits("2", Some(family), mode), "{family} changes the logits");
        }
    }
    assert!(logits("1", None, &[]) != logits("1", None, &["--quality"]), "--quality changes the arithmetic");
}

#[test]
fn kernels_that_are_not_there_are_refused() {
    let home = Home::new();
    let said = home.command(&["-p", "7+8"]).env("DS4_CPU", "abacus").output().unwrap();
    let err = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(1));
    assert!(err.contains("DS4_CPU: expected baseline") && err.contains("found \"abacus\""), "{err}");
}

#[test]
fn warm_weights_and_quality_answer_alike() {
    // H010, H011
    let home = Home::new();
    for flag in ["--warm-weights", "--quality"] {
        assert_eq!(home.ds4(&["-m", &model(), flag, "--nothink", "--temp", "0", "-p", "7+8"]).answer(), "15\n");
    }
}

#[test]
fn drafting_weights_are_checked_and_change_nothing() {
    // H014, H015
    let home = Home::new();
    let said = home.ds4(&["--mtp", &model(), "--nothink", "--temp", "0", "-p", "7+8"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("tensor mtp.0.e_proj.weight: expected shape"), "{}", said.err);
}
