//! OpenAI's older completions API: one prompt, and the model's text as it is, reasoning and its end mark included.

use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::Response;
use ds4_chat::Event as Piece;
use serde_json::{Value, json};

use super::Body;
use super::logprobs::Logprobs;
use super::reply::{data, finish_reason};
use super::{reply, several};
use crate::Error;
use crate::body::read;
use crate::calls::Style;
use crate::error::json_response;
use crate::progress::{Counts, End, Scored};
use crate::server::{Label, Server};
use crate::sse::{Events, merged};

const STYLE: Style = Style { api: "openai", answer: "cmpl-", call: "call_" };

/// `POST /v1/completions`
pub(crate) async fn completions(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    answer(server, request).await.unwrap_or_else(|error| error.response(Error::openai))
}

async fn answer(server: Arc<Server>, request: HttpRequest) -> Result<Response, Error> {
    let bytes = read(request).await?;
    let (request, prepared, n, streams, with_usage) = server
        .off_the_loop(move |server| {
            let body = Body::parse(&bytes)?;
            let (n, streams, with_usage) = (body.answers()?, body.streams(), body.wants_usage());
            let request = body.into_completion()?;
            let mut prepared = server.prepare(&request, "prompt")?;
            prepared.prompt.thinking = false; // nothing is told apart
            Ok((request, prepared, n, streams, with_usage))
        })
        .await?;
    let logprobs = Logprobs::new(&server.model, request.logprobs.is_some());
    let (label, tickets) = several::enter(&server, &request, prepared, &STYLE, n)?;
    if streams {
        let last = with_usage.then(|| object(&label, json!([])));
        let texts = |choice| Texts { label: label.clone(), choice, logprobs: logprobs.clone(), written: 0 };
        let parts = tickets.into_iter().enumerate().map(|(i, ticket)| (ticket, texts(i)));
        return Ok(merged(parts.collect(), reply::end(last)));
    }
    let (answers, sum) = several::wholes(tickets).await?;
    let choices = answers.into_iter().enumerate().map(|(i, answer)| {
        let mut logprobs = logprobs.clone();
        logprobs.push(answer.scored);
        let text = answer.reasoning + &answer.text;
        choice(i, &text, Some(finish_reason(&answer.end.why)), logprobs.completion(0))
    });
    let body = object(&label, choices.collect());
    Ok(json_response(StatusCode::OK, &reply::with_usage(body, &sum)))
}

/// The answer in chunks: texts, finish.
struct Texts {
    label: Label,
    /// Which of several answers it is.
    choice: usize,
    logprobs: Logprobs,
    /// Bytes of text so far.
    written: usize,
}

impl Events for Texts {
    fn started(&mut self, _: &Counts) -> String {
        String::new()
    }

    fn scored(&mut self, scored: Scored) {
        self.logprobs.push([scored]);
    }

    fn piece(&mut self, piece: Piece) -> String {
        // Completions offer no tools, so there are no calls.
        let (Piece::Reasoning(text) | Piece::Text(text)) = piece else { return String::new() };
        let logprobs = self.logprobs.completion(self.written);
        self.written += text.len();
        data(&self.chunk(&text, None, logprobs))
    }

    fn ended(&mut self, end: &End) -> String {
        data(&self.chunk("", Some(finish_reason(&end.why)), None))
    }

    fn failed(&mut self, error: &Error) -> String {
        format!("event: error\n{}", data(&error.openai()))
    }
}

impl Texts {
    fn chunk(&self, text: &str, finish_reason: Option<&str>, logprobs: Option<Value>) -> Value {
        object(&self.label, json!([choice(self.choice, text, finish_reason, logprobs)]))
    }
}

fn choice(index: usize, text: &str, finish_reason: Option<&str>, logprobs: Option<Value>) -> Value {
    json!({"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish_reason})
}

fn object(label: &Label, choices: Value) -> Value {
    let Label { id, model, created } = label;
    json!({"id": id, "object": "text_completion", "created": created, "model": model, "choices": choices})
}
