//! The whole command line as one tree, for completions and manual pages.

use clap::{Command, CommandFactory};

use crate::args::Args;
use crate::{bench, completions, kv, lab, manual, models, pull, serve};

/// `ds4` with all its subcommands.
pub(crate) fn tree() -> Command {
    let subcommands = [
        bench::command().name("bench"),
        completions::command().name("completions"),
        kv::command().name("kv"),
        lab::command().name("lab"),
        manual::command().name("man"),
        models::command().name("models"),
        pull::command().name("pull"),
        serve::command().name("serve"),
    ];
    Args::command().subcommands(subcommands)
}
