//! Cuts text into the pieces within which BPE merges.

use regex::Regex;

/// V4's three splits as `tokenizer.json` writes them. Each isolates its matches inside the pieces of the one before.
///
/// Because the first two cut first, the third one's look-ahead sees its piece end before a digit or a CJK character: the
/// spaces before `你` or `1` stay together instead of giving the last one to what follows.
pub(crate) const PATTERNS: [&str; 3] = [
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    concat!(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
        r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
        r"| ?[\p{P}\p{S}]+[\r\n]*",
        r"|\s*[\r\n]+",
        r"|\s+(?!\S)",
        r"|\s+"
    ),
];

/// The look-ahead alternative, done by hand in [`Splitter::words`].
///
/// It is the only part that needs a backtracking engine, and those give up on long text: the `tokenizers` crate's own
/// splitter returns the rest of the text as one piece after a million spaces. An automaton is linear and never does.
const LOOK_AHEAD: &str = r"|\s+(?!\S)";

pub(crate) struct Splitter {
    numbers: Regex,
    cjk: Regex,
    words: Regex,
}

impl Splitter {
    pub(crate) fn new() -> Self {
        let [numbers, cjk, words] =
            PATTERNS.map(|p| Regex::new(&p.replace(LOOK_AHEAD, "")).expect("the patterns are constants"));
        Self { numbers, cjk, words }
    }

    /// Calls `piece` with every piece of `text`, in order; together they are the text.
    pub(crate) fn split<'t>(&self, text: &'t str, piece: &mut dyn FnMut(&'t str)) {
        isolate(&self.numbers, text, &mut |part| isolate(&self.cjk, part, &mut |part| self.words(part, piece)));
    }

    /// The third split. White space before a word gives its last character to the word.
    fn words<'t>(&self, text: &'t str, piece: &mut dyn FnMut(&'t str)) {
        let mut at = 0;
        while let Some(found) = self.words.find_at(text, at) {
            if at < found.start() {
                piece(&text[at..found.start()]);
            }
            at = found.end();
            // Runs that end in a line break were matched by the alternative before and keep all of it.
            let last = found.as_str().chars().next_back().filter(|c| c.is_whitespace() && !matches!(c, '\r' | '\n'));
            if let Some(last) = last.filter(|_| at < text.len())
                && last.len_utf8() < found.len()
            {
                at -= last.len_utf8();
            }
            piece(&text[found.start()..at]);
        }
        if at < text.len() {
            piece(&text[at..]);
        }
    }
}

/// Calls `piece` with every match of `pattern` and every stretch between matches.
fn isolate<'t>(pattern: &Regex, text: &'t str, piece: &mut dyn FnMut(&'t str)) {
    let mut at = 0;
    for found in pattern.find_iter(text) {
        if at < found.start() {
            piece(&text[at..found.start()]);
        }
        piece(found.as_str());
        at = found.end();
    }
    if at < text.len() {
        piece(&text[at..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<&str> {
        let mut pieces = Vec::new();
        Splitter::new().split(text, &mut |piece| pieces.push(piece));
        pieces
    }

    #[test]
    fn a_word_takes_one_space_before_it() {
        assert_eq!(pieces("if x  ==   yes"), ["if", " x", " ", " ==", "  ", " yes"]);
        assert_eq!(pieces("\tx \u{3000}y"), ["\tx", " ", "\u{3000}y"]);
    }

    #[test]
    fn numbers_and_cjk_take_none() {
        assert_eq!(pieces("a  12345"), ["a", "  ", "123", "45"]);
        assert_eq!(pieces("a  你好def"), ["a", "  ", "你好", "def"]);
    }

    #[test]
    fn line_breaks_end_a_piece() {
        assert_eq!(pieces("x;\n\n  y \n z\n"), ["x", ";\n\n", " ", " y", " \n", " z", "\n"]);
    }

    #[test]
    fn trailing_space_stays_whole() {
        assert_eq!(pieces("end   "), ["end", "   "]);
        assert_eq!(pieces(" "), [" "]);
    }

    #[test]
    fn what_no_pattern_matches_is_a_piece_of_its_own() {
        assert_eq!(pieces("a\0\0b!\u{7f}"), ["a", "\0", "\0b", "!", "\u{7f}"]);
    }

    #[test]
    fn oracle_tok_pieces() {
        let Some(dir) = ds4_testkit::oracle("tok") else { return };
        let splitter = Splitter::new();
        for line in std::fs::read_to_string(dir.join("vectors.jsonl")).unwrap().lines() {
            let vector: serde_json::Value = serde_json::from_str(line).unwrap();
            let mut pieces = Vec::new();
            splitter.split(vector["text"].as_str().unwrap(), &mut |piece| {
                pieces.push(piece.bytes().map(crate::alphabet::char_of).collect::<String>());
            });
            assert_eq!(serde_json::json!(pieces), vector["pieces_bytelevel"], "{}", vector["text"]);
        }
    }
}
