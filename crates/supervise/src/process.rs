//! A process, and not another one that got its number.
//!
//! The kernel is asked for the moment at which a process started, in a form that a change of the clock does not touch. The
//! form of `ps -o lstart=` is written and read, too, for programs that know nothing else.

use std::time::Duration;

use chrono::{DateTime, Local, NaiveDateTime};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

#[cfg(target_os = "linux")]
#[path = "process/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "process/other.rs"]
mod system;

pub use system::command_line;

/// When a process started. Two are equal if they are exactly: what is shown moves when the clock is set.
#[derive(Clone, Debug)]
pub struct Start {
    /// What no other process with its number has: on Linux boot and clock ticks since then, elsewhere the second.
    pub exact: String,
    /// As `LC_ALL=C ps -o lstart=` says it.
    pub shown: String,
}

impl PartialEq for Start {
    fn eq(&self, other: &Self) -> bool {
        self.exact == other.exact
    }
}

/// How far the two ways of `ps` to compute the second may be apart.
const ROUNDING: i64 = 2;
/// How `ps` writes it.
const LSTART: &str = "%a %b %e %H:%M:%S %Y";

/// When a process started; none where there is none, where it has ended, and where the system does not say.
pub fn start_of(pid: u32) -> Option<Start> {
    system::start_of(pid)
}

/// Whether there is a process of this number that has not ended.
pub fn is_alive(pid: u32) -> bool {
    let Some(process) = number(pid) else { return false };
    match rustix::process::test_kill_process(process) {
        Ok(()) | Err(Errno::PERM) => !system::has_ended(pid),
        Err(_) => false,
    }
}

/// Whether the process of which a file says these starts is there. What the system does not say counts as right.
pub fn is_same(pid: u32, exact: Option<&str>, shown: Option<&str>) -> bool {
    if !is_alive(pid) {
        return false;
    }
    let Some(start) = start_of(pid) else { return is_alive(pid) };
    match (exact, shown) {
        (Some(exact), _) => exact == start.exact,
        (None, Some(shown)) => seconds_apart(shown, &start.shown).is_some_and(|apart| apart <= ROUNDING),
        (None, None) => true,
    }
}

fn seconds_apart(a: &str, b: &str) -> Option<i64> {
    let read = |text: &str| NaiveDateTime::parse_from_str(text.trim(), LSTART).ok();
    Some((read(a)? - read(b)?).num_seconds().abs())
}

/// A moment as `ps` writes it.
pub(crate) fn lstart(since_1970: Duration) -> String {
    let time = DateTime::from_timestamp(since_1970.as_secs() as i64, 0).unwrap_or_default();
    time.with_timezone(&Local).format(LSTART).to_string()
}

/// A command in one line, as people may see it: without keys, and without what would break the line.
pub(crate) fn shown(words: impl IntoIterator<Item = impl Into<String>>) -> String {
    let words = without_keys(words.into_iter().map(Into::into));
    words.join(" ").replace(|c: char| c.is_control(), " ").trim_end().to_owned()
}

/// The words of a command, with `***` for the keys of a server.
pub(crate) fn without_keys(words: impl IntoIterator<Item = String>) -> Vec<String> {
    const FLAG: &str = "--api-key";
    let mut is_key = false;
    let word = |word: String| {
        if std::mem::replace(&mut is_key, word == FLAG) {
            return "***".into();
        }
        match word.split_once('=') {
            Some((FLAG, _)) => format!("{FLAG}=***"),
            _ => word,
        }
    };
    words.into_iter().map(word).collect()
}

/// Asks a process to end. Whether there was one.
pub(crate) fn terminate(pid: u32) -> bool {
    number(pid).is_some_and(|pid| rustix::process::kill_process(pid, Signal::TERM).is_ok())
}

/// Ends a process. Whether there was one.
pub(crate) fn kill(pid: u32) -> bool {
    number(pid).is_some_and(|pid| rustix::process::kill_process(pid, Signal::KILL).is_ok())
}

/// Never 0 or negative, which are groups of processes.
fn number(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_itself_and_no_other() {
        let pid = std::process::id();
        let start = start_of(pid).unwrap();
        assert!(is_alive(pid) && is_same(pid, Some(&start.exact), None) && is_same(pid, None, Some(&start.shown)));
        assert!(
            is_same(pid, Some(&start.exact), Some("Thu Jan  1 00:00:00 1970")),
            "the clock was set, it is the same"
        );
        assert!(!is_same(pid, Some("another boot/7"), Some(&start.shown)), "the number was given again");
        assert!(!is_same(pid, None, Some("Thu Jan  1 00:00:00 1970")) && !is_same(pid, None, Some("nonsense")));
        assert!([0, u32::MAX, 1 << 31, i32::MAX as u32].iter().all(|&pid| !is_alive(pid)));
    }

    #[test]
    fn a_clock_that_is_set_makes_no_other_process() {
        let start = start_of(std::process::id()).unwrap();
        let moved = Start { shown: "Thu Jan  1 00:00:00 1970".into(), ..start.clone() };
        assert_eq!(start, moved);
        assert_ne!(start, Start { exact: "another boot/7".into(), ..start.clone() });
    }

    #[test]
    fn ps_says_the_same() {
        let pid = std::process::id();
        let said = Command::new("ps").args(["-o", "lstart=", "-p", &pid.to_string()]).env("LC_ALL", "C").output();
        let Ok(said) = said.map(|output| String::from_utf8(output.stdout).unwrap()) else { return };
        assert!(is_same(pid, None, Some(&said)), "{said:?} {:?}", start_of(pid));
    }

    #[test]
    fn who_has_ended_is_gone_even_before_its_parent_looks() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let start = start_of(child.id()).unwrap();
        assert!(is_same(child.id(), Some(&start.exact), None));
        let patience = crate::Stop::default();
        let soon = |holds: &dyn Fn() -> bool| patience.wait(Duration::from_secs(60), holds).unwrap();
        // It is empty for a moment after exec.
        assert!(soon(&|| command_line(child.id()).unwrap().ends_with("100")));
        assert!(kill(child.id()));
        assert!(soon(&|| !is_alive(child.id())));
        assert!(!is_same(child.id(), Some(&start.exact), Some(&start.shown)));
        child.wait().unwrap();
        assert!(!is_alive(child.id()) && !kill(child.id()));
    }

    #[test]
    fn commands_are_shown_in_one_line_and_without_keys() {
        let words = ["ds4", "--api-key", "secret", "--api-key=secret", "--api-key-file", "F", "a\nb", ""];
        assert_eq!(shown(words), "ds4 --api-key *** --api-key=*** --api-key-file F a b");
    }

    #[test]
    fn seconds_are_compared_with_room_for_rounding() {
        let (a, b) = ("Sun Nov  1 23:59:59 2026", "Mon Nov  2 00:00:01 2026");
        assert_eq!(seconds_apart(a, b), Some(2));
        assert_eq!(seconds_apart(a, "Sun Nov 99 23:59:59 2026"), None);
    }
}
