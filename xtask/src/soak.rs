//! Long runs of the tests that look for rare trouble. `--slice` gives each part a few seconds.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{cargo, succeeds};

/// One kind of trouble to look for.
struct Part {
    name: &'static str,
    run: fn(slice: bool) -> Outcome,
}

enum Outcome {
    Passed,
    Failed,
    Skipped(&'static str),
}

const PARTS: [Part; 14] = [
    Part { name: "fuzz", run: fuzz },
    Part { name: "calls", run: calls },
    Part { name: "schemas", run: schemas },
    Part { name: "damage", run: damage },
    Part { name: "kills", run: kills },
    Part { name: "churn", run: churn },
    Part { name: "bits", run: bits },
    Part { name: "families", run: families },
    Part { name: "context", run: context },
    Part { name: "skills", run: skills },
    Part { name: "document", run: document },
    Part { name: "hostile", run: hostile },
    Part { name: "supervise", run: supervise },
    Part { name: "downloads", run: downloads },
];

/// What there is to run.
pub(crate) struct Plan {
    slice: bool,
    parts: Vec<&'static Part>,
}

/// What the parts are called.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PARTS.iter().map(|part| part.name)
}

impl Plan {
    /// The parts named, or all; or the argument that is neither a part nor `--slice`.
    pub(crate) fn of(arguments: &[String]) -> Result<Self, &str> {
        let (mut slice, mut parts) = (false, Vec::new());
        for argument in arguments {
            match PARTS.iter().find(|part| part.name == argument) {
                Some(part) => parts.push(part),
                None if argument == "--slice" => slice = true,
                None => return Err(argument),
            }
        }
        if parts.is_empty() {
            parts.extend(&PARTS);
        }
        Ok(Self { slice, parts })
    }

    /// Runs it; whether nothing has failed.
    pub(crate) fn run(&self) -> bool {
        let mut good = true;
        for part in &self.parts {
            let start = Instant::now();
            let word = match (part.run)(self.slice) {
                Outcome::Passed => "passed".to_string(),
                Outcome::Skipped(why) => format!("skipped: {why}"),
                Outcome::Failed => {
                    good = false;
                    "FAILED".to_string()
                }
            };
            println!("soak {}: {word} ({:.0} s)", part.name, start.elapsed().as_secs_f64());
        }
        good
    }
}

fn outcome(passed: bool) -> Outcome {
    if passed { Outcome::Passed } else { Outcome::Failed }
}

/// Coverage-guided fuzzing of every parser of untrusted bytes.
fn fuzz(slice: bool) -> Outcome {
    // The sanitizers' flags are for nightly compilers; the stable one takes them when it is told that it is one.
    let fuzz = || {
        let mut command = cargo(&["fuzz"]);
        command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", "target/fuzz");
        command
    };
    if !fuzz().arg("--version").output().is_ok_and(|o| o.status.success()) {
        return Outcome::Skipped("needs cargo-fuzz (cargo install cargo-fuzz)");
    }
    let seconds = if slice { 10 } else { 600 };
    let limit = format!("-max_total_time={seconds}");
    let target = |name| {
        let options = ["run", name, "--", &limit, "-rss_limit_mb=1024", "-print_final_stats=1"];
        succeeds(fuzz().args(options))
    };
    outcome(
        ["gguf", "tokenizer", "checkpoint", "request", "turn", "segment", "reader", "rules"].into_iter().all(target),
    )
}

/// Model output with calls of every kind, whole and broken.
fn calls(slice: bool) -> Outcome {
    let cases = if slice { "20000" } else { "2000000" };
    outcome(test("calls", "", &[("PROPTEST_CASES", cases)]))
}

/// Tools with random schemas, called by a model that is far too hot to get them right by itself; and with schemas that make
/// no sense, called by chance.
fn schemas(slice: bool) -> Outcome {
    let (tools, walks) = if slice { ("30", "1000") } else { ("1000", "100000") };
    let model = test("schemas", "", &[("DS4_SCHEMAS", tools)]);
    outcome(test("walk", "", &[("PROPTEST_CASES", walks)]) && model)
}

/// Damaged model files.
fn damage(slice: bool) -> Outcome {
    let files = if slice { "4000" } else { "200000" };
    outcome(test("hostile", "damaged_files", &[("DS4_HOSTILE_FILES", files)]))
}

/// A process that saves prefixes, killed at any instant; a store that fails all the time.
fn kills(slice: bool) -> Outcome {
    let settings = [("DS4_KV_KILLS", if slice { "40" } else { "200" })];
    outcome(run_tests(&["--lib"], "vault::tests::", &settings))
}

/// Clients that come and go, for minutes: memory, places in the queue, pages.
fn churn(slice: bool) -> Outcome {
    let seconds = if slice { "10" } else { "300" };
    outcome(test("churn", "", &[("DS4_SOAK_SECONDS", seconds)]))
}

/// The same bits however tokens are fed, and whoever else runs.
fn bits(slice: bool) -> Outcome {
    let cases = if slice { "4" } else { "200" };
    let run = |binary| test(binary, "", &[("PROPTEST_CASES", cases)]);
    outcome(run("oracle_bit_identity") && run("together"))
}

