//! What can go wrong in a conversion.

use std::path::PathBuf;

/// Why a checkpoint was not converted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing failed.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] std::io::Error),
    /// The result is there already.
    #[error("{} exists; remove it or pass --overwrite", .0.display())]
    Exists(PathBuf),
    /// `config.json` does not describe a V4 model.
    #[error("{}: {}", .0.display(), .1)]
    Config(PathBuf, String),
    /// A folder or shard is not what it should be.
    #[error("{}: {}", .0.display(), .1)]
    Source(PathBuf, String),
    /// A tensor is missing or does not fit.
    #[error("tensor {0}: {1}")]
    Tensor(String, String),
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
