//! Turns to text: the official rendering, the only one there is.
//!
//! Parts follow each other without line breaks unless one is written here. A system message has no marker; a user's turn
//! opens with `<｜User｜>`, and the token that opens the assistant's turn is written by the turn *before* it, together with
//! the decision whether it begins with reasoning (`<think>`) or without (`</think>`).

use crate::effort::{Mode, Options};
use crate::json;
use crate::message::{Conversation, Message, Role, Task};
use crate::rendered::{
    ACTION, ASSISTANT, AUTHORITY, AssistantSpan, BEGIN, DOMAIN, END, END_THINK, LATEST_REMINDER, QUERY, READ_URL,
    Rendered, THINK, TITLE, USER,
};
use crate::tools;
use crate::turns::{Turn, Turns};

const RESPONSE_FORMAT: &str = "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n";

/// The text of a conversation, from the beginning of the sequence to where the model continues.
///
/// It ends with the opening of the assistant's turn if the last turn is a user's or a developer's, else after that turn.
pub fn render(conversation: &Conversation, options: &Options) -> Rendered {
    let mut out = Rendered::default();
    out.template(BEGIN);
    let turns = Turns::new(conversation, options.mode);
    if !turns.turns.is_empty() {
        out.template(options.effort_words());
    }
    for (i, turn) in turns.turns.iter().enumerate() {
        let thinks = options.mode == Mode::Thinking && i >= turns.kept_from;
        let answers_task = i > 0 && turns.turns[i - 1].task.is_some();
        render_turn(turn, thinks && !answers_task, &mut out);
        let next = turns.turns.get(i + 1).map(|turn| turn.role);
        if matches!(next, None | Some(Role::Assistant | Role::LatestReminder)) {
            render_opening(turn, thinks, options.mode, &mut out);
        }
    }
    out
}

/// What a turn says. `thinks` is whether an assistant's turn keeps its reasoning.
fn render_turn(turn: &Turn<'_>, thinks: bool, out: &mut Rendered) {
    let message = turn.message;
    match turn.role {
        Role::System => render_instructions(message, out),
        Role::Developer => {
            out.template(USER);
            render_instructions(message, out);
        }
        Role::LatestReminder => {
            out.template(LATEST_REMINDER);
            out.content(&message.content);
        }
        Role::User | Role::Tool => {
            out.template(USER);
            for (i, part) in turn.parts.iter().enumerate() {
                out.template(if i > 0 { "\n\n" } else { "" });
                match part.result_of {
                    Some(_) => tools::render_result(part.text, part.tools, out),
                    None => out.content(part.text),
                }
            }
        }
        Role::Assistant => render_assistant(turn, thinks, out),
    }
}

/// What the model thought, if that is kept, said and called.
fn render_assistant(turn: &Turn<'_>, thinks: bool, out: &mut Rendered) {
    let message = turn.message;
    let mut reasoning = None;
    if thinks {
        let start = out.boundary();
        out.content(&message.reasoning);
        reasoning = start.map(|start| start..out.text.len());
        out.template(END_THINK);
    }
    let start = out.boundary();
    out.content(&message.content);
    if !message.tool_calls.is_empty() {
        tools::render_calls(&message.tool_calls, out);
    }
    if let Some(start) = start {
        out.assistant.push(AssistantSpan { message: turn.index, reasoning, body: start..out.text.len() });
    }
    out.template(END);
}

/// A system's or developer's text, the tools on offer, and the form of the answer.
fn render_instructions(message: &Message, out: &mut Rendered) {
    out.content(&message.content);
    if !message.tools.is_empty() {
        out.template("\n\n");
        tools::render_schemas(&message.tools, out);
    }
    if let Some(schema) = &message.response_format {
        out.template(RESPONSE_FORMAT);
        let mut printed = String::new();
        json::print(schema, &mut printed);
        out.content(&printed);
    }
}

/// What follows a turn when the model or a reminder is next: the token of its task, or the assistant's opening.
fn render_opening(turn: &Turn<'_>, thinks: bool, mode: Mode, out: &mut Rendered) {
    match turn.task {
        Some(Task::Action) => {
            out.template(ASSISTANT);
            out.template(if mode == Mode::Thinking { THINK } else { END_THINK });
            out.template(ACTION);
        }
        Some(Task::Query) => out.template(QUERY),
        Some(Task::Authority) => out.template(AUTHORITY),
        Some(Task::Domain) => out.template(DOMAIN),
        Some(Task::ReadUrl) => out.template(READ_URL),
        Some(Task::Title) => out.template(TITLE),
        None if matches!(turn.role, Role::User | Role::Developer) => {
            out.template(ASSISTANT);
            out.template(if thinks { THINK } else { END_THINK });
        }
        None => {}
    }
}
