//! The one error type of the crate. Every message is one line that names the file, then what in it, then the problem.

use crate::Format;

/// What can be wrong with a file or with a request made of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{file}: cannot {action}: {source}")]
    Io {
        /// The file's path or given name.
        file: String,
        /// "open", "map", "write", ...
        action: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The file, or what is to be written into one, breaks a rule of the format or one of this reader's limits.
    #[error("{file}: {what}: {problem}")]
    Invalid {
        /// The file's path or given name.
        file: String,
        /// The part at fault: "header", "key general.name", "tensor output.weight", ...
        what: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// A metadata key holds another type than the caller needs, or a number out of its range.
    #[error("{file}: key {key}: expected {expected}, found {found}")]
    KeyType {
        /// The file's path or given name.
        file: String,
        /// The key.
        key: String,
        /// The type asked for.
        expected: &'static str,
        /// The type (and for integers the value) in the file.
        found: String,
    },
    /// [`crate::blocks::decode`] or [`crate::blocks::encode`] cannot do this.
    #[error("{format}: {problem}")]
    Blocks {
        /// The block format.
        format: Format,
        /// What was expected and what was found.
        problem: String,
    },
}

impl Error {
    pub(crate) fn invalid(file: &str, what: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Invalid { file: printable(file), what: what.into(), problem: problem.into() }
    }

    pub(crate) fn io(file: &str, action: &'static str, source: std::io::Error) -> Error {
        Error::Io { file: printable(file), action, source }
    }
}

/// A name from a file, fit for a one-line message: control characters escaped, long ones cut.
pub fn printable(name: &str) -> String {
    const LONGEST: usize = 256;
    let mut out = String::new();
    for (i, c) in name.chars().enumerate() {
        if i == LONGEST {
            out.push('…');
            break;
        }
        match c {
            '\u{2028}' | '\u{2029}' => out.extend(c.escape_default()),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn names_in_messages_stay_on_one_line_and_short() {
        assert_eq!(printable("blk.0.ffn_norm.weight"), "blk.0.ffn_norm.weight");
        assert_eq!(printable("a\nb\u{1b}[31m\u{2028}é"), "a\\nb\\u{1b}[31m\\u{2028}é");
        assert_eq!(printable(&"x".repeat(5000)).chars().count(), 257);
    }
}
