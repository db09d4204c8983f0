//! What a conversation is made of.

use serde_json::value::RawValue;

/// Messages, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// The messages.
    pub messages: Vec<Message>,
}

/// Who wrote a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions that hold for the whole conversation. Has no marker, so it belongs at the beginning.
    System,
    /// Instructions in the place of a user's turn; forgotten once another turn follows, unless there are tools.
    Developer,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
    /// A note for the turn that follows it.
    LatestReminder,
}

/// One message. Fields that its role does not use stay empty.
#[derive(Debug, Clone)]
pub struct Message {
    /// Who wrote it.
    pub role: Role,
    /// The text; never interpreted, special tokens in it are ordinary characters.
    pub content: String,
    /// Assistant: what it thought before the text.
    pub reasoning: String,
    /// Assistant: the calls after the text.
    pub tool_calls: Vec<ToolCall>,
    /// Assistant: the name that an API gave the message, if it did; the model never sees it.
    pub id: String,
    /// Tool: the [`ToolCall::id`] this is the result of.
    pub tool_call_id: String,
    /// System and developer: the tools on offer, each a JSON object `{"name", "description", "parameters"}` (the
    /// `function` member of OpenAI's form). Printed with its keys in the given order. Tool: further ones that the result
    /// brings, printed after its text, so that what was read before stays.
    pub tools: Vec<Box<RawValue>>,
    /// System and developer: a JSON schema for the answer.
    pub response_format: Option<Box<RawValue>>,
    /// What the model is to do instead of answering.
    pub task: Option<Task>,
}

impl Message {
    /// A message with text only.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            id: String::new(),
            tool_call_id: String::new(),
            tools: Vec::new(),
            response_format: None,
            task: None,
        }
    }

    /// What the assistant thought and said.
    pub fn assistant(reasoning: impl Into<String>, content: impl Into<String>) -> Self {
        Self { reasoning: reasoning.into(), ..Self::new(Role::Assistant, content) }
    }

    /// The result of the call `tool_call_id`.
    pub fn tool_result(tool_call_id: impl Into<String>, content: impl Into<String>) -> Self {
        Self { tool_call_id: tool_call_id.into(), ..Self::new(Role::Tool, content) }
    }
}

/// A tool call of the assistant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// Names the call for its result; the model never sees it.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// JSON text, normally an object with one member per parameter. Any other text is passed on as one string
    /// parameter called `arguments`.
    pub arguments: String,
}

/// Short jobs that V4 was trained to do on a conversation, each started by a token of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Decide whether to search (after the assistant's opening).
    Action,
    /// Write search queries (after the user's text).
    Query,
    /// Judge how authoritative sources must be (after the user's text).
    Authority,
    /// Name the subject's domain (after the user's text).
    Domain,
    /// Decide whether to read a page (after the user's text).
    ReadUrl,
    /// Write a title (after the assistant's answer, on the assistant's message).
    Title,
}
