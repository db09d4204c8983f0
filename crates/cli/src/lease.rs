//! `ds4 lease`: a process needs the server.

use clap::{CommandFactory, Parser};
use ds4_supervise::lease::{self, Held};

use crate::failure::Failure;
use crate::supervised::{Place, failure, parse, pid};

/// Keeps the server for a process, until the process ends or the lease is released.
#[derive(Debug, Parser)]
#[command(name = "ds4 lease", bin_name = "ds4 lease", no_binary_name = true, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Arguments {
    /// The process
    #[arg(long, value_name = "PID", value_parser = pid)]
    pid: u32,

    /// Take its lease back, and return at once
    #[arg(long)]
    release: bool,
}

const AFTER_HELP: &str = "\
ds4 up --for-pid PID does this by itself, in the background. A lease counts while its process lives and was
confirmed in the last 45 seconds; when there is none left, the server ends.";

/// The command line.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// Runs `ds4 lease` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let Arguments { pid, release } = parse(args)?;
    let Place { dir, timings, stop } = Place::new()?;
    if release {
        lease::release(&dir, pid).map_err(failure)?;
        return Ok(());
    }
    let cwd = std::env::current_dir().unwrap_or_default().display().to_string();
    if let Held::ByAnother(holder) = lease::hold(&dir, pid, &cwd, &timings, &stop).map_err(failure)? {
        eprintln!("ds4: process {holder} holds the lease of process {pid} already");
    }
    Ok(())
}
