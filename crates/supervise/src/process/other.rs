//! Processes from the system's own interfaces.

use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

use super::{Start, lstart};

fn look<T>(pid: u32, see: impl FnOnce(&sysinfo::Process) -> T) -> Option<T> {
    let mut system = System::new().ok()?;
    let pid = Pid::from_u32(pid);
    let what = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
    system.process(pid).map(see)
}

/// Whether only its exit code is left.
pub(super) fn has_ended(pid: u32) -> bool {
    look(pid, |process| matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead)).unwrap_or(false)
}

pub(super) fn start_of(pid: u32) -> Option<Start> {
    if has_ended(pid) {
        return None;
    }
    let seconds = look(pid, sysinfo::Process::start_time)?;
    Some(Start { exact: seconds.to_string(), shown: lstart(Duration::from_secs(seconds)) })
}

/// How a process was started, in one line.
pub fn command_line(pid: u32) -> Option<String> {
    look(pid, |process| super::shown(process.cmd().iter().map(|word| word.to_string_lossy())))
}
