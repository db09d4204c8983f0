//! Anthropic's messages API.

mod body;
mod reply;

use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

pub use body::Body;

use crate::body::read;
use crate::calls::Style;
use crate::error::json_response;
use crate::server::{Prepared, Server};
use crate::sse::stream;
use crate::whole::whole;
use crate::{Error, Request};

const STYLE: Style = Style { api: "anthropic", answer: "msg_", call: "toolu_" };

/// `POST /v1/messages`
pub(crate) async fn messages(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    answer(server, request).await.unwrap_or_else(|error| error.response(Error::anthropic))
}

/// `POST /v1/messages/count_tokens`: takes no place in the queue.
pub(crate) async fn count_tokens(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    match prepare(&server, request).await {
        Ok((_, prepared, _)) => json_response(StatusCode::OK, &json!({"input_tokens": prepared.prompt.tokens.len()})),
        Err(error) => error.response(Error::anthropic),
    }
}

async fn answer(server: Arc<Server>, request: HttpRequest) -> Result<Response, Error> {
    let (request, prepared, streams) = prepare(&server, request).await?;
    let (label, ticket) = server.enter(&request, prepared, &STYLE)?;
    match streams {
        true => Ok(stream(ticket, reply::Blocks::new(label))),
        false => Ok(reply::whole(&label, &whole(ticket).await?)),
    }
}

/// A body's request, its prompt, and whether the answer is to be streamed.
async fn prepare(server: &Arc<Server>, request: HttpRequest) -> Result<(Request, Prepared, bool), Error> {
    let bytes = read(request).await?;
    server
        .off_the_loop(move |server| {
            let body = Body::parse(&bytes)?;
            let streams = body.streams();
            let request = body.into_request()?;
            let prepared = server.prepare(&request, "messages")?;
            Ok((request, prepared, streams))
        })
        .await
}

/// A message's stream, for tests.
#[cfg(test)]
pub(crate) fn blocks(label: crate::server::Label) -> impl crate::sse::Events {
    reply::Blocks::new(label)
}
