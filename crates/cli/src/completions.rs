//! `ds4 completions`: what a shell needs to complete `ds4`.

use std::io::Write;

use clap::{CommandFactory, FromArgMatches, Parser};
use clap_complete::Shell;

use crate::args::explain;
use crate::commands;
use crate::failure::Failure;

/// Prints what a shell needs to complete ds4.
#[derive(Parser)]
#[command(name = "ds4 completions", bin_name = "ds4 completions", disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

const AFTER_HELP: &str = "\
Examples:
  bash   ds4 completions bash > ~/.local/share/bash-completion/completions/ds4
  zsh    ds4 completions zsh > a folder of $fpath, as _ds4
  fish   ds4 completions fish > ~/.config/fish/completions/ds4.fish";

/// The command line.
pub(crate) fn command() -> clap::Command {
    Completions::command()
}

/// `ds4 completions SHELL`
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let matches = command().try_get_matches_from(args).map_err(|e| explain("ds4 completions", &e))?;
    let completions = Completions::from_arg_matches(&matches).map_err(|e| explain("ds4 completions", &e))?;
    let mut script = Vec::new();
    clap_complete::generate(completions.shell, &mut commands::tree(), "ds4", &mut script);
    Ok(std::io::stdout().write_all(&script)?)
}
