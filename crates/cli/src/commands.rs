//! The whole command line as one tree, for help, completions and manual pages.

use clap::error::{ContextKind, ContextValue};
use clap::{Command, CommandFactory};

use crate::args::Args;
use crate::failure::Failure;
use crate::{bench, completions, connect, doctor, down, kv, lab, lease, logs, manual, models, pull, serve, status, up};

/// `ds4` with all its subcommands.
pub(crate) fn tree() -> Command {
    let subcommands = [
        bench::command().name("bench"),
        completions::command().name("completions"),
        connect::command().name("connect"),
        doctor::command().name("doctor"),
        down::command().name("down"),
        kv::command().name("kv"),
        lab::command().name("lab"),
        lease::command().name("lease"),
        logs::command().name("logs"),
        manual::command().name("man"),
        models::command().name("models"),
        pull::command().name("pull"),
        serve::command().name("serve"),
        status::command().name("status"),
        up::command().name("up"),
    ];
    Args::command().subcommands(subcommands)
}

/// `ds4` as its help shows it: a sentence for each subcommand.
pub(crate) fn overview() -> Command {
    let mut tree = tree();
    let names: Vec<String> = tree.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    for name in names {
        tree = tree.mut_subcommand(name, |command| {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let first = about.split(". ").next().unwrap_or_default().to_owned();
            command.about(first)
        });
    }
    tree
}

/// `ds4 help`, `ds4 help COMMAND` and `ds4 version` as the flags that say the same.
pub(crate) fn spelled_out(mut args: Vec<String>) -> Vec<String> {
    match args.get(1).map(String::as_str) {
        Some("help") => {
            args.remove(1);
            args.push("--help".into());
        }
        Some("version") => args[1] = "--version".into(),
        _ => {}
    }
    args
}

/// Why a word where a command could be is none.
pub(crate) fn no_command(word: &str) -> Failure {
    if tree().find_subcommand(word).is_some() {
        return Failure::usage(format!("{word} is a command and goes first: ds4 {word}; ds4 {word} --help says more"));
    }
    let error = tree().try_get_matches_from(["ds4", word]).err();
    let near = match error.as_ref().and_then(|error| error.get(ContextKind::SuggestedSubcommand)) {
        Some(ContextValue::String(name)) => format!(" (did you mean {name}?)"),
        Some(ContextValue::Strings(names)) if !names.is_empty() => format!(" (did you mean {}?)", names.join(" or ")),
        _ => String::new(),
    };
    Failure::usage(format!(
        "unknown command {word}{near}; ds4 --help lists what there is, ds4 -p TEXT answers a prompt"
    ))
}
