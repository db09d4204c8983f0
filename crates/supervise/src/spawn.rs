//! Processes that outlive the one that starts them.
//!
//! They get a group of their own, so that Ctrl-C and the end of a terminal do not reach them, and no input, output or error
//! stream of their parent's, so that nobody waits for these to end. A session of their own (`setsid`) would need code between
//! fork and exec, and gives nothing more to a process that never opens a terminal.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Error, StateDir, log, process};

/// Starts a server: `$DS4_SERVER_BINARY`, or this program.
pub(crate) fn server(dir: &StateDir, args: &[String]) -> Result<Child, Error> {
    let named = std::env::var_os("DS4_SERVER_BINARY").filter(|name| !name.is_empty()).map(PathBuf::from);
    let binary = match named {
        Some(path) if is_executable(&path) => path,
        Some(path) => return Err(Error::Usage(format!("DS4_SERVER_BINARY: {} is no executable file", path.display()))),
        None => this_program()?,
    };
    let mut command = Command::new(&binary);
    let mut words = vec![binary.display().to_string()];
    if binary.file_name().is_some_and(|name| name == "ds4") {
        // So that programs that look for a ds4-server among the processes find it.
        command.arg0("ds4-server").arg("serve");
        words.push("serve".into());
    }
    words.extend_from_slice(args);
    log::append(dir, "ds4 up", &format!("starting ds4-server: $ {}", process::shown(words)));
    detached(dir, command.args(args))
}

/// Starts the holder of a process's lease.
pub(crate) fn lease_holder(dir: &StateDir, pid: u32) -> Result<Child, Error> {
    detached(dir, Command::new(this_program()?).args(["lease", "--pid", &pid.to_string()]).env("DS4_DIR", dir.root()))
}

fn detached(dir: &StateDir, command: &mut Command) -> Result<Child, Error> {
    let (out, err) = (log::open(dir)?, log::open(dir)?);
    let child = command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).spawn();
    child.map_err(Error::file(Path::new(command.get_program()), "start"))
}

fn this_program() -> Result<PathBuf, Error> {
    std::env::current_exe().map_err(|e| Error::Failed(format!("cannot find this program's own file: {e}")))
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}
