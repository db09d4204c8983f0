//! `ds4 bench`: the table and what it refuses.

mod common;

use common::Home;

const SMALL: [&str; 8] = ["--ctx-start", "64", "--ctx-max", "160", "--step-incr", "64", "-n", "3"];
const HEADER: &str = "ctx_tokens,prefill_tokens,prefill_tps,gen_tokens,gen_tps,kvcache_bytes";

/// A text of about 400 tokens.
fn text(home: &Home) -> String {
    let path = home.file("text");
    std::fs::write(&path, "The quick brown fox jumps over the lazy dog. ".repeat(40)).unwrap();
    path.to_str().unwrap().to_string()
}

/// The numbers of a line.
fn numbers(line: &str) -> Vec<f64> {
    line.split(',').map(|n| n.parse().unwrap()).collect()
}

#[test]
fn the_table_has_a_row_for_every_context_length() {
    let home = Home::new();
    let said = home.ds4(&[&["bench", "--prompt-file", &text(&home)], &SMALL[..]].concat());
    assert_eq!(said.code, 0, "{}", said.err);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[0], HEADER);
    let rows: Vec<Vec<f64>> = lines[1..].iter().map(|l| numbers(l)).collect();
    let counts: Vec<[f64; 3]> = rows.iter().map(|r| [r[0], r[1], r[3]]).collect();
    assert_eq!(counts, [[64.0, 64.0, 3.0], [128.0, 64.0, 3.0], [160.0, 32.0, 3.0]]);
    assert!(rows.iter().all(|r| r[2] > 0.0 && r[4] > 0.0));
    assert!(rows[0][5] < rows[2][5], "a longer context takes more memory");
}

#[test]
fn limits_add_shares_and_a_file_takes_the_table() {
    let home = Home::new();
    let csv = home.file("rows.csv");
    let args = ["bench", "--limits", "--chat-prompt-file", &text(&home), "--csv", csv.to_str().unwrap()];
    let said = home.ds4(&[&args[..], &SMALL[..]].concat());
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
    assert!(said.err.contains("GB/s and multiply"), "{}", said.err);
    let table = std::fs::read_to_string(csv).unwrap();
    assert_eq!(table.lines().next(), Some(&*format!("{HEADER},prefill_share,gen_share")));
    assert!(table.lines().skip(1).all(|l| numbers(l).len() == 8));
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let home = Home::new();
    let text = text(&home);
    let bench = |args: &[&str]| home.ds4(&[&["bench"], args].concat());
    let sources = "ds4: specify one of --prompt-file and --chat-prompt-file";
    bench(&[]).fails(2, sources);
    bench(&["--prompt-file", &text, "--chat-prompt-file", &text]).fails(2, sources);
    bench(&["--prompt-file", &text, "--step-mul", "0.5"])
        .fails(2, "ds4: invalid value for --step-mul: 0.5 (a number from 1 to 1000)");
    bench(&["--prompt-file", &text, "--ctx-max", "100", "--ctx-alloc", "228"])
        .fails(2, "ds4: --ctx-alloc 228: --ctx-max 100 and --gen-tokens 128 need 229");
    bench(&["--prompt-file", &text, "-c", "100"]).fails(2, "ds4: --ctx: a benchmark's context is --ctx-alloc");
    let said = bench(&["--prompt-file", &text]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("--ctx-max 32768 needs as many"), "{}", said.err);
}
