//! What can go wrong in a conversion.

use std::path::{Path, PathBuf};

use ds4_gguf::Format;

/// Why a checkpoint was not converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing failed.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] std::io::Error),
    /// The result is there already.
    #[error("{} exists; remove it or pass --overwrite", .0.display())]
    Exists(PathBuf),
    /// A folder, or a path without a file name.
    #[error("{}: expected the name of a file to write", .0.display())]
    NotAFile(PathBuf),
    /// Another program writes the same file.
    #[error("{}: another conversion is writing this file", .0.display())]
    Locked(PathBuf),
    /// What an earlier run left cannot be continued.
    #[error("{}: {}; remove it or pass --overwrite to begin anew", .part.display(), .why)]
    Unfinished {
        /// The unfinished file.
        part: PathBuf,
        /// What differs.
        why: String,
    },
    /// The result would not fit on the disk.
    #[error("{}: {:.1} MB needed, {:.1} MB free", .folder.display(), *.needed as f64 / 1e6, *.free as f64 / 1e6)]
    Space {
        /// Where the result goes.
        folder: PathBuf,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes that the disk has left.
        free: u64,
    },
    /// Stopped on request.
    #[error("interrupted after {:.1} of {:.1} MB; the same command continues from {}",
            *.done as f64 / 1e6, *.total as f64 / 1e6, .part.display())]
    Interrupted {
        /// The unfinished file.
        part: PathBuf,
        /// Bytes that are kept.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// `config.json` does not describe a V4 model.
    #[error("{}: {}", .0.display(), .1)]
    Config(PathBuf, String),
    /// The checkpoint is incomplete or damaged, or does not fit the options.
    #[error("{0}")]
    Checkpoint(Problems),
    /// A value that cannot be converted.
    #[error("tensor {tensor}: {value} in row {row}, column {column}: {why}")]
    Value {
        /// The tensor in the checkpoint.
        tensor: String,
        /// What is there.
        value: String,
        /// Its row, over all outer dimensions.
        row: usize,
        /// Its place in the row.
        column: usize,
        /// What is wrong with it, and the way out.
        why: String,
    },
    /// Tokenizer and model disagree.
    #[error("the tokenizer has {tokens} tokens, the model's vocab_size is {vocab}; they belong to different models")]
    Vocabulary {
        /// Tokens in tokenizer.json.
        tokens: usize,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// The GGUF side refused.
    #[error(transparent)]
    Gguf(#[from] ds4_gguf::Error),
    /// The result is not a model that loads.
    #[error(transparent)]
    Model(#[from] ds4_model::Error),
}

/// An [`Error::Io`] about `path`.
pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::Io(path.into(), error)
}

/// All that is wrong with a checkpoint, one line each: "file: …" or "folder: tensor …: …".
#[derive(Debug, Default)]
pub struct Problems {
    lines: Vec<String>,
    more: usize,
}

impl Problems {
    /// Lines that are kept.
    const SHOWN: usize = 40;
    /// Problems after which looking for more is given up.
    const ENOUGH: usize = 10_000;

    /// One more.
    pub(super) fn add(&mut self, line: String) {
        match self.lines.len() < Self::SHOWN {
            true => self.lines.push(line),
            false => self.more += 1,
        }
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether it is no use to go on.
    pub(super) fn is_enough(&self) -> bool {
        self.more >= Self::ENOUGH
    }

    /// An error if anything is wrong.
    pub(super) fn finish(self) -> Result<(), Error> {
        if self.is_empty() { Ok(()) } else { Err(Error::Checkpoint(self)) }
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.lines.join("\n"))?;
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more problems"),
        }
    }
}

/// Why `format` cannot be written.
pub(super) fn not_encodable(format: Format) -> String {
    format!("{format} cannot be written yet; choose F32, F16, BF16 or Q8_0")
}
