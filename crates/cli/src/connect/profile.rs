//! Files, variables and the command of one client.

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use similar::{ChangeTag, TextDiff};

use super::settings::{Settings, left};
use crate::failure::Failure;

/// What makes a client use the server, beside the client's usual profile.
#[derive(Debug)]
pub(super) struct Profile {
    /// What it is, in a line.
    pub(super) title: String,
    /// What its files must say.
    pub(super) files: Vec<Settings>,
    /// What to set.
    pub(super) variables: Vec<(&'static str, String)>,
    /// What to take away: it would lead the client elsewhere.
    pub(super) unset: Vec<&'static str>,
    /// The client's program, and what comes before other arguments.
    pub(super) command: Vec<String>,
    /// The program of ours that does all of this.
    pub(super) wrapper: &'static str,
}

/// Most bytes of a file that is compared.
const MOST_BYTES: u64 = 4 << 20;
/// Most copies of what was there: the latest.
const MOST_BACKUPS: u64 = 10;

impl Profile {
    /// All of it as text that a shell could read; with the files' texts, or only how to use them.
    pub(super) fn text(&self, with_files: bool) -> Result<String, Failure> {
        let mut text = format!("# {}\n", self.title);
        for file in self.files.iter().filter(|_| with_files) {
            text += &format!("\n# {}\n{}", file.path.display(), file.put_into("")?);
        }
        text += if with_files { "\n# Once --write has put it there:\n" } else { "" };
        text += &format!("{}\n# The same, and the server with it:\n{}\n", self.line(), self.wrapper);
        Ok(text)
    }

    /// The command as a shell wants it.
    fn line(&self) -> String {
        let mut words = Vec::new();
        if !self.unset.is_empty() {
            words.push("env".to_owned());
            words.extend(self.unset.iter().map(|name| format!("-u {name}")));
        }
        words.extend(self.variables.iter().map(|(name, value)| format!("{name}={}", quoted(value))));
        words.extend(self.command.iter().map(|word| quoted(word)));
        words.join(" ")
    }

    /// Writes into the files what they do not say already. What changes is shown; what was there is kept beside it.
    pub(super) fn write(&self, show: bool) -> Result<(), Failure> {
        self.files.iter().try_for_each(|file| write(file, show))
    }

    /// Becomes the client; comes back only when that is not possible.
    pub(super) fn become_client(&self, arguments: &[String]) -> Failure {
        let Some((program, own)) = self.command.split_first() else { return Failure::usage("no command") };
        let mut command = Command::new(program);
        for name in &self.unset {
            command.env_remove(name);
        }
        let error = command.envs(self.variables.iter().cloned()).args(own).args(arguments).exec();
        Failure::from(format!("cannot run {program}: {error}; is it installed, and in PATH?"))
    }
}

/// Puts settings into a file, which is its owner's alone.
fn write(file: &Settings, show: bool) -> Result<(), Failure> {
    // Somebody may keep it elsewhere, behind a link.
    let path = &fs::canonicalize(&file.path).unwrap_or_else(|_| file.path.clone());
    let failed = |what: &str, e: std::io::Error| Failure::from(format!("{}: cannot {what}: {e}", path.display()));
    let there = match fs::metadata(path) {
        Ok(there) if there.len() > MOST_BYTES => {
            return Err(Failure::from(left(path, &format!("larger than {MOST_BYTES} bytes"))));
        }
        Ok(_) => Some(fs::read_to_string(path).map_err(|e| failed("read it", e))?),
        Err(_) => None,
    };
    let old = there.as_deref().unwrap_or_default();
    let content = &file.put_into(old).map_err(|why| left(path, &why))?;
    if there.is_some() && old == content {
        return Ok(());
    }
    if show {
        eprint!("{}", diff(path, old, content, std::io::stderr().is_terminal()));
    }
    if let Some(folder) = path.parent() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|e| failed("make its folder", e))?;
    }
    if there.is_some() {
        let kept = keep(path).map_err(|e| failed("keep a copy", e))?;
        eprintln!("ds4: {}: what was there is now {}", path.display(), kept.display());
    }
    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
    let put = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    put().map_err(|e| {
        let _ = fs::remove_file(&aside); // it may never have been there
        failed("write it", e)
    })
}

