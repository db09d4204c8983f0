//! `ds4 bench`: the table and what it refuses.

mod common;

use common::Home;
use serde_json::Value;

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

/// The keys of an object, in order.
fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn json_holds_the_machine_the_model_the_limits_and_every_column() {
    let home = Home::new();
    let text = text(&home);
    let bench = |more: &[&str]| home.ds4(&[&["bench", "--prompt-file", &text], more, &SMALL[..]].concat());
    let said = bench(&["--json", "-", "--limits", "--repeat", "3"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(keys(&report), ["source", "version", "machine", "model", "limits", "repeat", "rows"]);
    assert_eq!(keys(&report["machine"]), ["processor", "os", "arch", "memory_bytes", "threads", "instructions"]);
    let model = &report["model"];
    assert_eq!(model["name"], "built-in V4-mini");
    assert!(model["decode_bytes"].as_u64().unwrap() > 0 && model["prefill_products"].as_u64().unwrap() > 0);
    assert_eq!(keys(&report["limits"]), ["read_bytes_per_second", "products_per_second", "prefill_tps"]);
    assert_eq!(report["repeat"], 3);
    let rows = report["rows"].as_array().unwrap();
    let contexts: Vec<u64> = rows.iter().map(|r| r["ctx_tokens"].as_u64().unwrap()).collect();
    assert_eq!(contexts, [64, 128, 160]);
    let columns: Vec<&str> = HEADER.split(',').chain(["attention_bytes", "attention_products"]).collect();
    let shares = ["prefill_share", "gen_share", "gen_limit_tps"];
    for row in rows {
        assert_eq!(keys(row), [&columns[..], &shares].concat());
        assert!(row.as_object().unwrap().values().all(Value::is_number), "{row}");
    }

    // To a file, the table stays on stdout and has the same rates; what was not measured is null or absent.
    let path = home.file("report.json");
    let said = bench(&["--json", path.to_str().unwrap()]);
    let report: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!((&report["limits"], keys(&report["rows"][0])), (&Value::Null, columns));
    let rate = numbers(said.out.lines().nth(1).unwrap())[2];
    assert_eq!(rate, (report["rows"][0]["prefill_tps"].as_f64().unwrap() * 100.0).round() / 100.0);
}

#[test]
fn the_plot_is_a_picture_of_every_row() {
    let home = Home::new();
    let plot = home.file("plot.svg");
    let args = ["bench", "--prompt-file", &text(&home), "--plot", plot.to_str().unwrap(), "--limits"];
    assert_eq!(home.ds4(&[&args[..], &SMALL[..]].concat()).code, 0);
    let svg = std::fs::read_to_string(plot).unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap();
    let texts: Vec<&str> = document.descendants().filter_map(|n| n.text()).collect();
    for expected in ["built-in V4-mini", "Prefill, tokens per second", "Decode, tokens per second", "64", "128", "160"]
    {
        assert!(texts.contains(&expected), "{expected}: {texts:?}");
    }
    assert_eq!(document.descendants().filter(|n| n.has_tag_name("circle")).count(), 2 * 3);
    assert!(svg.contains("the memory&apos;s limit") || svg.contains("the memory's limit"), "{svg}");
}

#[test]
fn logits_are_written_at_every_context_length() {
    let home = Home::new();
    let folder = home.file("deep/logits");
    let args = [
        "bench",
        "--prompt-file",
        &text(&home),
        "--dump-frontier-logits-dir",
        folder.to_str().unwrap(),
        "--repeat",
        "2",
    ];
    home.ds4(&[&args[..], &SMALL[..]].concat()).answer();
    let mut names: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [64, 128, 160].map(|n| format!("frontier_{n:06}.logits.json")));
    let frontier: Value = serde_json::from_str(&std::fs::read_to_string(folder.join(&names[1])).unwrap()).unwrap();
    assert_eq!(frontier["prompt_tokens"], 128);
    assert_eq!(frontier["logits"].as_array().unwrap().len() as u64, frontier["vocab"].as_u64().unwrap());
    assert!(frontier["argmax_token"].is_u64());
}

#[test]
fn a_profile_follows_the_table() {
    let home = Home::new();
    let said = home.ds4(&[&["bench", "--prompt-file", &text(&home), "--profile"], &SMALL[..]].concat());
    assert_eq!((said.code, said.out.lines().count()), (0, 4), "{}", said.err);
    let percent = |name: &str| {
        let line = said.err.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}: {}", said.err));
        line.split_whitespace().filter_map(|w| w.parse::<f64>().ok()).collect::<Vec<_>>()
    };
    assert!(percent("attend").len() == 4 && percent("read_logits").len() == 2, "{}", said.err);
    let [decode, decode_share, prefill, prefill_share] = percent("all ")[..] else { panic!("{}", said.err) };
    assert!(decode > 0.0 && prefill > 0.0 && (decode_share, prefill_share) == (100.0, 100.0));
    assert!(said.err.contains("after 160 tokens of context"), "{}", said.err);
    assert!(said.err.contains("a decoded token   159 prompt tokens\n"), "{}", said.err);
}

#[test]
fn sequences_together_are_compared_with_one_alone() {
    let home = Home::new();
    let said = home.ds4(&["bench", "--prompt-file", &text(&home), "--sequences", "4", "--ctx-start", "32", "-n", "5"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let (header, row) = said.out.trim_end().split_once('\n').unwrap();
    assert_eq!(header, "sequences,ctx_tokens,gen_tokens,gen_tps,gen_tps_alone,ratio,experts,experts_alone");
    let row = numbers(row);
    assert_eq!(row[..3], [4.0, 32.0, 5.0]);
    assert!(row[3] > 0.0 && row[4] > 0.0 && (row[5] - row[3] / row[4]).abs() < 0.02, "{row:?}");
    assert!(row[6] > row[7] && row[7] >= 1.0, "more sequences use more experts: {row:?}");
    let many = home.ds4(&["bench", "--prompt-file", &text(&home), "--sequences", "16", "--ctx-start", "1", "-n", "1"]);
    assert_eq!(many.code, 0, "{}", many.err);
    home.ds4(&["bench", "--prompt-file", &text(&home), "--sequences", "0"])
        .fails(2, "ds4: invalid value for --sequences: 0 (a whole number from 1 to 256)");
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
    bench(&["--prompt-file", &text, "-mt", "off"])
        .fails(2, "ds4: -mt chooses Metal kernels, and this build has only the CPU");
    bench(&["--prompt-file", &text, "--dir-steering-file", "x"])
        .fails(2, "ds4: --dir-steering-file is not measured here: it costs next to nothing");
    let nowhere = home.file("absent/plot.svg").display().to_string();
    bench(&[&["--prompt-file", &text, "--plot", &nowhere], &SMALL[..]].concat())
        .fails(1, &format!("ds4: {nowhere}: No such file or directory (os error 2)"));
    let said = bench(&["--prompt-file", &text]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("--ctx-max 32768 needs as many"), "{}", said.err);
}
