//! One answer to a request or several (`n`): requests of their own that share their prompt, and differ in their random
//! numbers.

use crate::calls::Style;
use crate::progress::{Counts, End};
use crate::queue::Ticket;
use crate::server::{Label, Prepared, Server};
use crate::timings::Timings;
use crate::whole::{Whole, whole};
use crate::{Error, Request};

/// Most answers to one request.
pub(super) const MOST: u64 = 8;

/// Asks `n` times.
pub(super) fn enter(
    server: &Server,
    request: &Request,
    prepared: Prepared,
    style: &Style,
    n: usize,
) -> Result<(Label, Vec<Ticket>), Error> {
    let load = server.queue.load();
    if n > load.places + load.limit {
        let why = format!("n: {n} answers; this server runs {} at once and lets {} wait", load.places, load.limit);
        return Err(Error::Invalid(why));
    }
    server.enter_all(request, prepared, style, n)
}

/// All answers as a whole, and what they took; if one fails, none is told.
pub(super) async fn wholes(tickets: Vec<Ticket>) -> Result<(Vec<Whole>, Sum), Error> {
    let mut answers = Vec::new();
    for ticket in tickets {
        answers.push(whole(ticket).await?);
    }
    let sum = Sum::of(answers.iter().map(|answer| &answer.end));
    Ok((answers, sum))
}

/// What several answers to one prompt took.
#[derive(Default)]
pub(super) struct Sum {
    pub(super) counts: Counts,
    /// The longest of each.
    pub(super) timings: Timings,
}

impl Sum {
    pub(super) fn of<'e>(ends: impl IntoIterator<Item = &'e End>) -> Self {
        let mut sum = Self::default();
        ends.into_iter().for_each(|end| sum.add(end));
        sum
    }

    fn add(&mut self, end: &End) {
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
