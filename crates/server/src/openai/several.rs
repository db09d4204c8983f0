//! Several answers to one chat (`n`): requests of their own that share their prompt, and differ in their random numbers.

use std::sync::{Arc, Mutex, PoisonError};

use axum::response::Response;
use serde_json::Value;

use super::reply::{self, Chunks};
use super::{Logprobs, STYLE};
use crate::progress::{Counts, End};
use crate::queue::Ticket;
use crate::server::{Label, Prepared, Server};
use crate::sse;
use crate::timings::Timings;
use crate::whole::whole;
use crate::{Error, Request};

/// Most answers to one request.
pub(super) const MOST: u64 = 8;

/// Asks `n` times.
fn enter(server: &Server, request: &Request, prepared: Prepared, n: usize) -> Result<(Label, Vec<Ticket>), Error> {
    let load = server.queue.load();
    if n > load.places + load.limit {
        let why = format!("n: {n} answers; this server runs {} at once and lets {} wait", load.places, load.limit);
        return Err(Error::Invalid(why));
    }
    server.enter_all(request, prepared, &STYLE, n)
}

/// All answers as a whole.
pub(super) async fn answers(
    server: &Server,
    request: Request,
    prepared: Prepared,
    n: usize,
) -> Result<Response, Error> {
    let wanted = request.logprobs.is_some();
    let (label, tickets) = enter(server, &request, prepared, n)?;
    let (mut choices, mut sum) = (Vec::new(), Sum::default());
    for (i, ticket) in tickets.into_iter().enumerate() {
        let mut answer = whole(ticket).await?;
        let mut logprobs = Logprobs::new(&server.model, wanted);
        logprobs.push(std::mem::take(&mut answer.scored));
        choices.push(reply::choice(i, &answer, logprobs.chat()));
        sum.add(&answer.end);
    }
    Ok(reply::answer(&label, Value::Array(choices), &sum.counts, &sum.timings))
}

/// All answers as one stream, whichever has something to say.
pub(super) fn streams(
    server: &Server,
    request: Request,
    prepared: Prepared,
    n: usize,
    with_usage: bool,
) -> Result<Response, Error> {
    let wanted = request.logprobs.is_some();
    let (label, tickets) = enter(server, &request, prepared, n)?;
    let sum = Arc::new(Mutex::new(Sum::default()));
    let parts = tickets.into_iter().enumerate().map(|(i, ticket)| {
        let chunks = Chunks::new(label.clone(), false, Logprobs::new(&server.model, wanted));
        (ticket, chunks.of_several(i, Arc::clone(&sum)))
    });
    let end = reply::end(label.clone(), with_usage);
    Ok(sse::merged(parts.collect(), move || {
        let sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        end(&sum.counts, &sum.timings)
    }))
}

/// What several answers to one prompt took.
#[derive(Default)]
pub(super) struct Sum {
    counts: Counts,
    /// The longest of each.
    timings: Timings,
}

impl Sum {
    /// One more has ended.
    pub(super) fn add(&mut self, end: &End) {
        let (sum, counts) = (&mut self.counts, &end.counts);
        // What one of them computed, the others found.
        sum.cached = if sum.prompt == 0 { counts.cached } else { sum.cached.min(counts.cached) };
        sum.prompt = counts.prompt;
        sum.generated += counts.generated;
        sum.reasoning += counts.reasoning;
        let (all, one) = (&mut self.timings, &end.timings);
        all.queue = all.queue.max(one.queue);
        all.prefill = all.prefill.max(one.prefill);
        all.decode = all.decode.max(one.decode);
        all.source = all.source.take().or_else(|| one.source.clone());
    }
}
