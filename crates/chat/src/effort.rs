//! Thinking modes, and what they say to the model.

/// How a conversation is rendered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether the model thinks before it answers.
    pub mode: Mode,
    /// How hard it thinks; without effect in [`Mode::Chat`].
    pub effort: Effort,
    /// Which checkpoint's words to use.
    pub release: Release,
}

/// Whether the model thinks before it answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Answer at once: the assistant's turn opens with `</think>`.
    Chat,
    /// Think first: the assistant's turn opens with `<think>`.
    #[default]
    Thinking,
}

/// How hard the model thinks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Effort {
    /// Nothing is said about it (`low` of the 0731 release).
    #[default]
    Default,
    /// More; the April release knows no such level and says nothing.
    High,
    /// As much as there is. Answers get very long: hosts want a context of several hundred thousand tokens for it.
    Max,
}

/// The checkpoints differ in what they were told about effort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Release {
    /// V4 as first published.
    #[default]
    April,
    /// V4-Flash-0731.
    July0731,
}

const ABSOLUTE_MAXIMUM: &str = concat!(
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n",
    "You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the root cause, ",
    "rigorously stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.\n",
    "Explicitly write out your entire deliberation process, documenting every intermediate step, considered ",
    "alternative, and rejected hypothesis to ensure absolutely no assumption is left unchecked.\n\n",
);

const BEYOND_MAXIMUM: &str = concat!(
    "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\n",
    "You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: exhaustively decompose ",
    "the problem into its most fundamental components, trace every causal chain to its root, and resolve the ",
    "underlying cause rather than any surface symptom.\n",
    "Do not stop reasoning until you have independently verified the solution from multiple angles and are certain ",
    "that no assumption remains unchecked and no error remains undiscovered.\n\n",
);

impl Options {
    /// What stands before the conversation.
    pub(crate) fn effort_words(&self) -> &'static str {
        match (self.mode, self.release, self.effort) {
            (Mode::Chat, ..) | (_, _, Effort::Default) | (_, Release::April, Effort::High) => "",
            (_, Release::April, Effort::Max) | (_, Release::July0731, Effort::High) => ABSOLUTE_MAXIMUM,
            (_, Release::July0731, Effort::Max) => BEYOND_MAXIMUM,
        }
    }
}
