//! Stop strings: the text ends before the first of them.

/// Looks for stop strings in a text that arrives in pieces, and holds back what may become one.
///
/// The match that is complete first counts (of two that end together, the longer), so that it does not matter how the
/// text is cut.
#[derive(Debug)]
pub(crate) struct StopStrings {
    strings: Vec<String>,
    /// The end of the text that may be the beginning of a match.
    held: String,
    found: Option<usize>,
}

impl StopStrings {
    /// A search for `strings`; empty ones are ignored.
    pub(crate) fn new(strings: Vec<String>) -> Self {
        let strings = strings.into_iter().filter(|s| !s.is_empty()).collect();
        Self { strings, held: String::new(), found: None }
    }

    /// The text that certainly stands before a match; nothing after one.
    pub(crate) fn push(&mut self, text: &str) -> String {
        if self.found.is_some() {
            return String::new();
        }
        self.held.push_str(text);
        let places = self.strings.iter().enumerate().filter_map(|(i, stop)| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start, i))
        });
        let end = match places.min() {
            Some((_, start, i)) => {
                self.found = Some(i);
                start
            }
            None => self.held.len() - self.strings.iter().map(|stop| partial(&self.held, stop)).max().unwrap_or(0),
        };
        let text = self.held.drain(..end).collect();
        if self.found.is_some() {
            self.held.clear();
        }
        text
    }

    /// What was held back, when the text has ended without a match.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The stop string that was found.
    pub(crate) fn found(&self) -> Option<&str> {
        self.found.map(|i| self.strings[i].as_str())
    }
}

/// Length of the longest end of `text` with which `stop` begins.
fn partial(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest).rev().find(|&len| stop.is_char_boundary(len) && text.ends_with(&stop[..len])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is left of a text in pieces, and the match.
    fn cut<'a>(stops: &[&str], pieces: impl IntoIterator<Item = &'a str>) -> (String, Option<String>) {
        let mut search = StopStrings::new(stops.iter().map(|s| s.to_string()).collect());
        let mut text: String = pieces.into_iter().map(|piece| search.push(piece)).collect();
        text += &search.finish();
        (text, search.found().map(str::to_owned))
    }

    #[test]
    fn the_text_ends_before_the_match_wherever_it_is_cut() {
        let end = ("one ".to_string(), Some("two".to_string()));
        assert_eq!(cut(&["two"], ["one two three"]), end);
        assert_eq!(cut(&["two"], ["one t", "w", "o three"]), end);
        assert_eq!(cut(&["two"], ["one two", " two"]), end, "nothing follows a match");
    }

    #[test]
    fn what_only_looked_like_a_match_is_not_lost() {
        assert_eq!(cut(&["two"], ["one t", "en t", "w"]), ("one ten tw".into(), None));
        assert_eq!(cut(&["é🙂"], ["aé", "b"]), ("aéb".into(), None));
        assert_eq!(cut(&[""], ["a"]), ("a".into(), None));
    }

    #[test]
    fn only_a_possible_match_is_held_back() {
        let mut search = StopStrings::new(vec!["END".into()]);
        assert_eq!(search.push("text E"), "text ");
        assert_eq!(search.push("N"), "");
        assert_eq!(search.push("E"), "EN");
        assert_eq!(search.finish(), "E");
    }

    #[test]
    fn the_first_complete_match_counts() {
        assert_eq!(cut(&["abcd", "bc"], ["xabcd"]), ("xa".into(), Some("bc".into())));
        assert_eq!(cut(&["abc", "bc"], ["xabc"]), ("x".into(), Some("abc".into())));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            text in "[abé]{0,20}",
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let mut cuts: Vec<_> = cuts.iter().map(|c| text.floor_char_boundary(c.index(text.len() + 1))).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let whole = cut(&stops, [text.as_str()]);
            prop_assert_eq!(&cut(&stops, cuts.windows(2).map(|c| &text[c[0]..c[1]])), &whole);
            match whole.1 {
                Some(stop) => prop_assert!(text.starts_with(&(whole.0.clone() + &stop))),
                None => prop_assert_eq!(whole.0, text),
            }
        }
    }
}
