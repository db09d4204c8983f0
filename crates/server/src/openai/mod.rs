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

use crate::calls::Style;
use crate::server::Server;
use crate::sse::merged;
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
    let logprobs = Logprobs::new(&server.model, request.logprobs.is_some());
    let (label, tickets) = several::enter(&server, &request, prepared, &STYLE, n)?;
    if streams {
        let last = with_usage.then(|| reply::last(&label));
        let chunks = |choice| reply::Chunks::new(label.clone(), choice, logprobs.clone());
        let parts = tickets.into_iter().enumerate().map(|(i, ticket)| (ticket, chunks(i)));
        return Ok(merged(parts.collect(), reply::end(last)));
    }
    let (answers, sum) = several::wholes(tickets).await?;
    let choices = answers.iter().enumerate().map(|(i, answer)| {
        let mut logprobs = logprobs.clone();
        logprobs.push(answer.scored.iter().cloned());
        reply::choice(i, answer, logprobs.chat())
    });
    Ok(reply::answer(&label, choices.collect(), &sum))
}

/// A chat's stream, for tests.
#[cfg(test)]
pub(crate) fn chunks(label: crate::server::Label) -> impl crate::sse::Events {
    reply::Chunks::new(label, 0, Logprobs::default())
}
