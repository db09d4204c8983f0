//! Names for what tokens leave behind.

use std::fmt;
use std::str::FromStr;

use ds4_model::PAGE_TOKENS;

/// Names the state after a list of tokens: a hash of the tokens and of everything else that shapes the values (the model,
/// the arithmetic, steering). Hashes are chained by page, so that equal beginnings have equal keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; Key::BYTES]);

impl Key {
    /// Bytes of a key: nobody finds two token lists with the same one by chance, and tokens are compared besides.
    pub const BYTES: usize = 16;

    /// The key of no tokens at all, under everything else that shapes the values; each part counts with its length.
    pub fn root(parts: &[&[u8]]) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("ds4 kv root");
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Self::of(&hash)
    }

    /// The key after a whole page of tokens more, or after fewer, where nothing follows.
    pub fn then(self, tokens: &[u32]) -> Self {
        debug_assert!(tokens.len() <= PAGE_TOKENS, "a page at a time");
        let mut hash = blake3::Hasher::new();
        hash.update(&self.0);
        for token in tokens {
            hash.update(&token.to_le_bytes());
        }
        Self::of(&hash)
    }

    /// The keys after each whole page of `tokens`, beginning with the one after no page.
    pub fn chain(self, tokens: &[u32]) -> Vec<Self> {
        let mut keys = vec![self];
        for page in tokens.chunks_exact(PAGE_TOKENS) {
            keys.push(keys[keys.len() - 1].then(page));
        }
        keys
    }

    /// The key after all of `tokens`, however many.
    pub fn after(self, tokens: &[u32]) -> Self {
        tokens.chunks(PAGE_TOKENS).fold(self, Self::then)
    }

    fn of(hash: &blake3::Hasher) -> Self {
        let mut bytes = [0; Self::BYTES];
        hash.finalize_xof().fill(&mut bytes);
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl From<[u8; Key::BYTES]> for Key {
    fn from(bytes: [u8; Key::BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Key {
    type Err = NotAKey;

    /// 32 lowercase hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let digits = text.as_bytes();
        if digits.len() != 2 * Self::BYTES || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(NotAKey);
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| NotAKey)?;
        }
        Ok(Self(bytes))
    }
}

/// A text is no [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a key: 32 hexadecimal digits, lower case")]
pub struct NotAKey;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_beginnings_have_equal_keys() {
        let root = Key::root(&[b"model"]);
        let tokens: Vec<u32> = (0..300).collect();
        let chain = root.chain(&tokens);
        assert_eq!(chain.len(), 3);
        assert_eq!(chain[..2], root.chain(&tokens[..200]));
        assert_eq!(root.after(&tokens[..256]), chain[2]);
        assert_eq!(root.after(&tokens), chain[2].then(&tokens[256..]));
        assert_ne!(root.after(&tokens[..255]), chain[2]);
        assert_ne!(Key::root(&[b"mod", b"el"]).after(&tokens), root.after(&tokens));
    }

    #[test]
    fn a_key_is_written_and_read() {
        let key = Key::root(&[]).then(&[1, 2]);
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(key.to_string().to_uppercase().parse::<Key>(), Err(NotAKey));
        assert_eq!("äää".parse::<Key>(), Err(NotAKey));
    }
}
