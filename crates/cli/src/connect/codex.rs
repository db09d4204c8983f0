//! Codex: a folder of its own in `CODEX_HOME`.

use std::path::Path;

use toml::{Table, Value};

use super::profile::Profile;
use super::target::Target;
use crate::failure::Failure;

/// Where Codex looks for a key, if the server wants one.
const KEY: &str = "DS4_API_KEY";

pub(super) fn profile(dir: &Path, target: &Target) -> Result<Profile, Failure> {
    let mut variables = vec![("CODEX_HOME", dir.display().to_string())];
    variables.extend(target.key.clone().map(|key| (KEY, key)));
    Ok(Profile {
        title: format!("Codex at {}, context {}", target.url, target.context),
        files: vec![(dir.join("config.toml"), config(target)?)],
        variables,
        unset: Vec::new(),
        command: vec!["codex".into()],
        wrapper: "codex-ds4",
    })
}

fn config(target: &Target) -> Result<String, Failure> {
    let number = |n: usize| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let text = |text: &str| Value::String(text.to_owned());
    let mut provider = Table::from_iter([
        ("name".to_owned(), text("ds4")),
        ("base_url".to_owned(), text(&target.v1())),
        ("wire_api".to_owned(), text("responses")),
        // A long prompt may take longer than the five minutes that it would wait.
        ("stream_idle_timeout_ms".to_owned(), number(1_000_000)),
    ]);
    if target.key.is_some() {
        provider.insert("env_key".to_owned(), text(KEY));
    }
    let config = Table::from_iter([
        ("model".to_owned(), text(&target.model)),
        ("model_provider".to_owned(), text("ds4")),
        ("model_context_window".to_owned(), number(target.context)),
        // Its summary must still fit.
        ("model_auto_compact_token_limit".to_owned(), number(target.context / 5 * 4)),
        // The search would be the provider's.
        ("web_search".to_owned(), text("disabled")),
        ("model_providers".to_owned(), Value::Table(Table::from_iter([("ds4".to_owned(), Value::Table(provider))]))),
    ]);
    Ok(toml::to_string(&config)?)
}

#[cfg(test)]
mod tests {
    use super::super::target::example;
    use super::*;

    #[test]
    fn codex_reads_responses_from_the_server() {
        let profile = profile(Path::new("/p"), &Target { key: Some("k\"".into()), ..example() }).unwrap();
        let (path, config) = &profile.files[0];
        assert_eq!(path, Path::new("/p/config.toml"));
        let config: Table = toml::from_str(config).unwrap();
        assert_eq!(config["model_context_window"].as_integer(), Some(100_000));
        assert_eq!(config["model_auto_compact_token_limit"].as_integer(), Some(80_000));
        let provider = &config["model_providers"]["ds4"];
        assert_eq!(provider["base_url"].as_str(), Some("http://127.0.0.1:8000/v1"));
        assert_eq!((provider["wire_api"].as_str(), provider["env_key"].as_str()), (Some("responses"), Some(KEY)));
        assert_eq!(profile.variables, [("CODEX_HOME", "/p".to_owned()), (KEY, "k\"".to_owned())]);
    }
}
