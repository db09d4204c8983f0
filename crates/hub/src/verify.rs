//! Whether a file is what it should be.

use std::path::Path;

use ds4_gguf::File;

/// What every GGUF begins with.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";

/// What a file can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It answers by itself.
    Main,
    /// It is a GGUF of another kind: drafting weights, or another architecture.
    Other,
}

/// Reads a file's header, by which its size is checked too: every tensor lies inside.
///
/// # Errors
/// Why it is no GGUF.
pub(crate) fn check_gguf(path: &Path) -> Result<Kind, ds4_gguf::Error> {
    let file = File::open(path)?;
    let architecture = file.metadata().str("general.architecture").ok().flatten();
    let main = architecture == Some("deepseek4") && file.tensor("token_embd.weight").is_some();
    Ok(if main { Kind::Main } else { Kind::Other })
}

/// Whether a text is a SHA-256 in lower-case hexadecimal digits.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
