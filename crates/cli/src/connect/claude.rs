//! Claude Code: a file of settings beside its own.

use std::path::Path;

use serde_json::Value;

use super::profile::Profile;
use super::settings::Settings;
use super::target::Target;

pub(super) fn profile(dir: &Path, target: &Target) -> Profile {
    let settings = dir.join("settings.json");
    let command = vec!["claude".to_owned(), "--settings".to_owned(), settings.display().to_string()];
    Profile {
        title: format!("Claude Code at {}, context {}", target.url, target.context),
        files: vec![Settings::new(settings, environment(target))],
        variables: Vec::new(),
        // It would be preferred to the token.
        unset: vec!["ANTHROPIC_API_KEY"],
        command,
        wrapper: "claude-ds4",
    }
}

fn environment(target: &Target) -> Vec<(&'static str, Value)> {
    let model = target.model.as_str();
    let (context, output) = (target.context.to_string(), target.modest_output().to_string());
    let description = format!("DeepSeek V4 at {}", target.url);
    let variables = [
        ("env.ANTHROPIC_BASE_URL", target.url.as_str()),
        ("env.ANTHROPIC_AUTH_TOKEN", target.shown_key()),
        ("env.ANTHROPIC_MODEL", model),
        ("env.ANTHROPIC_CUSTOM_MODEL_OPTION", model),
        ("env.ANTHROPIC_CUSTOM_MODEL_OPTION_NAME", "ds4"),
        ("env.ANTHROPIC_CUSTOM_MODEL_OPTION_DESCRIPTION", &description),
        ("env.ANTHROPIC_DEFAULT_SONNET_MODEL", model),
        ("env.ANTHROPIC_DEFAULT_HAIKU_MODEL", model),
        ("env.ANTHROPIC_DEFAULT_OPUS_MODEL", model),
        ("env.CLAUDE_CODE_SUBAGENT_MODEL", model),
        ("env.CLAUDE_CODE_MAX_CONTEXT_TOKENS", &context),
        ("env.CLAUDE_CODE_MAX_OUTPUT_TOKENS", &output),
        ("env.CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        // Asking again without a stream would read the whole prompt again.
        ("env.CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK", "1"),
        // A line that is another in every conversation.
        ("env.CLAUDE_CODE_ATTRIBUTION_HEADER", "0"),
    ];
    variables.into_iter().map(|(name, value)| (name, value.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::target::example;
    use super::*;

    #[test]
    fn claude_asks_the_server_for_every_model_that_it_knows() {
        let profile = profile(Path::new("/p"), &example());
        let settings = profile.files[0].alone();
        let env = settings["env"].as_object().unwrap();
        assert_eq!(env["ANTHROPIC_BASE_URL"], "http://127.0.0.1:8000", "without /v1");
        assert_eq!(env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"], "100000");
        let models = env.iter().filter(|(name, _)| name.ends_with("_MODEL"));
        assert!(models.into_iter().all(|(_, model)| model == "deepseek-v4-flash"), "{env:?}");
        assert_eq!(profile.command, ["claude", "--settings", "/p/settings.json"]);
    }
}
