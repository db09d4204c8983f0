//! Clients that have one configuration, which belongs to its owner: what to add to it.

use serde_json::json;

use super::Client;
use super::target::Target;

/// Seconds of patience with a prompt that is being read. Both would give up after minutes, or less for what they ask beside the
/// conversation, and ask again; a comment is no sign of life to them.
const PATIENCE: u32 = 3600;
/// Hermes refuses models with less context.
const HERMES_CONTEXT: usize = 64_000;

/// The text for a client that has only this.
pub(super) fn of(client: Client) -> Option<fn(&Target) -> String> {
    match client {
        Client::Openclaw => Some(openclaw),
        Client::Hermes => Some(hermes),
        _ => None,
    }
}

fn openclaw(target: &Target) -> String {
    let model = json!({
        "id": target.model,
        "name": "DeepSeek V4 (ds4)",
        "reasoning": true,
        "contextWindow": target.context,
        "maxTokens": target.modest_output(),
        "compat": {
            "supportsReasoningEffort": true,
            "supportedReasoningEfforts": ["low", "medium", "high", "xhigh", "max"],
            "thinkingFormat": "deepseek",
        },
    });
    let config = json!({
        "agents": {"defaults": {
            "model": {"primary": format!("ds4/{}", target.model)},
            "compaction": {"timeoutSeconds": PATIENCE},
        }},
        "models": {"mode": "merge", "providers": {"ds4": {
            "baseUrl": target.v1(),
            "apiKey": target.shown_key(),
            "api": "openai-completions",
            "timeoutSeconds": PATIENCE,
            "models": [model],
        }}},
    });
    format!(
        "// Add this to ~/.openclaw/openclaw.json; the server must run: ds4 up\n\
         // OpenClaw adds it itself: ds4 connect openclaw | openclaw config patch --stdin\n{config:#}\n"
    )
}

fn hermes(target: &Target) -> String {
    let (url, model, key) = (target.v1(), &target.model, target.shown_key());
    // JSON's strings are YAML's, too.
    let [url, model, key] = [url.as_str(), model, key].map(|text| json!(text).to_string());
    let context = target.context;
    let short = match context < HERMES_CONTEXT {
        true => format!(
            "# Hermes refuses less context than {HERMES_CONTEXT} tokens; this is {context}: ds4 down; ds4 up -- --ctx 100000\n"
        ),
        false => String::new(),
    };
    format!(
        "# Add this to ~/.hermes/config.yaml; the server must run: ds4 up\n\
         # In a session: /model {} --provider ds4\n\
         {short}\
         model:\n  default: {model}\n  provider: ds4\n\
         providers:\n  ds4:\n    base_url: {url}\n    api_key: {key}\n    \
         models:\n      {model}:\n        context_length: {context}\n\
         agent:\n  local_stream_stale_timeout: {PATIENCE}\n\
         auxiliary:\n  compression:\n    timeout: {PATIENCE}\n  \
         title_generation:\n    timeout: {PATIENCE}\n",
        target.model
    )
}

#[cfg(test)]
mod tests {
    use super::super::target::example;
    use super::*;

    #[test]
    fn openclaw_gets_json_below_comments() {
        let text = openclaw(&example());
        let json: String = text.lines().filter(|line| !line.starts_with("//")).collect();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["agents"]["defaults"]["model"]["primary"], "ds4/deepseek-v4-flash");
        let provider = &json["models"]["providers"]["ds4"];
        assert_eq!(provider["models"][0]["contextWindow"], 100_000);
        assert_eq!(provider["timeoutSeconds"], json["agents"]["defaults"]["compaction"]["timeoutSeconds"]);
    }

    #[test]
    fn hermes_gets_yaml_and_a_word_if_the_context_is_too_short_for_it() {
        let yaml = hermes(&example());
        let provider = "providers:\n  ds4:\n    base_url: \"http://127.0.0.1:8000/v1\"\n    api_key: \"dsv4-local\"\n    \
                        models:\n      \"deepseek-v4-flash\":\n        context_length: 100000\n";
        assert!(yaml.contains(provider) && yaml.contains("\n  provider: ds4\n"), "{yaml}");
        assert!(!yaml.contains("refuses"), "{yaml}");
        let short = hermes(&Target { context: 32_768, ..example() });
        assert!(short.contains("\n# Hermes refuses less context than 64000 tokens; this is 32768: "), "{short}");
    }
}
