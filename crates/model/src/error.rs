//! Why a file is not a model we can run.

/// A file that does not hold a usable `deepseek4` model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The container itself is damaged or unreadable.
    #[error(transparent)]
    File(#[from] ds4_gguf::Error),
    /// Another architecture.
    #[error("{file}: architecture is {found:?}, expected \"deepseek4\" (DeepSeek V4); ds4 runs no other model family")]
    Architecture {
        /// The file's name.
        file: String,
        /// Its `general.architecture`.
        found: String,
    },
    /// Keys or tensors that do not fit, one line each.
    #[error("{}", lines(.file, .problems))]
    Mismatch {
        /// The file's name.
        file: String,
        /// "key or tensor: expected …, found …", at least one.
        problems: Vec<String>,
    },
}

/// How many problems of one file are printed.
const SHOWN: usize = 12;

fn lines(file: &str, problems: &[String]) -> String {
    let mut lines: Vec<String> = problems.iter().take(SHOWN).map(|p| format!("{file}: {p}")).collect();
    if problems.len() > SHOWN {
        lines.push(format!("{file}: … and {} more", problems.len() - SHOWN));
    }
    lines.join("\n")
}
