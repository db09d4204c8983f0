//! `/metrics`, in the text format of Prometheus: what the server counts, what the engine counts, and what is there now.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use ds4_engine::{Metrics as EngineMetrics, Plan, TierStats};

use crate::queue::Load;
use crate::record::Times;
use crate::stats::{Outcome, Totals};

/// Upper ends of the histograms' classes, in seconds.
const CLASSES: [f64; 12] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// What the server counts for this page alone; the rest is in [`Totals`].
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counted: Mutex<Counted>,
}

/// What the page shows besides.
pub(crate) struct Now<'a> {
    pub(crate) model: &'a str,
    pub(crate) well: bool,
    pub(crate) uptime: Duration,
    pub(crate) load: Load,
    pub(crate) totals: Totals,
    pub(crate) plan: Option<&'a Plan>,
    pub(crate) engine: EngineMetrics,
}

#[derive(Debug, Default)]
struct Counted {
    /// By endpoint and status.
    responses: BTreeMap<(String, u16), u64>,
    prefill: Duration,
    decode: Duration,
    queue: Histogram,
    first_token: Histogram,
}

#[derive(Debug, Default)]
struct Histogram {
    /// One class more than [`CLASSES`], for all above.
    classes: [u64; CLASSES.len() + 1],
    sum: Duration,
}

impl Histogram {
    fn add(&mut self, value: Duration) {
        let class = CLASSES.iter().position(|end| value.as_secs_f64() <= *end).unwrap_or(CLASSES.len());
        self.classes[class] += 1;
        self.sum += value;
    }
}

impl Metrics {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().expect("nothing panics under this lock")
    }

    /// A response begins. There are as many endpoints as routes.
    pub(crate) fn response(&self, endpoint: &str, status: u16) {
        *self.counted().responses.entry((endpoint.into(), status)).or_default() += 1;
    }

    /// A request has ended.
    pub(crate) fn request(&self, times: &Times) {
        let mut counted = self.counted();
        counted.prefill += times.prefill;
        counted.decode += times.decode;
        counted.queue.add(times.queue);
        if let Some(time) = times.first_token {
            counted.first_token.add(time);
        }
    }

    /// The page.
    pub(crate) fn page(&self, now: &Now<'_>) -> String {
        let mut page = Page::default();
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("model", now.model)];
        page.family("build_info", "gauge", "What runs.").value(&labels, 1);
        page.gauge("uptime_seconds", "Time since the start.", now.uptime.as_secs());
        page.gauge("healthy", "1 while requests can be taken.", u8::from(now.well));
        self.counted().show(&mut page);
        show_totals(&mut page, &now.totals);
        show_load(&mut page, &now.load);
        show_memory(&mut page, now.plan, &now.engine);
        show_cache(&mut page, &now.engine);
        page.text
    }
}

impl Counted {
    fn show(&self, page: &mut Page) {
        page.family("http_responses_total", "counter", "Responses by endpoint and status.");
        for ((endpoint, status), n) in &self.responses {
            page.value(&[("endpoint", endpoint), ("status", &status.to_string())], n);
        }
        let (prefill, decode) = (self.prefill.as_secs_f64(), self.decode.as_secs_f64());
        page.counter("prefill_seconds_total", "Time between the turn of requests and their first tokens.", prefill);
        page.counter("decode_seconds_total", "Time between first and last tokens.", decode);
        page.histogram("queue_seconds", "Time until a request's turn came and memory was there.", &self.queue);
        page.histogram("first_token_seconds", "Time from the queue to the first token.", &self.first_token);
    }
}

fn show_totals(page: &mut Page, totals: &Totals) {
    page.family("answers_total", "counter", "Requests that had a place, by how they ended.");
    for outcome in Outcome::ALL {
        page.value(&[("finish", outcome.name())], totals.ended[outcome as usize]);
    }
    page.counter("requests_refused_total", "Requests that found the queue full, or the server ending.", totals.refused);
    page.counter("prompt_tokens_total", "Tokens of prompts, read or reused.", totals.prompt_tokens);
    page.counter("prompt_tokens_cached_total", "Of these, tokens that were not computed again.", totals.cached_tokens);
    page.counter("generated_tokens_total", "Tokens of answers.", totals.generated_tokens);
    page.counter("reasoning_tokens_total", "Of these, tokens of reasoning.", totals.reasoning_tokens);
}

fn show_load(page: &mut Page, load: &Load) {
    page.gauge("requests_running", "Requests that run.", load.running);
    page.gauge("requests_running_limit", "Requests that can run at once.", load.places);
    page.gauge("requests_waiting", "Requests that wait.", load.waiting);
    page.gauge("requests_waiting_limit", "Requests that may wait.", load.limit);
}

