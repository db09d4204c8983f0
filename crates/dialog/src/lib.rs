//! Where text and tokens meet: a conversation to the tokens that the engine continues, and its tokens back to reasoning,
//! answer and calls. Everything that talks to the model (command line, server) goes through here, so that all of them ask and
//! hear the same.

mod answer;
mod prompt;
mod stop;
mod texts;
mod think;
mod turns;

pub use answer::Answer;
pub use prompt::Prompt;
pub use think::{THINK_MAX_CONTEXT, Think, options};
pub use turns::{Exact, Place, Saved, Turn, TurnTokens, Turns};
