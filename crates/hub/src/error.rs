//! The one error type of the crate. Every message is one line that names the file or address, the problem and the way out.

use std::path::PathBuf;

use crate::progress::bytes;

/// Why there is no model file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for is nothing that can be pulled, or a setting is wrong.
    #[error("{0}")]
    Usage(String),
    /// Nothing in the catalogue fits this machine.
    #[error("{0}")]
    Memory(String),
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// "write", "lock", ...
        action: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The server does not give the file.
    #[error("{from}: {problem}")]
    Server {
        /// What was asked for.
        from: String,
        /// What it answered, and what helps.
        problem: String,
    },
    /// The disk has no room.
    #[error(
        "{}: {} free, {} needed; make room, or put the model elsewhere with --dir or DS4_GGUF_DIR",
        folder.display(),
        bytes(*free),
        bytes(*needed)
    )]
    Space {
        /// Where the file would lie.
        folder: PathBuf,
        /// Bytes that are still to come.
        needed: u64,
        /// Bytes that can be written.
        free: u64,
    },
    /// A file is not what it should be.
    #[error("{}: {problem}", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what helps.
        problem: String,
    },
    /// The caller asked to stop.
    #[error(
        "interrupted; {} are kept in {}, and the same command goes on from there",
        bytes(*kept),
        part.display()
    )]
    Interrupted {
        /// The file so far.
        part: PathBuf,
        /// Its bytes.
        kept: u64,
    },
}

impl Error {
    /// What the operating system says about a file.
    pub(crate) fn io(file: &std::path::Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        let file = file.to_path_buf();
        move |source| Error::Io { file, action, source }
    }

    /// A file is not what it should be.
    pub(crate) fn content(file: &std::path::Path, problem: impl Into<String>) -> Error {
        Error::Content { file: file.into(), problem: problem.into() }
    }
}
