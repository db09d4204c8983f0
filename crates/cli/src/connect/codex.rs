//! Codex: a folder of its own in `CODEX_HOME`.

use std::path::Path;

use serde_json::{Value, json};

use super::profile::Profile;
use super::settings::Settings;
use super::target::Target;

/// Where Codex looks for a key, if the server wants one.
const KEY: &str = "DS4_API_KEY";

pub(super) fn profile(dir: &Path, target: &Target) -> Profile {
    let mut variables = vec![("CODEX_HOME", dir.display().to_string())];
    variables.extend(target.key.clone().map(|key| (KEY, key)));
    Profile {
        title: format!("Codex at {}, context {}", target.url, target.context),
        files: vec![Settings::new(dir.join("config.toml"), config(target))],
        variables,
        unset: Vec::new(),
        command: vec!["codex".into()],
        wrapper: "codex-ds4",
    }
}

fn config(target: &Target) -> [(&'static str, Value); 6] {
    let mut provider = json!({
        "name": "ds4",
        "base_url": target.v1(),
        "wire_api": "responses",
        // A long prompt may take longer than the five minutes that it would wait.
        "stream_idle_timeout_ms": 1_000_000,
    });
    if target.key.is_some() {
        provider["env_key"] = KEY.into();
    }
    [
        ("model", target.model.as_str().into()),
        ("model_provider", "ds4".into()),
        ("model_context_window", target.context.into()),
        // Its summary must still fit.
        ("model_auto_compact_token_limit", (target.context / 5 * 4).into()),
        // The search would be the provider's.
        ("web_search", "disabled".into()),
        ("model_providers.ds4", provider),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::target::example;
    use super::*;

    #[test]
    fn codex_reads_responses_from_the_server() {
        let profile = profile(Path::new("/p"), &Target { key: Some("k\"".into()), ..example() });
        assert_eq!(profile.files[0].path, Path::new("/p/config.toml"));
        let config = profile.files[0].alone();
        assert_eq!(
            (&config["model_context_window"], &config["model_auto_compact_token_limit"]),
            (&json!(100_000), &json!(80_000))
        );
        let provider = &config["model_providers"]["ds4"];
        assert_eq!(provider["base_url"], "http://127.0.0.1:8000/v1");
        assert_eq!((&provider["wire_api"], &provider["env_key"]), (&json!("responses"), &json!(KEY)));
        assert_eq!(profile.variables, [("CODEX_HOME", "/p".to_owned()), (KEY, "k\"".to_owned())]);
    }
}
