//! `FILE.origin`: what `FILE.part`, and later `FILE`, is (a part of).

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::verify::is_sha256;

/// Longer files were not written here.
const LONGEST: u64 = 64 << 10;

/// Where a file comes from and how it is told from others of its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// [`crate::Remote::label`].
    pub(crate) source: String,
    /// Bytes of the whole.
    pub(crate) size: Option<u64>,
    /// SHA-256 of the whole.
    pub(crate) sha256: Option<String>,
    /// The server's word for exactly these bytes.
    pub(crate) etag: Option<String>,
}

impl Origin {
    /// Where it is kept for a file.
    pub(crate) fn path(file: &Path) -> PathBuf {
        with_suffix(file, ".origin")
    }

    /// What was written; none if nothing was, or not by this program.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let mut text = String::new();
        File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
        let origin: Self = serde_json::from_str(&text).ok()?;
        origin.sha256.as_deref().is_none_or(is_sha256).then_some(origin)
    }

    /// Writes it aside, then renames it.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let aside = with_suffix(path, ".tmp");
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::io(path, "write")(e.into()))?;
        let written = File::create(&aside).and_then(|mut file| {
            writeln!(file, "{text}")?;
            file.sync_all()
        });
        written.and_then(|()| std::fs::rename(&aside, path)).map_err(Error::io(path, "write"))
    }

    /// Whether bytes of this version may be followed by bytes of the other: they are one version, or a SHA-256 will judge.
    pub(crate) fn goes_on_as(&self, other: &Self) -> bool {
        let agree = |a: Option<u64>, b: Option<u64>| a.is_none() || b.is_none() || a == b;
        if self.source != other.source || !agree(self.size, other.size) {
            return false;
        }
        match (&self.sha256, &other.sha256) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.etag.is_some() && self.etag == other.etag,
            _ => true,
        }
    }
}

/// A path with more at its end.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(path, "remove")(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(size: Option<u64>, sha256: Option<&str>, etag: Option<&str>) -> Origin {
        Origin {
            source: "hf://me/mine/a.gguf".into(),
            size,
            sha256: sha256.map(Into::into),
            etag: etag.map(Into::into),
        }
    }

    #[test]
    fn versions_are_told_apart_by_a_sum_or_else_by_the_etag() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        // Another server's etag of the same bytes, or a server that knows no sum.
        assert!(origin(Some(5), Some(&a), Some("x")).goes_on_as(&origin(Some(5), Some(&a), Some("y"))));
        assert!(origin(Some(5), Some(&a), Some("x")).goes_on_as(&origin(Some(5), None, Some("y"))));
        assert!(!origin(Some(5), Some(&a), Some("x")).goes_on_as(&origin(Some(5), Some(&b), Some("x"))));
        assert!(origin(Some(5), None, Some("x")).goes_on_as(&origin(Some(5), None, Some("x"))));
        assert!(!origin(Some(5), None, Some("x")).goes_on_as(&origin(Some(5), None, Some("y"))));
        assert!(!origin(Some(5), None, Some("x")).goes_on_as(&origin(Some(6), None, Some("x"))));
        assert!(!origin(Some(5), None, None).goes_on_as(&origin(Some(5), None, None)), "a size is no version");
        let other = Origin { source: "hf://you/yours/a.gguf".into(), ..origin(Some(5), Some(&a), None) };
        assert!(!other.goes_on_as(&origin(Some(5), Some(&a), None)));
    }

    #[test]
    fn what_was_not_written_here_is_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = Origin::path(&folder.path().join("a.gguf"));
        assert_eq!(Origin::read(&path), None);
        let whole = origin(Some(5), Some(&"a".repeat(64)), Some("\"x\""));
        whole.write(&path).expect("written");
        assert_eq!(Origin::read(&path), Some(whole));
        for text in
            ["", "{", "[]", r#"{"source": 5}"#, r#"{"source": "x", "size": -1}"#, r#"{"source": "x", "sha256": "ff"}"#]
        {
            std::fs::write(&path, text).expect("written");
            assert_eq!(Origin::read(&path), None, "{text}");
        }
    }
}
