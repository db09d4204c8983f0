//! The log of a state directory, to which several processes append.
//!
//! It is put aside as `log.1` when a server is about to start and it has grown; never while one runs, since programs that
//! have it open go on writing where they are.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::{Error, StateDir, Stop};

/// Larger than this, it is put aside before a server starts.
const ROTATE_AT: u64 = 10 << 20;
/// Most bytes of its end that are shown.
const TAIL_BYTES: u64 = 256 << 10;
/// Most lines of its end that are shown.
pub const TAIL_LINES: usize = 2000;
/// How often a follower looks.
const LOOK: Duration = Duration::from_millis(250);
/// Most bytes that a follower takes at once.
const PIECE: u64 = 1 << 20;

/// A line of the watchdog, where the server's log goes.
pub(crate) fn say(line: &str) {
    let _ = std::io::stderr().write_all(stamped("ds4-watchdog", line).as_bytes());
}

/// Appends a line; who cannot write the log goes on without.
pub(crate) fn append(dir: &StateDir, who: &str, line: &str) {
    let _ = open(dir).map(|mut file| file.write_all(stamped(who, line).as_bytes()));
}

fn stamped(who: &str, line: &str) -> String {
    let now = DateTime::<Utc>::from(SystemTime::now()).to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut text = String::new();
    let _ = writeln!(text, "[{now}] {who}: {line}");
    text
}

/// The log, for appending.
pub(crate) fn open(dir: &StateDir) -> Result<File, Error> {
    let path = dir.log();
    OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(Error::file(&path, "open"))
}

/// Puts the log aside if it has grown.
pub(crate) fn rotate(dir: &StateDir) {
    if std::fs::metadata(dir.log()).is_ok_and(|about| about.len() > ROTATE_AT) {
        let _ = std::fs::rename(dir.log(), dir.old_log());
    }
}

/// How long it is.
pub(crate) fn length(dir: &StateDir) -> u64 {
    std::fs::metadata(dir.log()).map_or(0, |about| about.len())
}

/// Its last lines, at most 256 KiB of them, and where it ends. None when there is no log.
pub fn tail(dir: &StateDir, lines: usize) -> Result<Option<(String, End)>, Error> {
    tail_from(dir, lines, 0)
}

/// The same of what was written after an offset.
pub(crate) fn tail_from(dir: &StateDir, lines: usize, offset: u64) -> Result<Option<(String, End)>, Error> {
    let path = dir.log();
    let mut file = match File::open(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(Error::file(&path, "open"))?,
    };
    let read = (|| {
        let about = file.metadata()?;
        let start = about.len().saturating_sub(TAIL_BYTES).max(offset.min(about.len()));
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok((start > offset, End { at: start + bytes.len() as u64, file: identity(&about) }, bytes))
    })();
    let (cut, end, bytes) = read.map_err(Error::file(&path, "read"))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut last = VecDeque::new();
    // The first line is a part of one where the text was cut.
    for line in text.split_inclusive('\n').skip(usize::from(cut)) {
        if last.len() == lines.min(TAIL_LINES) {
            last.pop_front();
        }
        last.push_back(line);
    }
    Ok(Some((last.into_iter().collect(), end)))
}

/// Where a reader of the log is.
#[derive(Clone, Copy, Debug, Default)]
pub struct End {
    at: u64,
    file: (u64, u64),
}

fn identity(about: &Metadata) -> (u64, u64) {
    (about.dev(), about.ino())
}

/// Gives what is appended, also after the log was put aside, until a signal comes or `show` has enough.
pub fn follow(
    dir: &StateDir,
    mut end: End,
    stop: &Stop,
    mut show: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<(), Error> {
    let path = dir.log();
    let mut open: Option<File> = File::open(&path).ok();
    loop {
        stop.check()?;
        if let Some(file) = &mut open {
            let about = file.metadata().map_err(Error::file(&path, "read"))?;
            if identity(&about) != end.file || about.len() < end.at {
                end = End { at: 0, file: identity(&about) };
            }
            let mut bytes = Vec::new();
            let read = file.seek(SeekFrom::Start(end.at)).and_then(|_| file.take(PIECE).read_to_end(&mut bytes));
            end.at += read.map_err(Error::file(&path, "read"))? as u64;
            if !bytes.is_empty() {
                if show(&bytes).is_err() {
                    return Ok(()); // the reader has left
                }
                continue;
            }
        }
        // To its end, and only then to the one that took its place.
        let current = std::fs::metadata(&path).ok().map(|about| identity(&about));
        if current.is_some_and(|current| current != end.file) || open.is_none() {
            open = File::open(&path).ok();
            if open.is_some() {
                continue;
            }
        }
        stop.sleep(LOOK)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn dir() -> (tempfile::TempDir, StateDir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::at(folder.path()).unwrap();
        (folder, dir)
    }

    #[test]
    fn the_end_is_shown_in_whole_lines_and_not_more_than_is_useful() {
        let (_folder, dir) = dir();
        assert!(tail(&dir, 10).unwrap().is_none());
        std::fs::write(dir.log(), "one\ntwo\nthree").unwrap();
        assert_eq!(tail(&dir, 2).unwrap().unwrap().0, "two\nthree");
        let many: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(dir.log(), &many).unwrap();
        let text = tail(&dir, usize::MAX).unwrap().unwrap().0;
        assert_eq!(text.lines().count(), TAIL_LINES);
        assert!(text.starts_with("line 98000\n") && text.ends_with("line 99999\n"));
        std::fs::write(dir.log(), "a".repeat(1 << 20) + "\nlast\n").unwrap();
        assert_eq!(tail(&dir, 10).unwrap().unwrap().0, "last\n", "a line of a megabyte is no line");
    }

    #[test]
    fn a_follower_sees_everything_once_also_when_the_log_is_put_aside() {
        let (_folder, dir) = dir();
        std::fs::write(dir.log(), "old\n").unwrap();
        let (_, end) = tail(&dir, 10).unwrap().unwrap();
        let (stop, (sender, shown)) = (Stop::default(), channel());
        let thread = {
            let (dir, stop) = (dir.clone(), stop.clone());
            let send = move |bytes: &[u8]| {
                sender.send(String::from_utf8(bytes.to_vec()).unwrap()).map_err(std::io::Error::other)
            };
            std::thread::spawn(move || follow(&dir, end, &stop, send))
        };
        let patience = Duration::from_secs(30);
        append(&dir, "test", "one");
        assert!(shown.recv_timeout(patience).unwrap().ends_with("test: one\n"));
        std::fs::rename(dir.log(), dir.old_log()).unwrap();
        OpenOptions::new().append(true).open(dir.old_log()).unwrap().write_all(b"late\n").unwrap();
        append(&dir, "test", "two");
        let mut rest = String::new();
        while !rest.ends_with("test: two\n") {
            rest += &shown.recv_timeout(patience).unwrap();
        }
        assert!(rest.starts_with("late\n"), "{rest}");
        stop.flag().store(15, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(thread.join().unwrap(), Err(Error::Interrupted(15))));
    }

    #[test]
    fn a_log_that_has_grown_is_put_aside() {
        let (_folder, dir) = dir();
        append(&dir, "test", "small");
        rotate(&dir);
        assert!(dir.log().exists() && !dir.old_log().exists());
        open(&dir).unwrap().set_len(ROTATE_AT + 1).unwrap();
        rotate(&dir);
        assert!(!dir.log().exists() && dir.old_log().exists());
    }
}
