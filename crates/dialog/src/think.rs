//! How the model is asked to think, and what that means for the prompt.

use ds4_chat::{Effort, Mode, Options, Release};
use ds4_engine::Model;

/// Context that [`Think::Max`] wants.
pub const THINK_MAX_CONTEXT: usize = 393_216;

/// How the model is asked to think.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Think {
    /// Not at all.
    Off,
    /// As it likes.
    #[default]
    On,
    /// As hard as it can; like [`Think::On`] where the context is smaller than [`THINK_MAX_CONTEXT`].
    Max,
}

/// How to render a conversation for `model`, whose context holds `context` tokens. Without a `release` the model's name
/// decides which words about effort it knows.
pub fn options(model: &Model, think: Think, context: usize, release: Option<Release>) -> Options {
    let by_name = if model.is_july_release() { Release::July0731 } else { Release::April };
    let max = think == Think::Max && context >= THINK_MAX_CONTEXT;
    Options {
        mode: if think == Think::Off { Mode::Chat } else { Mode::Thinking },
        effort: if max { Effort::Max } else { Effort::Default },
        release: release.unwrap_or(by_name),
    }
}
