//! The built-in model, and answers that are spelled as no tokenizer would.
#![allow(dead_code)] // each test uses a part

use std::sync::{Arc, LazyLock};

use ds4_chat::{Conversation, Effort, Message, Mode, Options, RawValue, Release, Role};
use ds4_dialog::{Answer, Prompt, Turn, Turns};
use ds4_engine::Model;
use ds4_tokenizer::Tokenizer;

pub(crate) const CHAT: Options = Options { mode: Mode::Chat, effort: Effort::Default, release: Release::April };
pub(crate) const THINKING: Options = Options { mode: Mode::Thinking, ..CHAT };

pub(crate) static MODEL: LazyLock<Arc<Model>> =
    LazyLock::new(|| Arc::new(Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap()));

pub(crate) fn tokenizer() -> &'static Tokenizer {
    &MODEL.tokenizer
}

pub(crate) fn user(text: &str) -> Message {
    Message::new(Role::User, text)
}

/// A system's message that offers a tool.
pub(crate) fn tools() -> Message {
    let tool = RawValue::from_string(r#"{"name":"f"}"#.into()).unwrap();
    Message { tools: vec![tool], ..Message::new(Role::System, "") }
}

pub(crate) fn talk(messages: &[Message]) -> Conversation {
    Conversation { messages: messages.to_vec() }
}

pub(crate) fn prompt(messages: &[Message], options: Options, turns: &Turns) -> Prompt {
    Prompt::new(&talk(messages), &options, tokenizer(), Some(turns)).unwrap()
}

/// The id of a token.
pub(crate) fn id(token: &str) -> u32 {
    tokenizer().id(token).unwrap_or_else(|| panic!("no token {token}"))
}

/// A text spelled by one token for each byte; in V4-mini's vocabulary, as in V4's, there is one for each.
pub(crate) fn bytewise(text: &str) -> Vec<u32> {
    static BYTES: LazyLock<Vec<u32>> = LazyLock::new(|| {
        let of = |byte: u8| (0..tokenizer().len() as u32).find(|&id| tokenizer().token_bytes(id) == Some(&[byte]));
        (0..=255).map(|byte| of(byte).unwrap()).collect()
    });
    text.bytes().map(|byte| BYTES[byte as usize]).collect()
}

/// The answer to a prompt when the model samples `ids`, remembered.
pub(crate) fn answer(prompt: &Prompt, ids: &[u32], turns: &Turns) -> Turn {
    let turn = stopped(prompt, ids, &[]);
    turns.remember(prompt.place, &turn);
    turn
}

/// The answer to a prompt when the model samples `ids` until a stop string comes.
pub(crate) fn stopped(prompt: &Prompt, ids: &[u32], stop: &[&str]) -> Turn {
    let mut answer =
        Answer::new(tokenizer(), prompt.thinking, prompt.tools.clone(), stop.iter().map(|s| s.to_string()).collect());
    for id in ids {
        answer.push(*id);
        if answer.stopped().is_some() {
            break;
        }
    }
    answer.finish().1
}
