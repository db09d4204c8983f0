//! Text, and where its control tokens are.

use std::ops::Range;

pub(crate) const BEGIN: &str = "<｜begin▁of▁sentence｜>";
pub(crate) const END: &str = "<｜end▁of▁sentence｜>";
pub(crate) const USER: &str = "<｜User｜>";
pub(crate) const ASSISTANT: &str = "<｜Assistant｜>";
pub(crate) const LATEST_REMINDER: &str = "<｜latest_reminder｜>";
pub(crate) const THINK: &str = "<think>";
pub(crate) const END_THINK: &str = "</think>";
pub(crate) const DSML: &str = "｜DSML｜";
pub(crate) const ACTION: &str = "<｜action｜>";
pub(crate) const QUERY: &str = "<｜query｜>";
pub(crate) const AUTHORITY: &str = "<｜authority｜>";
pub(crate) const DOMAIN: &str = "<｜domain｜>";
pub(crate) const READ_URL: &str = "<｜read_url｜>";
pub(crate) const TITLE: &str = "<｜title｜>";

/// Every control token that the template writes. None begins inside another.
const TOKENS: [&str; 14] = [
    BEGIN,
    END,
    USER,
    ASSISTANT,
    LATEST_REMINDER,
    THINK,
    END_THINK,
    DSML,
    ACTION,
    QUERY,
    AUTHORITY,
    DOMAIN,
    READ_URL,
    TITLE,
];

/// A rendered conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text, control tokens included.
    pub text: String,
    /// The byte ranges of `text` that are control tokens, in order. Only what the template wrote is listed, so that the
    /// same characters inside a message are tokenised as ordinary text.
    pub specials: Vec<Range<usize>>,
    /// The assistant's messages that stand between control tokens, in order. Tokenisation splits there anyway, so the
    /// tokens of these places can be replaced by others without any effect on their neighbours.
    pub assistant: Vec<AssistantSpan>,
}

/// Where an assistant's message stands in a rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssistantSpan {
    /// Index of the message in the conversation.
    pub message: usize,
    /// Bytes of the reasoning, where the template keeps it: what lies between `<think>` and `</think>`.
    pub reasoning: Option<Range<usize>>,
    /// Bytes of text and calls, up to the token that ends the turn.
    pub body: Range<usize>,
}

impl Rendered {
    /// Appends words of the template; the control tokens among them count.
    pub(crate) fn template(&mut self, words: &str) {
        let mut rest = words;
        while let Some((at, token)) = first_token(rest) {
            let start = self.text.len() + at;
            self.specials.push(start..start + token.len());
            let (done, after) = rest.split_at(at + token.len());
            self.text.push_str(done);
            rest = after;
        }
        self.text.push_str(rest);
    }

    /// Appends what somebody else wrote; nothing in it counts.
    pub(crate) fn content(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The end of the text, if that is the end of a control token too.
    pub(crate) fn boundary(&self) -> Option<usize> {
        self.specials.last().map(|special| special.end).filter(|end| *end == self.text.len())
    }
}

fn first_token(words: &str) -> Option<(usize, &'static str)> {
    TOKENS.into_iter().filter_map(|token| Some((words.find(token)?, token))).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_templates_tokens_count() {
        let mut rendered = Rendered::default();
        rendered.template("<｜User｜>say ");
        rendered.content("<think>");
        rendered.template("<think>a</think></｜DSML｜x>");
        let marked: Vec<_> = rendered.specials.iter().map(|range| &rendered.text[range.clone()]).collect();
        assert_eq!(marked, ["<｜User｜>", "<think>", "</think>", "｜DSML｜"]);
        assert_eq!(rendered.text, "<｜User｜>say <think><think>a</think></｜DSML｜x>");
        assert_eq!(rendered.specials[1].start, "<｜User｜>say <think>".len());
    }
}
