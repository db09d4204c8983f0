//! The extension for Pi: its own tests, and a real Pi with it, against the built-in model.

use std::process::{Command, Stdio};

use crate::{build, succeeds};

const HOME: &str = "pi-ds4";
/// What a real Pi does in CI; without these, all of it.
const SLICE: [&str; 2] = ["types", "lives"];

/// Runs all; what cannot run on this machine is named and counted.
pub(crate) fn run(slice: bool) -> bool {
    let Err(why) = install() else { return check(slice) };
    println!("parts skipped on this machine: 1\n  skipped: pi: {why}");
    true
}

/// The compiler that the tests need.
fn install() -> Result<(), &'static str> {
    let there = |program: &str| {
        let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    if !there("node") || !there("npm") {
        return Err("needs node and npm");
    }
    let installed = npm(&["ci", "--silent", "--no-fund", "--no-audit", "--ignore-scripts"]).status();
    if installed.is_ok_and(|status| status.success()) { Ok(()) } else { Err("npm cannot install the compiler here") }
}

fn check(slice: bool) -> bool {
    let tests = succeeds(&mut npm(&["test", "--silent"]));
    if !build() {
        return false;
    }
    let mut real = Command::new("node");
    real.current_dir(HOME).args(["test/pi.mjs", "../target/debug/ds4"]).env_remove("DS4_MODEL");
    tests && succeeds(real.args(SLICE.iter().filter(|_| slice)))
}

fn npm(arguments: &[&str]) -> Command {
    let mut npm = Command::new("npm");
    npm.current_dir(HOME).args(arguments);
    npm
}
