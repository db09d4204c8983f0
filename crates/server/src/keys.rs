//! Who may use the server: anybody, or whoever shows one of its keys.

use std::fmt;

use axum::http::{HeaderMap, header};

use crate::Error;

/// Most bytes of a key.
const MAX_KEY: usize = 1024;

/// Keys, of which only hashes are kept. Without any, everybody may use the server.
#[derive(Clone, Default)]
pub struct Keys {
    hashes: Vec<blake3::Hash>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} keys", self.hashes.len())
    }
}

impl Keys {
    /// Whether everybody may use the server.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Adds a key; what is wrong with it is said without the key.
    pub fn add(&mut self, key: &str) -> Result<(), String> {
        if key.is_empty() || key.len() > MAX_KEY || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!("a key is 1 to {MAX_KEY} visible ASCII characters without spaces"));
        }
        self.hashes.push(blake3::hash(key.as_bytes()));
        Ok(())
    }

    /// Adds the keys of a file's text, one on each line; empty lines and those that begin with `#` say nothing.
    pub fn add_lines(&mut self, text: &str) -> Result<(), String> {
        let before = self.hashes.len();
        for (i, line) in text.lines().map(str::trim).enumerate() {
            if !line.is_empty() && !line.starts_with('#') {
                self.add(line).map_err(|why| format!("line {}: {why}", i + 1))?;
            }
        }
        match self.hashes.len() > before {
            true => Ok(()),
            false => Err("there is no key in it; write one on each line".into()),
        }
    }

    /// Checks what a request shows as `Authorization: Bearer` or `x-api-key`.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION.as_str()).and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
        });
        let mut shown = [bearer, text("x-api-key").map(str::trim)].into_iter().flatten().peekable();
        let any = shown.peek().is_some();
        match shown.any(|key| self.holds(key)) {
            true => Ok(()),
            false => Err(Error::Unauthorized { wrong: any }),
        }
    }

    /// Whether this is one of the keys. Hashes are compared in constant time, and all of them, so that the time says
    /// nothing about any key.
    fn holds(&self, key: &str) -> bool {
        let hash = blake3::hash(key.as_bytes());
        self.hashes.iter().fold(false, |found, known| found | (*known == hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn keys() -> Keys {
        let mut keys = Keys::default();
        keys.add_lines("# ours\nfirst\n\n  second \r\n").unwrap();
        keys
    }

    fn check(keys: &Keys, fields: &[(&'static str, &'static str)]) -> Result<(), Error> {
        let fields = fields.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        keys.check(&fields.collect())
    }

    #[test]
    fn a_key_counts_in_either_header() {
        let keys = keys();
        assert_eq!(check(&keys, &[("authorization", "Bearer first")]), Ok(()));
        assert_eq!(check(&keys, &[("authorization", "bearer  second")]), Ok(()));
        assert_eq!(check(&keys, &[("x-api-key", "second")]), Ok(()));
        assert_eq!(check(&keys, &[("authorization", "Bearer wrong"), ("x-api-key", "first")]), Ok(()));
        assert_eq!(check(&keys, &[]), Err(Error::Unauthorized { wrong: false }));
        assert_eq!(check(&keys, &[("authorization", "Basic first")]), Err(Error::Unauthorized { wrong: false }));
        for wrong in ["firs", "first1", "# ours", ""] {
            let shown = [("x-api-key", wrong)];
            assert_eq!(check(&keys, &shown), Err(Error::Unauthorized { wrong: true }), "{wrong}");
        }
        assert_eq!(check(&Keys::default(), &[]), Ok(()));
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_shown() {
        let mut keys = keys();
        for wrong in ["", "with space", "schlüssel", &"x".repeat(1025)] {
            assert!(keys.add(wrong).is_err(), "{wrong}");
        }
        assert_eq!(keys.add_lines("a\nb c\n").unwrap_err().split(':').next(), Some("line 2"));
        assert!(keys.add_lines("# none\n").unwrap_err().contains("no key"));
        assert_eq!(format!("{:?}", self::keys()), "2 keys");
    }
}
