//! The whole command line as one tree, for completions and manual pages.

use clap::{Command, CommandFactory};

use crate::args::Args;
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
