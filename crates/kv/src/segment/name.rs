//! The names of segments in a store.

use std::fmt;
use std::str::FromStr;

use crate::Key;

/// `<root>/<parent>/<end, 10 digits>-<key>.seg`: everything that continues a boundary lies under one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentName {
    /// The key of no tokens: model, arithmetic and what else shapes the values.
    pub root: Key,
    /// The key where it starts.
    pub parent: Key,
    /// Tokens up to its end.
    pub end: usize,
    /// The key at its end.
    pub key: Key,
}

impl SegmentName {
    /// What the names of all segments that start at `parent` begin with.
    pub fn prefix(root: Key, parent: Key) -> String {
        format!("{root}/{parent}/")
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:010}-{}.seg", Self::prefix(self.root, self.parent), self.end, self.key)
    }
}

impl FromStr for SegmentName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let mut parts = text.split('/');
        let mut part = || parts.next().ok_or(NotAName);
        let (root, parent, file) = (part()?, part()?, part()?);
        let (end, key) = file.strip_suffix(".seg").and_then(|f| f.split_once('-')).ok_or(NotAName)?;
        let digits = end.len() == 10 && end.bytes().all(|d| d.is_ascii_digit());
        let end = end.parse().ok().filter(|_| digits && parts.next().is_none()).ok_or(NotAName)?;
        let read = |key: &str| key.parse::<Key>().map_err(|_| NotAName);
        Ok(Self { root: read(root)?, parent: read(parent)?, end, key: read(key)? })
    }
}

/// A text is no [`SegmentName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a segment: ROOT/PARENT/END-KEY.seg")]
pub struct NotAName;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_segments_are_read() {
        let key = Key::root(&[]);
        let name = SegmentName { root: key, parent: key, end: 2048, key };
        let text = name.to_string();
        assert_eq!(text.parse(), Ok(name));
        for wrong in [
            text.replace("0000002048", "2048"),
            text.replace("0000002048", "+000002048"),
            text.replace(".seg", ".kv"),
            format!("{text}/"),
            format!("/{text}"),
            text.to_uppercase(),
            text.replace('/', ""),
            "äää/ä/0000002048-ä.seg".into(),
        ] {
            assert_eq!(wrong.parse::<SegmentName>(), Err(NotAName), "{wrong}");
        }
    }
}
