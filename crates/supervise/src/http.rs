//! Asks a server of this machine.

use std::time::Duration;

use serde_json::Value;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Most bytes of an answer.
const MOST_BYTES: u64 = 1 << 20;

/// The status and the text of `GET URL`; none when nobody answers.
fn get(url: &str) -> Option<(u16, String)> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build();
    let mut answer = ureq::Agent::new_with_config(config).get(url).call().ok()?;
    let text = answer.body_mut().with_config().limit(MOST_BYTES).read_to_string().unwrap_or_default();
    Some((answer.status().as_u16(), text))
}

/// Whether requests are taken: what `/ready` says, or, of a server that does not know it, that models are listed.
pub(crate) fn is_ready(base_url: &str) -> bool {
    match get(&format!("{base_url}/ready")) {
        Some((200, _)) => true,
        Some((404, _)) => is_ds4(base_url),
        _ => false,
    }
}

/// Whether this is a ds4-server: it lists a model of the family, or says that it is one. One that wants a key says so of its
/// health alone.
pub(crate) fn is_ds4(base_url: &str) -> bool {
    let ask = |path: &str| {
        let (status, text) = get(&format!("{base_url}{path}"))?;
        Some((status, serde_json::from_str::<Value>(&text).ok()?))
    };
    match ask("/v1/models") {
        Some((200, answer)) => lists_ds4(&answer),
        Some((401, _)) => ask("/health").is_some_and(|(_, health)| {
            ["model", "context_length", "running_limit"].iter().all(|key| !health[key].is_null())
        }),
        _ => false,
    }
}

fn lists_ds4(answer: &Value) -> bool {
    let says = |model: &Value, key: &str, begin: &str| model[key].as_str().is_some_and(|text| text.starts_with(begin));
    let models = answer["data"].as_array().cloned().unwrap_or_default();
    models.iter().any(|model| says(model, "id", "deepseek-v4") || says(model, "owned_by", "ds4"))
}
