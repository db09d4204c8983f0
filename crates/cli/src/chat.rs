//! Conversations as token lists.

use ds4_chat::{Conversation, Message, Mode, Options, Release, Role};
use ds4_dialog::{Prompt, THINK_MAX_CONTEXT, Think};
use ds4_engine::Model;

use crate::args::Args;
use crate::failure::Failure;

/// System text when none is given.
const SYSTEM: &str = "You are a helpful assistant";
/// How rendered text begins.
pub(crate) const BOS: &str = "<｜begin▁of▁sentence｜>";

/// The rendering options for a way to think. Says so when the context is too small for Think Max.
pub(crate) fn options(args: &Args, model: &Model, think: Think, context: usize) -> Options {
    let release = match args.release.as_deref() {
        Some("0731") => Some(Release::July0731),
        Some(_) => Some(Release::April),
        None => None,
    };
    if think == Think::Max && context < THINK_MAX_CONTEXT {
        eprintln!("ds4: Think Max needs --ctx >= {THINK_MAX_CONTEXT}, the context is {context}; thinking normally");
    }
    ds4_dialog::options(model, think, context, release)
}

/// The start of a conversation: the system text, if there is one.
pub(crate) fn begin(args: &Args, builtin: bool) -> Conversation {
    // The built-in model is too small to be told who it is.
    let system = args.system.as_deref().unwrap_or(if builtin { "" } else { SYSTEM });
    let mut conversation = Conversation::default();
    if !system.is_empty() {
        conversation.messages.push(Message::new(Role::System, system));
    }
    conversation
}

/// The tokens of one prompt: already rendered text as it is, anything else as the user's turn.
pub(crate) fn prompt_tokens(
    args: &Args,
    model: &Model,
    builtin: bool,
    prompt: &str,
) -> Result<(Vec<u32>, Options), Failure> {
    let options = options(args, model, args.thinking(), args.runtime.ctx);
    if prompt.starts_with(BOS) {
        let mode = if prompt.ends_with("<think>") { Mode::Thinking } else { Mode::Chat };
        return Ok((model.tokenizer.encode(prompt), Options { mode, ..options }));
    }
    let mut conversation = begin(args, builtin);
    conversation.messages.push(Message::new(Role::User, prompt));
    Ok((Prompt::new(&conversation, &options, &model.tokenizer, None)?.tokens, options))
}
