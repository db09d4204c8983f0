//! What can go wrong.

use std::io;
use std::path::{Path, PathBuf};

/// Why something was not done; one line, with the way out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read or written.
    #[error("{path}: cannot {what}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Anything else at run time.
    #[error("{0}")]
    Failed(String),
    /// What was asked for makes no sense, or an instance runs already.
    #[error("{0}")]
    Usage(String),
    /// This signal came.
    #[error("interrupted")]
    Interrupted(i32),
}

impl Error {
    /// For `map_err`.
    pub(crate) fn file(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, what, source }
    }
}
