//! `ds4 man`: manual pages.

use std::io::Write;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches, Parser};

use crate::args::explain;
use crate::commands;
use crate::failure::Failure;

/// Prints the manual page of ds4, or writes the pages of all commands.
#[derive(Parser)]
#[command(name = "ds4 man", bin_name = "ds4 man", disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Manual {
    /// Write ds4.1, ds4-serve.1 and so on into this folder
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
  ds4 man | man -l -                     read it
  ds4 man ~/.local/share/man/man1        install all of them";

/// The command line.
pub(crate) fn command() -> clap::Command {
    Manual::command()
}

/// `ds4 man [DIR]`
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let matches = command().try_get_matches_from(args).map_err(|e| explain("ds4 man", &e))?;
    let manual = Manual::from_arg_matches(&matches).map_err(|e| explain("ds4 man", &e))?;
    match manual.dir {
        Some(dir) => std::fs::create_dir_all(&dir)
            .and_then(|()| clap_mangen::generate_to(commands::tree(), &dir))
            .map_err(|e| Failure::from(format!("{}: cannot write: {e}", dir.display()))),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(commands::tree()).render(&mut page)?;
            Ok(std::io::stdout().write_all(&page)?)
        }
    }
}
