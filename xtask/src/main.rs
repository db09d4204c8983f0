//! Chores of this repository.
//!
//! `cargo xtask test` runs every test and counts what this machine cannot run. `cargo xtask soak` runs the long ones:
//! fuzzing, damaged files, kills, clients that come and go, bit identity, lower kernels, a very long context. `cargo xtask
//! clients` lets the OpenAI, Anthropic and AI SDKs and curl talk to the server. `cargo xtask neon` tests the kernels for ARM in
//! an emulator. `cargo xtask page` opens the page at `/` in a browser and uses it. `cargo xtask pi` tests the extension for Pi. `cargo
//! xtask scripts` reads what is not Rust, `cargo xtask licences` what the libraries' licences are.

mod apt;
mod clients;
mod licences;
mod neon;
mod page;
mod pi;
mod python;
mod scripts;
mod soak;
mod test;

use std::process::{Command, ExitCode, Stdio};

/// How it is called; `PARTS` stands for those of `soak`.
const USAGE: &str = "\
usage: cargo xtask test [ARGUMENTS OF THE TEST RUNNER]
       cargo xtask soak [--slice] [PART]...
       cargo xtask clients
       cargo xtask neon [--fetch]
       cargo xtask page [--fetch | --pictures]
       cargo xtask pi [--slice]
       cargo xtask scripts
       cargo xtask licences

test     every test of the workspace, with cargo-nextest where it is installed
soak     long runs; --slice: a few minutes in all. Parts:
         PARTS
clients  the SDKs of OpenAI, Anthropic and Vercel, and curl, against ds4-server, and requests made of
         /openapi.json; needs python3 and pip, node and npm
neon     the tests of ds4-cpu for ARM in an emulator; --fetch: first gets what that needs, on Debian
page     the page at / in Chromium; --fetch: as above; --pictures: makes those of the documentation
pi       the extension for Pi, alone and in a real Pi; --slice: the longest life only; needs node and npm
scripts  shell scripts and the Dockerfile, read by shellcheck and hadolint; needs python3 and pip
licences of the libraries, compared with deny.toml; their texts go to target/licences.txt";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((command, rest)) if command == "test" => test::run(rest),
        Some((command, rest)) if command == "soak" => match soak::Plan::of(rest) {
            Ok(plan) => plan.run(),
            Err(unknown) => {
                eprintln!("xtask: soak knows no {unknown}\n{}", usage());
                return ExitCode::from(2);
            }
        },
        Some((command, [])) if command == "clients" => clients::run(),
        Some((command, [])) if command == "neon" => neon::run(false),
        Some((command, [option])) if command == "neon" && option == "--fetch" => neon::run(true),
        Some((command, [])) if command == "page" => page::run(false, false),
        Some((command, [option])) if command == "page" && option == "--fetch" => page::run(true, false),
        Some((command, [option])) if command == "page" && option == "--pictures" => page::run(false, true),
        Some((command, [])) if command == "scripts" => scripts::run(),
        Some((command, [])) if command == "licences" => licences::run(),
        Some((command, [])) if command == "pi" => pi::run(false),
        Some((command, [option])) if command == "pi" && option == "--slice" => pi::run(true),
        _ => {
            eprintln!("{}", usage());
            return ExitCode::from(2);
        }
    };
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn usage() -> String {
    USAGE.replace("PARTS", &soak::names().collect::<Vec<_>>().join(", "))
}

/// Cargo, as this process was started by it.
fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(args);
    command
}

/// Builds the programs and examples, with the features that `cargo xtask test` has built already.
fn build() -> bool {
    succeeds(&mut cargo(&["build", "--quiet", "--workspace", "--bins", "--examples"]))
}

/// Runs a command to its end with its output on ours; whether it succeeded.
fn succeeds(command: &mut Command) -> bool {
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("xtask: {command:?}: {error}");
            false
        }
    }
}

/// Whether a command is there and succeeds; what it says is not shown.
fn works(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Whether a cargo subcommand is installed.
fn has(subcommand: &str) -> bool {
    works(&mut cargo(&[subcommand, "--version"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_names_every_part() {
        assert!(usage().contains("  fuzz, calls, ") && soak::names().all(|name| usage().contains(name)));
    }
}
