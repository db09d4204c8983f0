//! What `ds4-server`, `ds4-bench`, `codex-ds4` and the like are: names for a subcommand of the `ds4` beside them, so that
//! there is one program and one copy of the built-in model. The process becomes `ds4`, so input, output, signals and the
//! exit code are its own.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Becomes `ds4 SUBCOMMAND… ARGUMENTS…`; comes back only when there is no `ds4`.
pub(crate) fn become_ds4(subcommand: &[&str]) -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_else(|| "ds4".into());
    let ds4 = std::env::current_exe().unwrap_or_default().with_file_name("ds4");
    // The name stays, so that `ps` and `pkill` find the program that was started.
    let error = Command::new(&ds4).arg0(&name).args(subcommand).args(args).exec();
    eprintln!("{}: cannot run {}: {error}; it belongs beside this program", name.display(), ds4.display());
    ExitCode::FAILURE
}
