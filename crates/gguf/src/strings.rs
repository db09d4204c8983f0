//! A list of strings in two allocations: a vocabulary has a quarter of a million.

use std::fmt;

/// Strings, one behind the other.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    /// Where each one ends in `text`.
    ends: Vec<usize>,
}

impl Strings {
    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// In order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.ends.iter().enumerate().map(|(i, &end)| {
            let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.text[start..end]
        })
    }

    pub(crate) fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut all = Self::default();
        strings.into_iter().for_each(|s| all.push(s.as_ref()));
        all
    }
}

impl fmt::Debug for Strings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_as_they_were() {
        let strings: Strings = ["Ġa", "", "é b", ""].iter().collect();
        assert_eq!(strings.iter().collect::<Vec<_>>(), ["Ġa", "", "é b", ""]);
        assert_eq!((strings.len(), strings.is_empty(), Strings::default().is_empty()), (4, false, true));
        assert_eq!(format!("{strings:?}"), r#"["Ġa", "", "é b", ""]"#);
        assert_ne!(strings, ["Ġ", "a", "é b", ""].iter().collect(), "the same text, cut elsewhere");
    }
}
