//! `ds4 down`: the server stopped.

use clap::{CommandFactory, Parser};
use ds4_supervise::Down;

use crate::failure::Failure;
use crate::supervised::{Place, failure, parse};

/// Stops the server of this machine's state directory. It may end what it answers, for a minute at most.
#[derive(Debug, Parser)]
#[command(name = "ds4 down", bin_name = "ds4 down", no_binary_name = true, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Arguments {
    /// End it at once, in the middle of answers, and also one that ds4 did not start
    #[arg(long)]
    force: bool,
}

const AFTER_HELP: &str = "\
That nothing runs is success. Whoever needs the server can start it again; what it computed stays on the disk.";

/// The command line.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// Runs `ds4 down` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let arguments: Arguments = parse(args)?;
    let Place { dir, timings, stop } = Place::new()?;
    let mut say = |line: &str| eprintln!("ds4: {line}");
    match ds4_supervise::down(&dir, arguments.force, &timings, &stop, &mut say).map_err(failure)? {
        Down::NothingRan => println!("no ds4-server runs"),
        Down::Stopped(pid) => println!("stopped ds4-server (pid {pid})"),
        Down::LeftRunning(pid) => {
            println!("ds4-server (pid {pid}) was not started by ds4 and goes on; --force ends it")
        }
    }
    Ok(())
}
