//! Every test, and a count of what was skipped.

use std::fs;
use std::path::Path;

use crate::{cargo, has, succeeds};

/// Tests that cannot run on a machine say so in this file.
const SKIPPED: &str = "target/skipped.txt";

/// Runs all tests; `arguments` go to the test runner.
pub(crate) fn run(arguments: &[String]) -> bool {
    let _ = fs::create_dir_all("target");
    let _ = fs::remove_file(SKIPPED);
    let list = std::path::absolute(SKIPPED).unwrap_or_else(|_| Path::new(SKIPPED).into());
    let runner: &[&str] = match has("nextest") {
        true => &["nextest", "run", "--workspace", "--no-fail-fast"],
        false => &["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"],
    };
    let tests = succeeds(cargo(runner).args(arguments).env("DS4_SKIP_LIST", &list));
    let examples = succeeds(&mut cargo(&["test", "--workspace", "--doc", "--quiet"]));

    let skipped = fs::read_to_string(SKIPPED).unwrap_or_default();
    let mut names: Vec<&str> = skipped.lines().collect();
    names.sort_unstable();
    names.dedup();
    println!("parts skipped on this machine: {}", names.len());
    names.iter().for_each(|name| println!("  skipped: {name}"));
    tests && examples
}
