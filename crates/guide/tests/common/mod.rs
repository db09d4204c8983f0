//! The built-in model's vocabulary, tools, and what comes of an answer.
#![allow(dead_code)] // every test binary uses a part

use std::sync::{Arc, LazyLock};

use ds4_chat::{Conversation, Event, Message, RawValue, Reader, Role, ToolCall, Tools};
use ds4_engine::{Guide, Model};
use ds4_guide::{AnswerGuide, Demands, Rules, Vocabulary};
use serde_json::{Value, json};

pub(crate) static MODEL: LazyLock<Arc<Model>> =
    LazyLock::new(|| Arc::new(Model::open(&ds4_testkit::root().join("mini/v4-mini.gguf")).unwrap()));
pub(crate) static VOCABULARY: LazyLock<Arc<Vocabulary>> = LazyLock::new(|| Arc::new(Vocabulary::new(&MODEL.tokenizer)));

/// A conversation that offers tools: names and parameters.
pub(crate) fn offering(tools: &[(&str, Value)]) -> Conversation {
    let tool = |(name, parameters): &(&str, Value)| {
        RawValue::from_string(json!({"name": name, "parameters": parameters}).to_string()).unwrap()
    };
    let system = Message { tools: tools.iter().map(tool).collect(), ..Message::new(Role::System, "") };
    Conversation { messages: vec![system, Message::new(Role::User, "Go on.")] }
}

/// The guide of an answer that does not think.
pub(crate) fn guide(conversation: &Conversation, demands: Demands) -> AnswerGuide {
    thinking_guide(conversation, demands, false)
}

/// The guide of an answer.
pub(crate) fn thinking_guide(conversation: &Conversation, demands: Demands, thinking: bool) -> AnswerGuide {
    let rules = Rules::new(conversation, demands, &VOCABULARY).unwrap().expect("something is demanded");
    AnswerGuide::new(Arc::clone(&VOCABULARY), Arc::new(rules), Tools::of(conversation), thinking)
}

/// How much of a text can be written; all of it if `None`. Tokens are those that the tokenizer makes of it.
pub(crate) fn refused(guide: &mut AnswerGuide, text: &str) -> Option<String> {
    let mut written = String::new();
    for token in MODEL.tokenizer.encode(text) {
        if !guide.rule().allows(token) {
            return Some(written);
        }
        guide.drawn(token);
        written += &MODEL.tokenizer.decode(&[token]);
    }
    None
}

/// The calls of an answer.
pub(crate) fn calls(conversation: &Conversation, text: &str) -> Vec<ToolCall> {
    let mut reader = Reader::new(false, Tools::of(conversation));
    let mut events = reader.push(text);
    events.extend(reader.finish().events);
    events.into_iter().filter_map(|e| if let Event::Called(call) = e { Some(call) } else { None }).collect()
}
