//! Why the engine refuses.

/// What can go wrong between a file and an answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not a model that we run.
    #[error(transparent)]
    Model(#[from] ds4_model::Error),
    /// The container is damaged.
    #[error(transparent)]
    File(#[from] ds4_gguf::Error),
    /// The file's tokenizer is missing or broken.
    #[error("{file}: {problem}")]
    Tokenizer {
        /// The file's name.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The wish for certain kernels cannot be met.
    #[error(transparent)]
    Cpu(#[from] ds4_cpu::FamilyError),
    /// The machine has too little memory.
    #[error("{0}")]
    Memory(String),
    /// Directions that cannot be used.
    #[error("{0}")]
    Steering(String),
    /// A prompt that does not fit.
    #[error("the prompt has {prompt} tokens, the context holds {context}; shorten it or raise --ctx")]
    ContextExceeded {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens that the context holds.
        context: usize,
    },
    /// A prompt without tokens.
    #[error("the prompt is empty: there is nothing to continue")]
    EmptyPrompt,
    /// A token that the model does not have.
    #[error("token {id} is not in the vocabulary (0 to {last})")]
    UnknownToken {
        /// The number given.
        id: u32,
        /// The last one there is.
        last: u32,
    },
    /// The engine's thread is gone.
    #[error("the engine has stopped: {0}")]
    Stopped(String),
}
