//! OpenAI's chat API, and the older one for completions.

mod body;
mod completions;
mod logprobs;
mod reply;
mod several;

use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;

pub use body::Body;
pub(crate) use completions::completions;

use logprobs::Logprobs;
use serde_json::json;

use crate::calls::Style;
use crate::server::Server;
use crate::sse::stream;
use crate::whole::whole;
use crate::{Error, body::read};

const STYLE: Style = Style { api: "openai", answer: "chatcmpl-", call: "call_" };

/// `POST /v1/chat/completions`
pub(crate) async fn chat(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    answer(server, request).await.unwrap_or_else(|error| error.response(Error::openai))
}

async fn answer(server: Arc<Server>, request: HttpRequest) -> Result<Response, Error> {
    let bytes = read(request).await?;
    let (request, prepared, n, streams, with_usage) = server
        .off_the_loop(move |server| {
            let body = Body::parse(&bytes)?;
            let (n, streams, with_usage) = (body.answers()?, body.streams(), body.wants_usage());
            let request = body.into_request()?;
            let prepared = server.prepare(&request, "messages")?;
            Ok((request, prepared, n, streams, with_usage))
        })
        .await?;
    match (n, streams) {
        (1, _) => {}
        (n, true) => return several::streams(&server, request, prepared, n, with_usage),
        (n, false) => return several::answers(&server, request, prepared, n).await,
    }
    let mut logprobs = Logprobs::new(&server.model, request.logprobs.is_some());
    let (label, ticket) = server.enter(&request, prepared, &STYLE)?;
    match streams {
        true => Ok(stream(ticket, reply::Chunks::new(label, with_usage, logprobs))),
        false => {
            let mut answer = whole(ticket).await?;
            logprobs.push(std::mem::take(&mut answer.scored));
            Ok(reply::answer(
                &label,
                json!([reply::choice(0, &answer, logprobs.chat())]),
                &answer.end.counts,
                &answer.end.timings,
            ))
        }
    }
}

/// A chat's stream, for tests.
#[cfg(test)]
pub(crate) fn chunks(label: crate::server::Label) -> impl crate::sse::Events {
    reply::Chunks::new(label, false, Logprobs::default())
}
