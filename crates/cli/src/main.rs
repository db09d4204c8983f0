//! `ds4`: one program for everything.
//!
//! Exit codes: 0 success, 1 a failure at run time, 2 bad usage or another instance running, 130 interrupted;
//! `ds4 status` says 3 when no server runs; 141 when nobody reads what is printed.

#[macro_use]
mod out;

mod args;
mod bench;
mod builtin;
mod chat;
mod commands;
mod completions;
mod config;
mod connect;
mod doctor;
mod down;
mod dump;
mod failure;
mod interrupt;
mod kv;
mod lab;
mod lease;
mod lock;
mod logs;
mod manual;
mod models;
mod once;
mod open;
mod printer;
mod progress;
mod pull;
mod repl;
mod runtime;
mod serve;
mod status;
mod steering;
mod supervised;
mod terminal;
mod up;
mod watched;

use std::process::ExitCode;

use args::Args;
use failure::Failure;

fn main() -> ExitCode {
    let mut args: Vec<String> = match collect(std::env::args_os()) {
        Ok(args) => commands::spelled_out(args),
        Err(failure) => return failure.report(),
    };
    let result = match args.get(1).map(String::as_str) {
        Some("lab") => {
            args.remove(0);
            lab::run(&args)
        }
        Some("kv") => {
            args.remove(0);
            kv::run(&args)
        }
        Some("serve") => serve::run(&args[2..]),
        Some("up") => up::run(&args[2..]),
        Some("down") => down::run(&args[2..]),
        Some("status") => status::run(&args[2..]),
        Some("logs") => logs::run(&args[2..]),
        Some("lease") => lease::run(&args[2..]),
        Some("doctor") => doctor::run(&args[2..]),
        Some("connect") => connect::run(&args[2..]),
        Some("completions") => completions::run(&args[1..]),
        Some("man") => manual::run(&args[1..]),
        Some("pull") => pull::run(&args[1..]),
        Some("models") => models::run(&args[1..]),
        Some("bench") => bench::run(&args[1..]),
        Some(name @ ("eval" | "agent")) => {
            Err(Failure::usage(format!("{name} is not built yet; ds4 --help lists what there is")))
        }
        _ => Args::parse(args).and_then(|args| run(&args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Arguments as text; file names that are not are refused by name.
fn collect(args: std::env::ArgsOs) -> Result<Vec<String>, Failure> {
    let text = |arg: std::ffi::OsString| {
        arg.into_string().map_err(|arg| Failure::usage(format!("argument {arg:?} is not valid UTF-8")))
    };
    args.map(text).collect()
}

fn run(args: &Args) -> Result<(), Failure> {
    if args.inspect {
        return open::inspect(&args.runtime);
    }
    if args.dump_tokens {
        return dump::tokens(args);
    }
    if args.perplexity_file.is_some() {
        return dump::perplexity(args);
    }
    if args.dump_logprobs.is_some() || args.dump_logits.is_some() {
        return dump::observed(args);
    }
    match args.prompt_text()? {
        Some(prompt) => once::run(args, &prompt),
        None => repl::run(args),
    }
}
