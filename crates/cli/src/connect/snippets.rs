//! Clients that have one configuration, which belongs to its owner: what to add to it.

use serde_json::json;

use super::Client;
use super::target::Target;

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
    });
    let config = json!({
        "agents": {"defaults": {"model": {"primary": format!("ds4/{}", target.model)}}},
        "models": {"mode": "merge", "providers": {"ds4": {
            "baseUrl": target.v1(),
            "apiKey": target.shown_key(),
            "api": "openai-completions",
            "timeoutSeconds": 600,
            "models": [model],
        }}},
    });
    format!("// Add this to ~/.openclaw/openclaw.json; the server must run: ds4 up\n{config:#}\n")
}

fn hermes(target: &Target) -> String {
    let (url, model, key) = (target.v1(), &target.model, target.shown_key());
    // JSON's strings are YAML's, too.
    let [url, model, key] = [url.as_str(), model, key].map(|text| json!(text).to_string());
    format!(
        "# Add this to ~/.hermes/config.yaml; the server must run: ds4 up\n\
         # In a session: /model custom:ds4:{}\n\
         model:\n  default: {model}\n  provider: custom:ds4\n\
         custom_providers:\n  - name: ds4\n    base_url: {url}\n    api_key: {key}\n",
        target.model
    )
}

#[cfg(test)]
mod tests {
    use super::super::target::example;
    use super::*;

    #[test]
    fn openclaw_gets_json_and_hermes_yaml() {
        let text = openclaw(&example());
        let json: serde_json::Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
        assert_eq!(json["models"]["providers"]["ds4"]["models"][0]["contextWindow"], 100_000);
        let yaml = hermes(&example());
        assert!(
            yaml.contains("custom_providers:\n  - name: ds4\n    base_url: \"http://127.0.0.1:8000/v1\"\n"),
            "{yaml}"
        );
    }
}
