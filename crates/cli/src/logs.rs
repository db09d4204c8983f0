//! `ds4 logs`: the end of the log, and what follows.

use std::io::Write;

use clap::{CommandFactory, Parser};
use ds4_supervise::log;

use crate::args::positive;
use crate::failure::Failure;
use crate::supervised::{Place, failure, parse};

/// Shows the end of the server's log: at most 2000 lines and 256 KiB.
#[derive(Debug, Parser)]
#[command(name = "ds4 logs", bin_name = "ds4 logs", no_binary_name = true, disable_help_subcommand = true)]
struct Arguments {
    /// Go on with what is written, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// Lines to begin with
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = log::TAIL_LINES, value_parser = positive)]
    lines: usize,
}

/// The command line.
pub(crate) fn command() -> clap::Command {
    Arguments::command()
}

/// Runs `ds4 logs` with the arguments that follow it.
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let arguments: Arguments = parse(args)?;
    let Place { dir, stop, .. } = Place::new()?;
    let end = match log::tail(&dir, arguments.lines).map_err(failure)? {
        Some((text, end)) => {
            print!("{text}");
            end
        }
        None => {
            eprintln!("No ds4 log yet: {}", dir.log().display());
            log::End::default()
        }
    };
    if !arguments.follow {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    out.flush()?;
    log::follow(&dir, end, &stop, |bytes| out.write_all(bytes).and_then(|()| out.flush())).map_err(failure)
}