/// Copies a file to the next `NAME.backup.N`, and removes the oldest of many.
fn keep(path: &Path) -> std::io::Result<PathBuf> {
    let named = |n: u64| PathBuf::from(format!("{}.backup.{n}", path.display()));
    let begin = format!("{}.backup.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut numbers = Vec::new();
    for entry in fs::read_dir(path.parent().unwrap_or(Path::new(".")))? {
        let name = entry?.file_name();
        numbers.extend(name.to_string_lossy().strip_prefix(&begin).and_then(|n| n.parse::<u64>().ok()));
    }
    let last = numbers.iter().max().map_or(0, |n| *n);
    let next = last.checked_add(1).ok_or_else(|| std::io::Error::other("the last copy has the last number"))?;
    let backup = named(next);
    // A disk without links copies.
    fs::hard_link(path, &backup).or_else(|_| fs::copy(path, &backup).map(drop))?;
    for old in numbers.into_iter().filter(|n| n + MOST_BACKUPS <= next) {
        let _ = fs::remove_file(named(old)); // another one may have removed it
    }
    Ok(backup)
}

/// What changes, as `diff -u` shows it.
fn diff(path: &Path, old: &str, new: &str, colours: bool) -> String {
    let changes = TextDiff::from_lines(old, new);
    let name = path.display();
    let mut text = format!("--- {name}\n+++ {name}\n");
    for hunk in changes.unified_diff().context_radius(3).iter_hunks() {
        text += &format!("{}\n", hunk.header());
        for change in hunk.iter_changes() {
            let (sign, colour) = match change.tag() {
                ChangeTag::Delete => ('-', "\x1b[31m"),
                ChangeTag::Insert => ('+', "\x1b[32m"),
                ChangeTag::Equal => (' ', ""),
            };
            let line = format!("{sign}{}", change.value().trim_end_matches('\n'));
            text += &match colours && !colour.is_empty() {
                true => format!("{colour}{line}\x1b[0m\n"),
                false => format!("{line}\n"),
            };
        }
    }
    text
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A folder, and `a/b.toml` in it with a setting of ours.
    fn stage() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.toml");
        (folder, path)
    }

    fn put(path: &Path, n: u64) -> Result<(), Failure> {
        write(&Settings::new(path.into(), [("n", json!(n))]), false)
    }

    fn backups(path: &Path) -> Vec<(u64, String)> {
        let text = |n: u64| fs::read_to_string(format!("{}.backup.{n}", path.display())).ok();
        (1..100).filter_map(|n| Some((n, text(n)?))).collect()
    }

    #[test]
    fn what_was_there_is_kept() {
        let (_folder, path) = stage();
        [1, 2, 2, 3].iter().for_each(|n| put(&path, *n).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "n = 3\n");
        assert_eq!(backups(&path), [(1, "n = 1\n".to_owned()), (2, "n = 2\n".to_owned())]);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 3, "nothing else is left");
    }

    #[test]
    fn of_many_copies_the_latest_stay() {
        let (_folder, path) = stage();
        (1..=30).for_each(|n| put(&path, n).unwrap());
        let numbers: Vec<u64> = backups(&path).into_iter().map(|(n, _)| n).collect();
        assert_eq!(numbers, (20..30).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_added_stays_and_is_no_reason_to_write() {
        let (_folder, path) = stage();
        put(&path, 1).unwrap();
        let theirs = "# mine\nn = 1\n\n[projects.here]\ntrust_level = \"trusted\"\n";
        fs::write(&path, theirs).unwrap();
        (0..1100).for_each(|_| put(&path, 1).unwrap());
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), backups(&path).len()), (theirs, 0));
        put(&path, 2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), theirs.replace("n = 1", "n = 2"));
        fs::write(&path, "n = ").unwrap();
        let said = put(&path, 3).unwrap_err().message();
        assert!(said.contains("a/b.toml: not TOML: ") && said.ends_with("mend it, or move it away"), "{said}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "n = ");
    }

    #[test]
    fn a_link_stays_one() {
        let (folder, path) = stage();
        fs::create_dir(path.parent().unwrap()).unwrap();
        let real = folder.path().join("dotfile.toml");
        fs::write(&real, "x = 1\n").unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        put(&path, 1).unwrap();
        assert_eq!((path.is_symlink(), fs::read_to_string(&real).unwrap().as_str()), (true, "x = 1\nn = 1\n"));
    }

    #[test]
    fn changes_are_shown_as_diff_shows_them() {
        let text = diff(Path::new("f"), "a\nb\n", "a\nc\n", false);
        assert_eq!(text, "--- f\n+++ f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n");
        assert!(diff(Path::new("f"), "", "a\n", true).contains("\x1b[32m+a\x1b[0m\n"));
    }

    #[test]
    fn a_shell_reads_the_command_as_it_is_meant() {
        let profile = Profile {
            title: "t".into(),
            files: Vec::new(),
            variables: vec![("A", "it's here".into())],
            unset: vec!["B"],
            command: vec!["printenv".into(), "A".into()],
            wrapper: "w",
        };
        let said = Command::new("sh").args(["-c", &profile.line()]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "it's here\n");
    }
}
