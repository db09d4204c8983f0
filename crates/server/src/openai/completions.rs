//! OpenAI's older completions API: one prompt, and the model's text as it is, reasoning and its end mark included.

use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::Response;
use ds4_chat::Event as Piece;
use serde_json::{Value, json};

use super::Body;
use super::reply::{data, finish_reason, usage};
use crate::Error;
use crate::body::read;
use crate::calls::Style;
use crate::error::json_response;
use crate::progress::{Counts, End};
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
    let (request, prompt, streams, with_usage) = server
        .off_the_loop(move |server| {
            let body = Body::parse(&bytes)?;
            let (streams, with_usage) = (body.streams(), body.wants_usage());
            let request = body.into_completion()?;
            let mut prompt = server.prompt(&request, "prompt")?;
            (prompt.thinking, prompt.tools) = (false, None); // nothing is told apart
            Ok((request, prompt, streams, with_usage))
        })
        .await?;
    let (label, ticket) = server.enter(request, prompt, &STYLE)?;
    if streams {
        return Ok(stream(ticket, Texts { label, with_usage }));
    }
    let answer = whole(ticket).await?;
    let mut body = object(&label, &(answer.reasoning + &answer.text), Some(finish_reason(&answer.end.why)));
    body["usage"] = usage(&answer.end.counts);
    Ok(json_response(StatusCode::OK, &body))
}

/// The answer in chunks: texts, finish, usage if it is wanted, `[DONE]`.
struct Texts {
    label: Label,
    with_usage: bool,
}

impl Events for Texts {
    fn started(&mut self, _: &Counts) -> String {
        String::new()
    }

    fn piece(&mut self, piece: Piece) -> String {
        // Completions offer no tools, so there are no calls.
        let (Piece::Reasoning(text) | Piece::Text(text)) = piece else { return String::new() };
        data(&object(&self.label, &text, None))
    }

    fn ended(&mut self, end: &End) -> String {
        let mut text = data(&object(&self.label, "", Some(finish_reason(&end.why))));
        if self.with_usage {
            let mut last = object(&self.label, "", None);
            (last["choices"], last["usage"]) = (json!([]), usage(&end.counts));
            text += &data(&last);
        }
        text + "data: [DONE]\n\n"
    }

    fn failed(&mut self, error: &Error) -> String {
        format!("event: error\n{}", data(&error.openai()))
    }
}

fn object(label: &Label, text: &str, finish_reason: Option<&str>) -> Value {
    let choice = json!({"text": text, "index": 0, "logprobs": null, "finish_reason": finish_reason});
    let Label { id, model, created } = label;
    json!({"id": id, "object": "text_completion", "created": created, "model": model, "choices": [choice]})
}
