//! OpenAI's older completions API: one prompt, and the model's text as it is, reasoning and its end mark included.

use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::Response;
use ds4_chat::Event as Piece;
use serde_json::{Value, json};

use super::Body;
use super::logprobs::Logprobs;
use super::reply::{data, finish_reason, usage};
use crate::Error;
use crate::body::read;
use crate::calls::Style;
use crate::error::json_response;
use crate::progress::{Counts, End, Scored};
use crate::server::{Label, Server};
use crate::sse::{Events, stream};
use crate::whole::whole;

const STYLE: Style = Style { api: "openai", answer: "cmpl-", call: "call_" };

/// `POST /v1/completions`
pub(crate) async fn completions(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    answer(server, request).await.unwrap_or_else(|error| error.response(Error::openai))
}

async fn answer(server: Arc<Server>, request: HttpRequest) -> Result<Response, Error> {
    let bytes = read(request).await?;
    let (request, prepared, streams, with_usage) = server
        .off_the_loop(move |server| {
            let body = Body::parse(&bytes)?;
            let (streams, with_usage) = (body.streams(), body.wants_usage());
            let request = body.into_completion()?;
            let mut prepared = server.prepare(&request, "prompt")?;
            prepared.prompt.thinking = false; // nothing is told apart
            Ok((request, prepared, streams, with_usage))
        })
        .await?;
    let mut logprobs = Logprobs::new(&server.model, request.logprobs.is_some());
    let (label, ticket) = server.enter(&request, prepared, &STYLE)?;
    if streams {
        return Ok(stream(ticket, Texts { label, with_usage, logprobs, written: 0 }));
    }
    let answer = whole(ticket).await?;
    logprobs.push(answer.scored);
    let text = answer.reasoning + &answer.text;
    let mut body = object(&label, &text, Some(finish_reason(&answer.end.why)), logprobs.completion(0));
    body["usage"] = usage(&answer.end.counts);
    body["timings"] = answer.end.timings.json(&answer.end.counts);
    Ok(json_response(StatusCode::OK, &body))
}

/// The answer in chunks: texts, finish, usage if it is wanted, `[DONE]`.
struct Texts {
    label: Label,
    with_usage: bool,
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
        data(&object(&self.label, &text, None, logprobs))
    }

    fn ended(&mut self, end: &End) -> String {
        let mut text = data(&object(&self.label, "", Some(finish_reason(&end.why)), None));
        if self.with_usage {
            let mut last = object(&self.label, "", None, None);
            (last["choices"], last["usage"]) = (json!([]), usage(&end.counts));
            last["timings"] = end.timings.json(&end.counts);
            text += &data(&last);
        }
        text + "data: [DONE]\n\n"
    }

    fn failed(&mut self, error: &Error) -> String {
        format!("event: error\n{}", data(&error.openai()))
    }
}

fn object(label: &Label, text: &str, finish_reason: Option<&str>, logprobs: Option<Value>) -> Value {
    let choice = json!({"text": text, "index": 0, "logprobs": logprobs, "finish_reason": finish_reason});
    let Label { id, model, created } = label;
    json!({"id": id, "object": "text_completion", "created": created, "model": model, "choices": [choice]})
}