fn show_memory(page: &mut Page, plan: Option<&Plan>, engine: &EngineMetrics) {
    if let Some(Plan { weights, cache, scratch, tokenizer, program, .. }) = plan {
        page.family("memory_plan_bytes", "gauge", "Memory as planned at the start, by what it is for.");
        let parts = [("weights", weights), ("cache", cache), ("scratch", scratch), ("tokenizer", tokenizer)];
        for (part, bytes) in parts.into_iter().chain([("program", program)]) {
            page.value(&[("part", part)], bytes);
        }
    }
    page.gauge("pages", "Pages of 128 tokens in RAM.", engine.pages);
    page.gauge("pages_used", "Of these, pages of running and waiting requests.", engine.pages_used);
    page.gauge("pages_kept", "Pages that hold something for later.", engine.pages_kept);
    page.gauge("resume_point_bytes", "Bytes of resume points.", engine.point_bytes);
}

fn show_cache(page: &mut Page, engine: &EngineMetrics) {
    page.counter("engine_tokens_computed_total", "Tokens computed, of prompts and answers.", engine.tokens_computed);
    page.family("cache_tokens_total", "counter", "Tokens of prompts that were there, by where the last came from.");
    page.value(&[("from", "ram")], engine.tokens_from_ram);
    page.value(&[("from", "below")], engine.tokens_from_below);
    page.counter("pages_evicted_total", "Pages dropped because others needed their place.", engine.pages_dropped);
    page.counter("resume_points_total", "Resume points made.", engine.points_made);
    page.counter("resume_points_evicted_total", "Resume points dropped.", engine.points_dropped);
    page.counter(
        "requests_sent_back_total",
        "Requests that gave their memory to others and ran again.",
        engine.sent_back,
    );
    type Number = fn(&TierStats) -> u64;
    let families: [(&str, &str, &str, Number); 8] = [
        ("tier_read_segments_total", "counter", "Segments read from a tier.", |t| t.read.segments),
        ("tier_read_bytes_total", "counter", "Bytes read from a tier.", |t| t.read.bytes),
        ("tier_written_segments_total", "counter", "Segments written to a tier.", |t| t.written.segments),
        ("tier_written_bytes_total", "counter", "Bytes written to a tier.", |t| t.written.bytes),
        ("tier_evicted_segments_total", "counter", "Segments removed to make room.", |t| t.removed.segments),
        ("tier_damaged_segments_total", "counter", "Segments found damaged.", |t| t.damaged),
        ("tier_failures_total", "counter", "What a tier could not do.", |t| t.failures),
        ("tier_kept_bytes", "gauge", "Bytes that a tier with a budget keeps.", |t| t.kept_bytes),
    ];
    for (name, kind, help, number) in families.into_iter().filter(|_| !engine.tiers.is_empty()) {
        page.family(name, kind, help);
        for tier in &engine.tiers {
            page.value(&[("tier", &tier.name)], number(tier));
        }
    }
}

/// The text format: for each family its help, its type and its values.
#[derive(Default)]
struct Page {
    text: String,
    family: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) -> &mut Self {
        self.family = format!("ds4_{name}");
        let _ = writeln!(self.text, "# HELP {0} {help}\n# TYPE {0} {kind}", self.family); // a string takes all
        self
    }

    /// A value of the last family.
    fn value(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.suffixed("", labels, value)
    }

    fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{}{suffix}{labels} {value}", self.family);
        self
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help).value(&[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help).value(&[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let mut sum = 0;
        for (n, end) in histogram.classes.iter().zip(CLASSES.iter().copied().chain([f64::INFINITY])) {
            sum += n;
            let end = if end.is_finite() { end.to_string() } else { "+Inf".into() };
            self.suffixed("_bucket", &[("le", &end)], sum);
        }
        self.suffixed("_sum", &[], histogram.sum.as_secs_f64()).suffixed("_count", &[], sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_add_up_and_labels_are_escaped() {
        let mut histogram = Histogram::default();
        [0.001, 0.05, 0.06, 1000.0].into_iter().for_each(|s| histogram.add(Duration::from_secs_f64(s)));
        let mut page = Page::default();
        page.histogram("x", "Times.", &histogram);
        for line in [
            "# HELP ds4_x Times.",
            "# TYPE ds4_x histogram",
            "ds4_x_bucket{le=\"0.01\"} 1",
            "ds4_x_bucket{le=\"0.05\"} 2",
            "ds4_x_bucket{le=\"0.1\"} 3",
            "ds4_x_bucket{le=\"300\"} 3",
            "ds4_x_bucket{le=\"+Inf\"} 4",
            "ds4_x_sum 1000.111",
            "ds4_x_count 4",
        ] {
            assert!(page.text.lines().any(|l| l == line), "{line} is not in\n{}", page.text);
        }
        let mut page = Page::default();
        page.family("y", "gauge", "Y.").value(&[("a", "\"\\\n"), ("b", "")], 5);
        assert!(page.text.ends_with("ds4_y{a=\"\\\"\\\\\\n\",b=\"\"} 5\n"), "{}", page.text);
    }
}
