//! What can go wrong when a model is made.

use std::path::PathBuf;

use super::Model;

/// Why no file was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number that the model cannot have.
    #[error("--{option} {found}: V4 {model} takes {least} to {most}")]
    Option {
        /// "layers" or "experts".
        option: &'static str,
        /// The number given.
        found: usize,
        /// The smallest allowed.
        least: usize,
        /// The largest allowed.
        most: usize,
        /// Whose limit it is.
        model: Model,
    },
    /// The vocabulary is not this model's.
    #[error("the tokenizer has {tokens} tokens, the model {vocab}; give the tokenizer.json of DeepSeek V4")]
    Vocabulary {
        /// Tokens given.
        tokens: usize,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// The result is there already.
    #[error("{}: exists; give another name, or --overwrite to replace it", .0.display())]
    Exists(PathBuf),
    /// A folder, or a path without a file name.
    #[error("{}: expected the name of a file to write", .0.display())]
    NotAFile(PathBuf),
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// "create", "write", ...
        action: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The container refused, as for a shape whose rows are not whole blocks.
    #[error(transparent)]
    Gguf(#[from] ds4_gguf::Error),
}
