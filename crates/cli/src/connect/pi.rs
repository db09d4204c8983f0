//! Pi: a folder of its own in `PI_CODING_AGENT_DIR`.

use std::path::Path;

use serde_json::{Value, json};

use super::profile::Profile;
use super::settings::Settings;
use super::target::Target;

pub(super) fn profile(dir: &Path, target: &Target) -> Profile {
    let settings = [("defaultProvider", "ds4".into()), ("defaultModel", target.model.as_str().into())];
    Profile {
        title: format!("Pi at {}, context {}", target.url, target.context),
        files: vec![
            Settings::new(dir.join("models.json"), [("providers.ds4", provider(target))]),
            Settings::new(dir.join("settings.json"), settings),
        ],
        variables: vec![("PI_CODING_AGENT_DIR", dir.display().to_string())],
        unset: Vec::new(),
        command: vec!["pi".into()],
        wrapper: "pi-ds4",
    }
}

fn provider(target: &Target) -> Value {
    json!({
        "baseUrl": target.v1(),
        "api": "openai-completions",
        "apiKey": target.shown_key(),
        "compat": {
            "supportsStore": false,
            "supportsDeveloperRole": false,
            "supportsReasoningEffort": true,
            "supportsUsageInStreaming": true,
            "maxTokensField": "max_tokens",
            "supportsStrictMode": false,
            "thinkingFormat": "deepseek",
            "requiresReasoningContentOnAssistantMessages": true,
        },
        "models": [{
            "id": target.model,
            "name": "DeepSeek V4 (ds4)",
            "reasoning": true,
            "input": ["text"],
            "contextWindow": target.context,
            "maxTokens": target.output,
            "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
            "thinkingLevelMap": {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh"},
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::super::target::example;
    use super::*;

    #[test]
    fn pi_knows_what_the_server_can_and_cannot() {
        let profile = profile(Path::new("/p"), &example());
        let models = profile.files[0].alone();
        let provider = &models["providers"]["ds4"];
        assert_eq!(provider["baseUrl"], "http://127.0.0.1:8000/v1");
        assert_eq!(provider["compat"]["requiresReasoningContentOnAssistantMessages"], true);
        assert_eq!(provider["models"][0]["contextWindow"], 100_000);
        assert_eq!(profile.variables, [("PI_CODING_AGENT_DIR", "/p".to_owned())]);
    }

    #[test]
    fn pi_is_told_the_same_as_by_the_extension() {
        let extension = ds4_testkit::root().join("pi-ds4/src");
        let text = |file: &str| std::fs::read_to_string(extension.join(file)).unwrap();
        let provider = provider(&example());
        let fields = |value: &Value, divider: &str| {
            let fields = value.as_object().unwrap().iter().map(|(name, value)| format!("{name}: {value}"));
            fields.collect::<Vec<_>>().join(divider)
        };
        let compat = format!("return {{\n    {},\n    ...(", fields(&provider["compat"], ",\n    "));
        assert!(text("models.ts").contains(&compat), "{compat}");
        // The null of a level would hide it, and the server knows how not to think.
        let levels = format!("levels: {{ {} }}", fields(&provider["models"][0]["thinkingLevelMap"], ", "));
        assert!(text("profiles.ts").contains(&levels), "{levels}");
    }
}
