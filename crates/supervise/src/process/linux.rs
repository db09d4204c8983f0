//! Processes from `/proc`.

use std::sync::OnceLock;
use std::time::Duration;

use super::{Start, lstart};

/// What `/proc/PID/stat` says after the name, which may hold anything.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (_, after) = text.rsplit_once(')')?;
    Some(after.split_whitespace().map(str::to_owned).collect())
}

/// Whether only its exit code is left.
pub(super) fn has_ended(pid: u32) -> bool {
    stat(pid).and_then(|fields| fields.first().cloned()).is_some_and(|state| ["Z", "X", "x"].contains(&state.as_str()))
}

pub(super) fn start_of(pid: u32) -> Option<Start> {
    let fields = stat(pid)?;
    if ["Z", "X", "x"].contains(&fields.first()?.as_str()) {
        return None;
    }
    let ticks: u64 = fields.get(19)?.parse().ok()?;
    let since_boot = ticks / rustix::param::clock_ticks_per_second().max(1);
    let exact = format!("{}/{ticks}", boot()?);
    Some(Start { exact, shown: lstart(Duration::from_secs(booted_at()?.saturating_add(since_boot))) })
}

/// Which boot this is.
fn boot() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|text| text.trim().to_owned());
    BOOT.get_or_init(read).as_deref()
}

/// Seconds from 1970 to the boot, by today's clock.
fn booted_at() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// How a process was started, in one line.
pub fn command_line(pid: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(super::shown(bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word))))
}
