//! OpenAI's responses API.
//!
//! - `body.rs`: what may be asked
//! - `item.rs`: the items of a conversation, which come in and go out, to messages
//! - `tools.rs`: tools of several kinds to functions, and the names of their calls back
//! - `output.rs`: the items of an answer as JSON
//! - `reply.rs`: the answer, whole and in events
//! - `memory.rs`: earlier responses, for `previous_response_id`

mod body;
mod item;
mod memory;
mod output;
mod reply;
mod tools;

use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;

pub use body::Body;
pub(crate) use memory::Memory;

use crate::Error;
use crate::body::read;
use crate::calls::Style;
use crate::server::Server;
use crate::sse::stream;
use crate::whole::whole;

const STYLE: Style = Style { api: "responses", answer: "resp_", call: "call_" };

/// `POST /v1/responses`
pub(crate) async fn responses(State(server): State<Arc<Server>>, request: HttpRequest) -> Response {
    answer(server, request).await.unwrap_or_else(|error| error.response(Error::openai))
}

async fn answer(server: Arc<Server>, request: HttpRequest) -> Result<Response, Error> {
    let bytes = read(request).await?;
    let (request, prompt, asked, streams) = server
        .off_the_loop(move |server| {
            let body = Body::parse(&bytes)?;
            let streams = body.streams();
            let (request, asked) = body.resolve(&server.responses)?;
            let prompt = server.prepare(&request, "input")?;
            Ok((request, prompt, asked, streams))
        })
        .await?;
    let (label, ticket) = server.enter(&request, prompt, &STYLE)?;
    let items = reply::Items::new(label, asked, Arc::clone(&server.responses));
    match streams {
        true => Ok(stream(ticket, items)),
        false => Ok(items.whole(&whole(ticket).await?)),
    }
}

/// A response's stream, for tests.
#[cfg(test)]
pub(crate) fn items(label: crate::server::Label) -> impl crate::sse::Events {
    let memory = Memory::default();
    let body = Body::parse(br#"{"input": "q"}"#).and_then(|body| body.resolve(&memory));
    reply::Items::new(label, body.expect("a request").1, Arc::new(memory))
}
