//! Our settings in a file that a client writes, too, and people: what is theirs stays, in a TOML file with its comments.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use toml_edit::{DocumentMut, Item, Table, TableLike};

/// The names that lead to a setting.
type Names = Vec<&'static str>;

/// Settings of ours and the file, JSON or TOML by its name, that they belong in.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) path: PathBuf,
    ours: Vec<(Names, Value)>,
}

impl Settings {
    /// Each setting is all that its names, divided by dots, lead to.
    pub(super) fn new(path: PathBuf, ours: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        Self { path, ours: ours.into_iter().map(|(names, value)| (names.split('.').collect(), value)).collect() }
    }

    /// A file's text with them; the same text if they are there. An error says why they cannot be put into it.
    pub(super) fn put_into(&self, text: &str) -> Result<String, String> {
        let is_toml = self.path.extension().is_some_and(|name| name == "toml");
        let there: Value = match (is_toml, text.trim().is_empty()) {
            (_, true) => json!({}),
            (true, _) => toml::from_str(text).map_err(|e| format!("not TOML: {}", e.message()))?,
            (false, _) => serde_json::from_str(text).map_err(|e| format!("not JSON (which has no comments): {e}"))?,
        };
        let is_there =
            |names: &Names, value: &Value| names.iter().try_fold(&there, |at, name| at.get(name)) == Some(value);
        let missing: Vec<_> = self.ours.iter().filter(|(names, value)| !is_there(names, value)).collect();
        if missing.is_empty() {
            return Ok(text.to_owned());
        }
        if is_toml {
            let mut document: DocumentMut = text.parse().map_err(|e| format!("not TOML: {e}"))?;
            missing.into_iter().try_for_each(|(names, value)| put_toml(document.as_table_mut(), names, value))?;
            return Ok(document.to_string());
        }
        let mut document = there;
        missing.into_iter().try_for_each(|(names, value)| put_json(&mut document, names, value))?;
        Ok(format!("{document:#}\n"))
    }

    #[cfg(test)]
    pub(super) fn alone(&self) -> Value {
        let text = self.put_into("").unwrap();
        toml::from_str(&text).or_else(|_| serde_json::from_str(&text)).unwrap()
    }
}

fn put_json(document: &mut Value, names: &[&str], value: &Value) -> Result<(), String> {
    let mut at = document;
    for name in names {
        let fields = at.as_object_mut().ok_or_else(|| no_table(names))?;
        at = fields.entry(*name).or_insert_with(|| Value::Object(Map::new()));
    }
    *at = value.clone();
    Ok(())
}

fn put_toml(document: &mut Table, names: &[&str], value: &Value) -> Result<(), String> {
    let Some((last, tables)) = names.split_last() else { return Ok(()) };
    let mut at: &mut dyn TableLike = document;
    for name in tables {
        let mut empty = Table::new();
        empty.set_implicit(true); // no line of its own
        at = at.entry(name).or_insert(Item::Table(empty)).as_table_like_mut().ok_or_else(|| no_table(names))?;
    }
    let mut fresh = toml_edit::ser::to_document(&json!({*last: value})).map_err(|e| e.to_string())?;
    let fresh = fresh.remove(last).unwrap_or_default();
    let dotted = at.is_dotted();
    // What stands beside it, or above, stays.
    let item = match (at.get(last), fresh) {
        (Some(Item::Value(there)), Item::Value(mut fresh)) => {
            *fresh.decor_mut() = there.decor().clone();
            Item::Value(fresh)
        }
        (there, fresh) => match fresh.into_table() {
            Err(value) => value,
            Ok(mut table) => {
                table.set_dotted(dotted);
                if let Some(Item::Table(there)) = there {
                    *table.decor_mut() = there.decor().clone();
                }
                Item::Table(table)
            }
        },
    };
    match at.get_mut(last) {
        Some(there) => *there = item, // an insertion would make its name anew, without the comment above it
        None => drop(at.insert(last, item)),
    }
    Ok(())
}

fn no_table(names: &[&str]) -> String {
    format!("{} cannot be set: what leads to it is there and holds no settings", names.join("."))
}

