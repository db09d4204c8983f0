//! Messages to turns: what is merged, put in order, and forgotten before anything is written.

use crate::effort::Mode;
use crate::message::{Conversation, Message, Role, Task};
use serde_json::value::RawValue;
use std::collections::HashMap;

/// One turn of the template: a message, or consecutive user and tool messages.
pub(crate) struct Turn<'c> {
    /// Never [`Role::Tool`].
    pub(crate) role: Role,
    /// Index of the first message of the turn.
    pub(crate) index: usize,
    /// The first message of the turn.
    pub(crate) message: &'c Message,
    /// What a user's turn consists of; empty for other roles.
    pub(crate) parts: Vec<Part<'c>>,
    pub(crate) task: Option<Task>,
}

/// A part of a user's turn.
#[derive(Clone, Copy)]
pub(crate) struct Part<'c> {
    pub(crate) text: &'c str,
    /// The id of the call whose result this is; `None` if the user wrote it.
    pub(crate) result_of: Option<&'c str>,
    /// The tools that the result brings.
    pub(crate) tools: &'c [Box<RawValue>],
}

/// The turns of a conversation, and which reasoning they keep.
pub(crate) struct Turns<'c> {
    pub(crate) turns: Vec<Turn<'c>>,
    /// The turn from which on reasoning is kept.
    pub(crate) kept_from: usize,
}

impl<'c> Turns<'c> {
    /// Merges consecutive user and tool messages, orders results by their calls, and in thinking mode forgets what lies
    /// before the last request: reasoning, and developer turns. With tools nothing is forgotten, because the work in
    /// progress spans many turns.
    pub(crate) fn new(conversation: &'c Conversation, mode: Mode) -> Self {
        let mut turns = merge(&conversation.messages);
        order_results(&mut turns);
        if conversation.messages.iter().any(|message| !message.tools.is_empty()) {
            return Self { turns, kept_from: 0 };
        }
        if mode == Mode::Thinking {
            let last = last_request(&turns);
            let mut index = 0..;
            turns.retain(|turn| index.next() >= Some(last) || turn.role != Role::Developer);
        }
        let kept_from = last_request(&turns);
        Self { turns, kept_from }
    }
}

/// The last user's or developer's turn; the first turn if there is none.
fn last_request(turns: &[Turn<'_>]) -> usize {
    turns.iter().rposition(|turn| matches!(turn.role, Role::User | Role::Developer)).unwrap_or(0)
}

fn merge(messages: &[Message]) -> Vec<Turn<'_>> {
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let last = turns.last_mut().filter(|turn| turn.role == Role::User);
        let (last, result_of, task) = match message.role {
            Role::Tool => (last, Some(message.tool_call_id.as_str()), None),
            // A turn with a task is complete. The task of a message that joins an earlier turn is lost, as in the
            // official encoder.
            Role::User => (last.filter(|turn| turn.task.is_none()), None, message.task),
            role => {
                turns.push(Turn { role, index, message, parts: Vec::new(), task: message.task });
                continue;
            }
        };
        let tools = if result_of.is_some() { &message.tools[..] } else { &[] };
        let part = Part { text: &message.content, result_of, tools };
        match last {
            Some(turn) => turn.parts.push(part),
            None => turns.push(Turn { role: Role::User, index, message, parts: vec![part], task }),
        }
    }
    turns
}

/// Puts the results within each turn into the order of the calls they answer; texts keep their places. A result of an
/// unknown call counts as one of the first.
fn order_results(turns: &mut [Turn<'_>]) {
    let mut order: HashMap<&str, usize> = HashMap::new();
    for turn in turns {
        let calls = &turn.message.tool_calls;
        if turn.role == Role::Assistant && !calls.is_empty() {
            order = calls.iter().zip(0..).map(|(call, i)| (call.id.as_str(), i)).collect();
            order.remove("");
        }
        let places: Vec<_> = (0..turn.parts.len()).filter(|&i| turn.parts[i].result_of.is_some()).collect();
        let mut results: Vec<_> = places.iter().map(|&i| turn.parts[i]).collect();
        results.sort_by_key(|part| part.result_of.and_then(|call| order.get(call)).copied().unwrap_or(0));
        for (place, result) in places.into_iter().zip(results) {
            turn.parts[place] = result;
        }
    }
}
