//! Runs the real program.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod server;
pub(crate) mod supervised;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A home of its own: lock, history, working directory.
pub(crate) struct Home {
    folder: TempDir,
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `ds4` with these arguments, not started yet.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ds4"));
        command.args(args).current_dir(self.path());
        command.env("DS4_LOCK_FILE", self.file("lock")).env("HOME", self.path());
        command.env_remove("DS4_MODEL").env_remove("DS4_THREADS").env_remove("NO_COLOR");
        command
    }

    /// Runs `ds4` to its end.
    pub(crate) fn ds4(&self, args: &[&str]) -> Said {
        said(self.command(args).output().expect("ds4 runs"))
    }
}

pub(crate) fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).expect("ds4 writes UTF-8");
    Said { out: text(output.stdout), err: text(output.stderr), code: output.status.code().unwrap_or(-1) }
}

impl Said {
    /// Asserts success and returns stdout.
    pub(crate) fn answer(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Asserts an exit code and that stderr's last line is this one.
    pub(crate) fn fails(&self, code: i32, line: &str) {
        assert_eq!((self.code, self.err.lines().last().unwrap_or_default()), (code, line), "{self:?}");
    }
}

/// The built-in model as a file.
pub(crate) fn model() -> String {
    ds4_testkit::root().join("mini/v4-mini.gguf").display().to_string()
}