/// What to say of a file that stays as it is.
pub(super) fn left(path: &Path, why: &str) -> String {
    format!("{}: {why}; it is left as it is: mend it, or move it away", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codex(context: usize) -> Settings {
        let ours = [
            ("model", json!("m")),
            ("model_context_window", json!(context)),
            ("model_providers.ds4", json!({"name": "ds4", "retries": context})),
        ];
        Settings::new("config.toml".into(), ours)
    }

    #[test]
    fn what_codex_and_people_have_written_stays() {
        let fresh = codex(5).put_into("").unwrap();
        assert_eq!(
            fresh,
            "model = \"m\"\nmodel_context_window = 5\n\n[model_providers.ds4]\nname = \"ds4\"\nretries = 5\n"
        );
        let theirs = "# mine\n# why\nmodel_context_window = 5 # small\nsandbox = \"off\"\n\n[projects.\"/a b\"]\ntrust_level = \
                      \"trusted\"\n\n[model_providers.other]\nname = \"o\"\n\n# below\n[model_providers.ds4]\nname = \"ds4\"\nenv_key = \
                      \"K\"\n\n[mcp_servers.x]\ncommand = \"x\" # of mine\n";
        let merged = codex(6).put_into(theirs).unwrap();
        assert_eq!(
            merged,
            theirs
                .replace("= 5 # small\nsandbox = \"off\"\n", "= 6 # small\nsandbox = \"off\"\nmodel = \"m\"\n")
                .replace("env_key = \"K\"", "retries = 6"),
            "what is ours is ours alone, and the rest as it was"
        );
        assert_eq!(codex(6).put_into(&merged).unwrap(), merged);
    }

    #[test]
    fn every_way_to_write_a_table_is_one() {
        for theirs in [
            "model_providers = { other = { name = \"o\" } }\n",
            "model_providers.other.name = \"o\"\n",
            "[model_providers]\nother = { name = \"o\" }\n",
            "[model_providers.ds4]\nname = \"old\"\n\n[model_providers.other]\nname = \"o\"\n",
            "model_providers.ds4.name = \"old\"\nmodel_providers.other.name = \"o\"\n",
        ] {
            let merged = codex(7).put_into(theirs).unwrap();
            let read: Value = toml::from_str(&merged).unwrap_or_else(|e| panic!("{merged}: {e}"));
            assert_eq!(read["model_providers"]["other"]["name"], "o", "{merged}");
            assert_eq!(read["model_providers"]["ds4"], json!({"name": "ds4", "retries": 7}), "{merged}");
            assert_eq!(codex(7).put_into(&merged).unwrap(), merged);
        }
    }

    #[test]
    fn a_json_file_keeps_its_other_settings_in_their_order() {
        let ours = Settings::new("s.json".into(), [("z", json!(1)), ("env.A", json!("b")), ("env.B", json!("c"))]);
        assert_eq!(ours.alone(), json!({"z": 1, "env": {"A": "b", "B": "c"}}));
        let theirs = "{\"theme\": \"dark\", \"env\": {\"MINE\": \"1\", \"A\": \"old\"}, \"list\": [1.50]}";
        let merged = ours.put_into(theirs).unwrap();
        let expected = json!({"theme": "dark", "env": {"MINE": "1", "A": "b", "B": "c"}, "list": [1.5], "z": 1});
        assert_eq!(merged, format!("{expected:#}\n"));
        let tight = expected.to_string();
        assert_eq!(ours.put_into(&tight).unwrap(), tight, "what has them already is not even formatted");
    }

    #[test]
    fn a_file_that_cannot_be_read_as_settings_is_refused() {
        let json = Settings::new("s.json".into(), [("env.A", json!("b"))]);
        let toml = codex(1);
        for (settings, text, why) in [
            (&json, "{} // mine", "not JSON (which has no comments): trailing characters at line 1"),
            (&json, "[]", "env.A cannot be set"),
            (&json, "{\"env\": 5}", "env.A cannot be set"),
            (&toml, "model = ", "not TOML: "),
            (&toml, "model_providers = 5", "model_providers.ds4 cannot be set"),
        ] {
            let said = settings.put_into(text).unwrap_err();
            assert!(said.starts_with(why), "{text}: {said}");
        }
    }
}
