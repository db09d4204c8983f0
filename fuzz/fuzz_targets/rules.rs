//! Any JSON as the schema of an answer or of a tool is refused, restricts nothing, or becomes rules that can be followed.

#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use ds4_chat::{Conversation, Message, RawValue, Role};
use ds4_engine::Model;
use ds4_guide::{Choice, Demands, Format, Rules, Vocabulary};
use libfuzzer_sys::fuzz_target;

static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mini/v4-mini.gguf");
    Vocabulary::new(&Model::open(&model).expect("the built-in model is there").tokenizer)
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(schema) = RawValue::from_string(text.to_owned()) else { return };
    let demands = Demands { format: Format::JsonSchema(schema), ..Demands::default() };
    if let Err(error) = Rules::new(&Conversation { messages: Vec::new() }, demands, &VOCABULARY) {
        assert!(!error.to_string().is_empty());
    }
    let tool = RawValue::from_string(format!(r#"{{"name": "f", "parameters": {text}}}"#)).expect("it is JSON");
    let messages = vec![Message { tools: vec![tool], ..Message::new(Role::System, "") }];
    let demands = Demands { choice: Choice::Required, ..Demands::default() };
    let rules = Rules::new(&Conversation { messages }, demands, &VOCABULARY);
    assert!(rules.is_ok_and(|rules| rules.is_some()), "a tool can be called whatever its schema is");
});
