//! Bad usage: exit code 2, and a line that names option and value.

mod common;

use common::Home;

#[test]
fn two_prompt_sources_conflict() {
    // H029
    let line = "ds4: specify only one prompt source: --prompt, --prompt-file or --perplexity-file";
    Home::new().ds4(&["-p", "a", "--prompt-file", "b"]).fails(2, line);
    Home::new().ds4(&["-p", "a", "--perplexity-file", "b"]).fails(2, line);
}

#[test]
fn bad_numbers_are_named_with_their_option() {
    // H030
    let whole = "a whole number from 1 to 2147483647";
    for (args, line) in [
        (["--ctx", "abc"], format!("invalid value for --ctx: abc ({whole})")),
        (["-c", "0"], format!("invalid value for --ctx: 0 ({whole})")),
        (["-n", "2147483648"], format!("invalid value for --tokens: 2147483648 ({whole})")),
        (["--temp", "nan"], "invalid value for --temp: nan (a number from 0 to 100)".into()),
        (["--temp", "-1"], "invalid value for --temp: -1 (a number from 0 to 100)".into()),
        (["--top-p", "1.5"], "invalid value for --top-p: 1.5 (a number from 0 to 1)".into()),
        (["--min-p", "x"], "invalid value for --min-p: x (a number from 0 to 1)".into()),
        (["--mtp-margin", "1001"], "invalid value for --mtp-margin: 1001 (a number from 0 to 1000)".into()),
        (["--seed", "0"], "invalid value for --seed: 0 (a whole number from 1 to 18446744073709551615)".into()),
        (["--backend", "tpu"], "invalid value for --backend: tpu (one of cpu, metal, cuda)".into()),
    ] {
        Home::new().ds4(&args).fails(2, &format!("ds4: {line}"));
    }
    Home::new().ds4(&["--ctx"]).fails(2, "ds4: missing value for --ctx");
    let said = common::said(Home::new().command(&["-p", "a"]).env("DS4_THREADS", "many").output().unwrap());
    said.fails(2, "ds4: invalid value for DS4_THREADS: many (a whole number from 1 to 1024)");
    let said = common::said(Home::new().command(&["-p", "a"]).env("DS4_THREADS", "99999").output().unwrap());
    said.fails(2, "ds4: invalid value for DS4_THREADS: 99999 (a whole number from 1 to 1024)");
    let line = "ds4: invalid value for --threads: 100000000 (a whole number from 1 to 1024)";
    Home::new().ds4(&["-t", "100000000", "-p", "a"]).fails(2, line);
    Home::new().ds4(&["up", "--port", "80x"]).fails(2, "ds4: invalid value for --port: 80x (a whole number)");
}

#[test]
fn unknown_options_show_the_usage() {
    // H031
    let said = Home::new().ds4(&["--frobnicate"]);
    assert!(said.err.contains("Usage: ds4"), "{}", said.err);
    said.fails(2, "ds4: unknown option --frobnicate; ds4 --help lists what there is");
}

#[test]
fn unknown_words_are_commands_that_do_not_exist() {
    let home = Home::new();
    let rest = "ds4 --help lists what there is, ds4 -p TEXT answers a prompt";
    home.ds4(&["pul"]).fails(2, &format!("ds4: unknown command pul (did you mean pull?); {rest}"));
    home.ds4(&["--nothink", "Hello there"]).fails(2, &format!("ds4: unknown command Hello there; {rest}"));
    let line = "ds4: pull is a command and goes first: ds4 pull; ds4 pull --help says more";
    home.ds4(&["--nothink", "pull"]).fails(2, line);
    let line = "ds4: unexpected argument more; ds4 status --help lists what there is";
    home.ds4(&["status", "more"]).fails(2, line);
}

#[test]
fn what_the_parser_says_is_one_line() {
    let home = Home::new();
    for (args, line) in [
        (
            &["connect"][..],
            "ds4: the following required arguments were not provided: <CLIENT>; ds4 connect --help says more",
        ),
        (
            &["bench", "--sequences", "2", "--csv", "x"],
            "ds4: the argument '--sequences <N>' cannot be used with '--csv <FILE>'; ds4 bench --help says more",
        ),
    ] {
        let said = home.ds4(args);
        said.fails(2, line);
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    }
    let said = home.ds4(&["kv"]);
    assert!(said.code == 2 && said.err.contains("Usage: ds4 kv") && !said.err.contains("ds4: "), "{}", said.err);
}

#[test]
fn flags_of_elsewhere_point_the_way() {
    // H043
    Home::new().ds4(&["--server"]).fails(2, "ds4: --server is gone; the server is a program of its own (ds4-server)");
    Home::new().ds4(&["--metal-graph-generate"]).fails(2, "ds4: --metal-graph-generate is gone; -p generates");
    assert_eq!(Home::new().ds4(&["--imatrix-out", "x"]).code, 2);
    // As a prompt it is text.
    assert_eq!(Home::new().ds4(&["--nothink", "-p", "--server"]).code, 0);
}

#[test]
fn a_backend_that_is_not_built_in_is_said_to_be_missing() {
    // H003
    for args in [&["--metal"][..], &["--cuda"], &["--backend", "cuda"]] {
        let said = Home::new().ds4(args);
        assert_eq!(said.code, 2);
        assert!(said.err.contains("backend, only the CPU"), "{}", said.err);
    }
    assert_eq!(Home::new().ds4(&["--cpu", "--nothink", "-p", "Hi"]).code, 0);
}

#[test]
fn dumps_want_a_prompt() {
    for flag in [&["--dump-tokens"][..], &["--dump-logprobs", "x"], &["--dump-logits", "x"]] {
        let line = format!("ds4: {} needs a prompt: -p or --prompt-file", flag[0]);
        Home::new().ds4(flag).fails(2, &line);
    }
}

#[test]
fn help_is_for_people_and_needs_nothing() {
    let said = Home::new().ds4(&["--help"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    for word in ["--dump-logprobs", "ds4flash.gguf", "Exit codes", "DS4_LOCK_FILE", "ds4 lab"] {
        assert!(said.out.contains(word), "{word}");
    }
    for command in ["bench", "connect", "lease", "pull"] {
        assert!(said.out.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {}", said.out);
    }
    assert_eq!(Home::new().ds4(&["help"]).answer(), said.out);
    assert_eq!(Home::new().ds4(&["help", "pull"]).answer(), Home::new().ds4(&["pull", "--help"]).answer());
    assert_eq!(Home::new().ds4(&["version"]).answer(), Home::new().ds4(&["--version"]).answer());
    let said = Home::new().ds4(&["lab", "--help"]);
    assert!(said.code == 0 && said.out.contains("synth"));
}