/// The oracles, and the same bits, with the kernels that this machine would not choose.
fn families(slice: bool) -> Outcome {
    let quick = ["fingerprint", "oracle_qat_ops", "oracle_tiny", "oracle_qat_stages"];
    let long = ["mini_logits", "oracle_bit_identity", "together", "sequence"];
    let tests = || quick.iter().chain(long.iter().filter(|_| !slice));
    let passes = |family: &str| tests().all(|binary| test(binary, "", &[("DS4_CPU", family)]));
    outcome(lower_families().iter().all(|family| passes(family)))
}

/// Families of kernels below the machine's best.
fn lower_families() -> &'static [&'static str] {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx512vbmi") {
        return &["baseline", "avx2"];
    }
    &["baseline"]
}

/// A context of 100,000 tokens filled to the last one.
fn context(slice: bool) -> Outcome {
    let tokens = if slice { "8000" } else { "100000" };
    outcome(test("context", "filled_exactly", &[("DS4_SOAK_CONTEXT", tokens)]))
}

/// Every held-out prompt of the built-in model.
fn skills(slice: bool) -> Outcome {
    let prompts = if slice { "20" } else { "200" };
    outcome(test("skills", "", &[("DS4_SKILL_PROMPTS", prompts)]))
}

/// Requests made of the server's OpenAPI document; the slice is a part of the clients.
fn document(slice: bool) -> Outcome {
    if slice {
        return Outcome::Skipped("a part of the clients");
    }
    match crate::clients::soak_document(600) {
        Ok(passed) => outcome(passed),
        Err(why) => Outcome::Skipped(why),
    }
}

/// Clients that mean harm: 10,000 silent connections, or as many as may be open, and requests of every bad kind.
fn hostile(slice: bool) -> Outcome {
    let settings = match slice {
        true => [("DS4_SIEGE_CONNECTIONS", "1000"), ("DS4_SIEGE_SECONDS", "10")],
        false => [("DS4_SIEGE_CONNECTIONS", "10000"), ("DS4_SIEGE_SECONDS", "120")],
    };
    let test = "cargo test --workspace --test server_siege -- --nocapture --test-threads=1";
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n \"$(ulimit -Hn)\"; exec {test}")]).envs(settings);
    outcome(succeeds(&mut shell))
}

/// Ten who start, need, stop and kill the one server at once; `DS4_SOAK_SECONDS` says for how long.
fn supervise(slice: bool) -> Outcome {
    let (seconds, kills) = if slice { ("20", "20") } else { ("600", "300") };
    let seconds = std::env::var("DS4_SOAK_SECONDS").unwrap_or_else(|_| seconds.into());
    outcome(test("supervise_race", "", &[("DS4_SOAK_SECONDS", &seconds), ("DS4_UP_KILLS", kills)]))
}

/// Servers that cut, lie and change their minds, and downloads that are killed at any instant.
fn downloads(slice: bool) -> Outcome {
    let (cases, kills) = if slice { ("100", "40") } else { ("5000", "2000") };
    let right = test("resume", "whatever_happens", &[("PROPTEST_CASES", cases)]);
    outcome(right && test("pull", "a_kill", &[("DS4_PULL_KILLS", kills)]))
}

/// The tests of this name, with settings in their environment; where two packages have one of that name, both run.
fn test(binary: &str, filter: &str, settings: &[(&str, &str)]) -> bool {
    run_tests(&["--test", binary], filter, settings)
}

/// Tests chosen from the whole workspace, so that the features, and with them the build, are those of `cargo xtask test`. That
/// there are none is a failure: a test that was renamed would pass for ever.
fn run_tests(binaries: &[&str], filter: &str, settings: &[(&str, &str)]) -> bool {
    let tests = || cargo(&[&["test", "--workspace"], binaries, &["--", filter]].concat());
    let list = tests().args(["--list", "--format", "terse"]).stderr(Stdio::inherit()).output();
    if !list.is_ok_and(|list| list.status.success() && count(&String::from_utf8_lossy(&list.stdout)) > 0) {
        eprintln!("xtask: {} has no test called {filter:?}", binaries.join(" "));
        return false;
    }
    succeeds(tests().args(["--nocapture", "--test-threads=1"]).envs(settings.iter().copied()))
}

/// How many tests a terse list has.
fn count(list: &str) -> usize {
    list.lines().filter(|line| line.ends_with(": test")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &str) -> Result<(bool, Vec<&'static str>), String> {
        let arguments: Vec<String> = arguments.split_whitespace().map(String::from).collect();
        let plan = Plan::of(&arguments).map_err(str::to_owned)?;
        Ok((plan.slice, plan.parts.iter().map(|part| part.name).collect()))
    }

    #[test]
    fn what_is_neither_a_part_nor_an_option_runs_nothing() {
        assert_eq!(plan("--slice calls bits"), Ok((true, vec!["calls", "bits"])));
        assert_eq!(plan(""), Ok((false, names().collect())));
        assert_eq!(plan("--slcie"), Err("--slcie".into()));
        assert_eq!(plan("calls fizz"), Err("fizz".into()));
    }

    #[test]
    fn a_filter_that_matches_nothing_is_no_success() {
        assert_eq!(count("a::b: test\nc: test\nd: benchmark\n"), 2);
        assert_eq!(count(""), 0);
    }
}
