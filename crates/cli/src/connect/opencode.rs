//! opencode: one more file of configuration, over its own.

use std::path::Path;

use serde_json::json;

use super::profile::Profile;
use super::settings::Settings;
use super::target::Target;

pub(super) fn profile(dir: &Path, target: &Target) -> Profile {
    let path = dir.join("opencode.json");
    let model = format!("ds4/{}", target.model);
    let limit = json!({"context": target.context, "output": target.modest_output()});
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible",
        "name": "ds4",
        "options": {"baseURL": target.v1(), "apiKey": target.shown_key()},
        "models": {target.model.as_str(): {"name": "DeepSeek V4 (ds4)", "reasoning": true, "tool_call": true, "limit": limit}},
    });
    let config = [
        ("$schema", "https://opencode.ai/config.json".into()),
        ("model", model.as_str().into()),
        ("small_model", model.as_str().into()),
        ("provider.ds4", provider),
    ];
    Profile {
        title: format!("opencode at {}, context {}", target.url, target.context),
        variables: vec![("OPENCODE_CONFIG", path.display().to_string())],
        files: vec![Settings::new(path, config)],
        unset: Vec::new(),
        command: vec!["opencode".into()],
        wrapper: "ds4 connect opencode --",
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::example;
    use super::*;

    #[test]
    fn opencode_knows_the_limits_of_the_context() {
        let profile = profile(Path::new("/p"), &example());
        let config = profile.files[0].alone();
        let provider = &config["provider"]["ds4"];
        assert_eq!(config["model"], "ds4/deepseek-v4-flash");
        assert_eq!(provider["options"]["baseURL"], "http://127.0.0.1:8000/v1");
        assert_eq!(provider["models"]["deepseek-v4-flash"]["limit"], json!({"context": 100_000, "output": 32_000}));
        assert_eq!(profile.variables, [("OPENCODE_CONFIG", "/p/opencode.json".to_owned())]);
    }
}
