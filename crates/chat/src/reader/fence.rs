//! Whether a place in a text is code, which shows calls instead of making them.

/// Follows a text in Markdown.
#[derive(Debug, Default)]
pub(super) struct Fence {
    /// Inside a fenced block.
    open: bool,
    /// The beginning of the line, as far as it may be a fence.
    line: String,
    /// Ticks in the line.
    ticks: usize,
    /// Whether the line is empty but for spaces.
    blank: bool,
}

impl Fence {
    /// At the beginning of a text.
    pub(super) fn new() -> Self {
        Self { blank: true, ..Self::default() }
    }

    /// More of the text.
    pub(super) fn push(&mut self, text: &str) {
        for c in text.chars() {
            if c == '\n' {
                *self = Self { open: self.open, ..Self::new() };
                continue;
            }
            self.ticks += usize::from(c == '`');
            if self.blank && matches!(c, ' ' | '\t') {
                continue;
            }
            self.blank = false;
            if self.line.len() < 3 {
                self.line.push(c);
                if self.line == "```" || self.line == "~~~" {
                    self.open = !self.open;
                }
            }
        }
    }

    /// Whether what comes after `space` is code.
    pub(super) fn code_after(&self, space: &str) -> bool {
        self.open || (self.ticks % 2 == 1 && !space.contains('\n'))
    }

    /// Whether what comes after `space` is at the beginning of a line.
    pub(super) fn line_begins_after(&self, space: &str) -> bool {
        self.blank || space.contains('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> bool {
        let mut fence = Fence::new();
        fence.push(text);
        fence.code_after("")
    }

    #[test]
    fn code_is_between_fences_or_ticks() {
        for inside in ["```\n", "text\n```rust\nlet a = 1;\n", "  ~~~\n", "so `", "```\na\n```\n``` \n"] {
            assert!(code(inside), "{inside:?}");
        }
        for outside in ["", "```\na\n```\n", "a ``` b ``` c", "`a` ", "so `\n"] {
            assert!(!code(outside), "{outside:?}");
        }
        let mut fence = Fence::new();
        fence.push("so `a");
        assert!(!fence.code_after("\n\n") && fence.line_begins_after(" \n") && !fence.line_begins_after(" "));
    }
}
