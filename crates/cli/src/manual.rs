//! `ds4 man`: manual pages.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::{Command, CommandFactory, FromArgMatches, Parser};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

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
Examples:
  ds4 man | man -l -                     read it
  ds4 man ~/.local/share/man/man1        install all of them";

/// The command line.
pub(crate) fn command() -> Command {
    Manual::command()
}

/// `ds4 man [DIR]`
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let matches = command().try_get_matches_from(args).map_err(|e| explain("ds4 man", &e))?;
    let manual = Manual::from_arg_matches(&matches).map_err(|e| explain("ds4 man", &e))?;
    match manual.dir {
        Some(dir) => std::fs::create_dir_all(&dir)
            .and_then(|()| write_pages(&built(), &dir))
            .map_err(|e| Failure::from(format!("{}: cannot write: {e}", dir.display()))),
        None => {
            let mut page = Vec::new();
            write_page(&built(), &mut page)?;
            Ok(io::stdout().write_all(&page)?)
        }
    }
}

/// The tree, in which every command knows its whole name.
fn built() -> Command {
    let mut tree = commands::tree();
    tree.build();
    tree
}

/// The pages of a command and all below it.
fn write_pages(command: &Command, dir: &Path) -> io::Result<()> {
    let mut shown = command.get_subcommands().filter(|below| !below.is_hide_set());
    shown.try_for_each(|below| write_pages(below, dir))?;
    let mut page = Vec::new();
    write_page(command, &mut page)?;
    std::fs::write(dir.join(Man::new(command.clone()).get_filename()), page)
}

/// One page. What stands after the flags is set here: there, examples would be filled like prose.
fn write_page(command: &Command, out: &mut Vec<u8>) -> io::Result<()> {
    Man::new(command.clone().after_help(Resettable::Reset)).render(out)?;
    let Some(after) = command.get_after_help().map(ToString::to_string) else { return Ok(()) };
    let is_example = |line: &str| line.starts_with(' ');
    let mut roff = Roff::default();
    roff.control("SH", [if after.lines().any(is_example) { "EXAMPLES" } else { "NOTES" }]);
    let mut verbatim = false;
    for line in after.lines() {
        if is_example(line) != verbatim {
            verbatim = !verbatim;
            roff.control(if verbatim { "nf" } else { "fi" }, []);
        }
        match line {
            "" => roff.control("PP", []),
            line => roff.text([roman(line)]),
        };
    }
    if verbatim {
        roff.control("fi", []);
    }
    roff.to_writer(out)
}
