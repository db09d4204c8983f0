//! Files, variables and the command of one client.

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use similar::{ChangeTag, TextDiff};

use crate::failure::Failure;

/// What makes a client use the server, beside the client's usual profile.
#[derive(Debug)]
pub(super) struct Profile {
    /// What it is, in a line.
    pub(super) title: String,
    /// Texts and where they belong.
    pub(super) files: Vec<(PathBuf, String)>,
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
/// Most copies of what was there.
const MOST_BACKUPS: usize = 1000;

impl Profile {
    /// All of it as text that a shell could read; with the files' texts, or only how to use them.
    pub(super) fn text(&self, with_files: bool) -> String {
        let mut text = format!("# {}\n", self.title);
        for (path, content) in self.files.iter().filter(|_| with_files) {
            text += &format!("\n# {}\n{content}", path.display());
        }
        text += if with_files { "\n# Once --write has put it there:\n" } else { "" };
        text += &format!("{}\n# The same, and the server with it:\n{}\n", self.line(), self.wrapper);
        text
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

    /// Writes the files. What changes is shown; what was there is kept beside it.
    pub(super) fn write(&self, show: bool) -> Result<(), Failure> {
        self.files.iter().try_for_each(|(path, content)| write(path, content, show))
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

/// Writes a file for its owner alone, in place of the one that is there.
fn write(path: &Path, content: &str, show: bool) -> Result<(), Failure> {
    let failed = |what: &str, e: std::io::Error| Failure::from(format!("{}: cannot {what}: {e}", path.display()));
    let there = match fs::symlink_metadata(path) {
        Ok(there) if there.len() > MOST_BYTES => {
            return Err(Failure::from(format!("{}: larger than {MOST_BYTES} bytes; move it away", path.display())));
        }
        Ok(_) => Some(fs::read(path).map_err(|e| failed("read it", e))?),
        Err(_) => None,
    };
    let old = there.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    if there.is_some() && old == content {
        return Ok(());
    }
    if show {
        eprint!("{}", diff(path, &old, content, std::io::stderr().is_terminal()));
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

/// Copies a file to the first free `NAME.backup.N`.
fn keep(path: &Path) -> std::io::Result<PathBuf> {
    for n in 1..=MOST_BACKUPS {
        let backup = PathBuf::from(format!("{}.backup.{n}", path.display()));
        match fs::hard_link(path, &backup) {
            Ok(()) => return Ok(backup),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            // A disk without links.
            Err(_) if !backup.exists() => return fs::copy(path, &backup).map(|_| backup),
            Err(e) => return Err(e),
        }
    }
    Err(std::io::Error::other(format!("there are {MOST_BACKUPS} copies already; remove some")))
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
    use super::*;

    #[test]
    fn what_was_there_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.toml");
        write(&path, "one\n", false).unwrap();
        write(&path, "two\n", false).unwrap();
        write(&path, "two\n", false).unwrap();
        write(&path, "three\n", false).unwrap();
        let text = |name: &str| fs::read_to_string(folder.path().join("a").join(name)).unwrap();
        assert_eq!(text("b.toml"), "three\n");
        assert_eq!([text("b.toml.backup.1"), text("b.toml.backup.2")], ["one\n", "two\n"]);
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 3, "nothing else is left");
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
