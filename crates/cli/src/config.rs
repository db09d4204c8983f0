//! Settings of a server from a file, the environment and flags: the later wins.
//!
//! Keys and variables are the flags' names (`--kv-disk-dir` is `kv-disk-dir` and `DS4_SERVER_KV_DISK_DIR`), and what they say
//! is given to the parser of the flags, so that nothing is written down twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::{Table, Value};

use crate::args::{explain, read_text};
use crate::failure::Failure;

/// Flags that say where settings come from, and are none.
const ABOUT: [&str; 3] = ["config", "print-config", "help"];
/// What is never shown.
const SECRET: &str = "api-key";
/// How variables begin.
const PREFIX: &str = "DS4_SERVER_";
/// Variables that every program of this family knows.
const SHARED: [(&str, &str); 2] = [("model", "DS4_MODEL"), ("threads", "DS4_THREADS")];

/// Settings, and where each comes from.
pub(crate) struct Settings {
    pub(crate) matches: ArgMatches,
    /// By flag; none are defaults.
    origins: BTreeMap<String, String>,
}

impl Settings {
    /// What was said of a setting other than its default, and where.
    pub(crate) fn said<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Option<(&str, &T)> {
        Some((self.origins.get(name)?, self.matches.get_one(name)?))
    }
}

/// Settings for `command` from its flags, the environment, and the file that one of these names.
pub(crate) fn settle(command: &Command, args: &[String]) -> Result<Settings, Failure> {
    let given = parse(command, args)?;
    let file = given.get_one::<PathBuf>("config").cloned().or_else(|| variable("DS4_CONFIG").map(PathBuf::from));
    let mut table = file.as_deref().map_or(Ok(Table::new()), |path| read(command, path))?;
    warn_of_variables(command);
    let (mut words, mut origins) = (Vec::new(), BTreeMap::new());
    for arg in settings(command) {
        let name = long(arg);
        let (origin, said) = if given.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine) {
            (format!("--{name}"), Vec::new())
        } else if let Some((variable, text)) = from_environment(name) {
            let said = word_of_text(arg, &text).map_err(|why| Failure::usage(format!("{variable}: {why}")))?;
            (variable, said)
        } else if let (Some(value), Some(path)) = (table.remove(name), &file) {
            let origin = path.display().to_string();
            let said = words_of_value(arg, &value).map_err(|why| Failure::usage(format!("{origin}: {name}: {why}")))?;
            (origin, said)
        } else {
            continue;
        };
        for word in &said {
            parse(command, std::slice::from_ref(word)).map_err(|failure| failure.with_origin(&origin))?;
        }
        words.extend(said);
        origins.insert(name.to_owned(), origin);
    }
    words.extend_from_slice(args);
    Ok(Settings { matches: parse(command, &words)?, origins })
}

fn parse(command: &Command, words: &[String]) -> Result<ArgMatches, Failure> {
    command.clone().try_get_matches_from(words).map_err(|e| explain("ds4 serve", &e))
}

/// The flags that are settings.
fn settings(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| arg.get_long().is_some_and(|name| !ABOUT.contains(&name)))
}

fn long(arg: &Arg) -> &str {
    arg.get_long().unwrap_or_default()
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn variable_name(setting: &str) -> String {
    format!("{PREFIX}{}", setting.to_ascii_uppercase().replace('-', "_"))
}

/// The variable for a setting, and what it says.
fn from_environment(setting: &str) -> Option<(String, String)> {
    let shared = SHARED.iter().filter(|(name, _)| *name == setting).map(|(_, variable)| (*variable).to_owned());
    std::iter::once(variable_name(setting)).chain(shared).find_map(|name| variable(&name).map(|text| (name, text)))
}

/// Names variables that look like settings and are none.
fn warn_of_variables(command: &Command) {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names.filter(|name| name.starts_with(PREFIX)) {
        let known = settings(command).any(|arg| variable_name(long(arg)) == name);
        let setting = name[PREFIX.len()..].to_ascii_lowercase().replace('_', "-");
        if let Some(near) = nearest(command, &setting).filter(|_| !known) {
            eprintln!("ds4: {name} is no setting; did you mean {}?", variable_name(&near));
        }
    }
}

/// The setting that was likely meant.
fn nearest(command: &Command, name: &str) -> Option<String> {
    let error = command.clone().try_get_matches_from([format!("--{name}=")]).err()?;
    match (error.kind(), error.get(ContextKind::SuggestedArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) => {
            Some(flag.trim_start_matches('-').to_owned()).filter(|near| !ABOUT.contains(&near.as_str()))
        }
        _ => None,
    }
}

/// A file's settings; each is known.
fn read(command: &Command, path: &Path) -> Result<Table, Failure> {
    let shown = path.display();
    let text = read_text(path)?;
    let table: Table = text.parse().map_err(|e: toml::de::Error| {
        let line = e.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        Failure::usage(format!("{shown}: line {line}: {}", e.message().lines().next().unwrap_or_default()))
    })?;
    match table.keys().find(|key| !settings(command).any(|arg| long(arg) == key.as_str())) {
        None => Ok(table),
        Some(key) => {
            let way_out = match nearest(command, key) {
                Some(near) => format!("did you mean {near}?"),
                None => "keys are the names of flags, see ds4 serve --help".into(),
            };
            Err(Failure::usage(format!("{shown}: unknown key {key}; {way_out}")))
        }
    }
}

/// What a file's value is on the command line.
fn words_of_value(arg: &Arg, value: &Value) -> Result<Vec<String>, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Integer(n) => n.to_string(),
        Value::Float(x) => x.to_string(),
        Value::Boolean(on) => on.to_string(),
        Value::Array(values) if matches!(arg.get_action(), ArgAction::Append) => {
            let words = values.iter().map(|value| words_of_value(arg, value)).collect::<Result<Vec<_>, _>>()?;
            return Ok(words.concat());
        }
        Value::Array(_) | Value::Datetime(_) | Value::Table(_) => {
            return Err("takes one text, number, true or false".into());
        }
    };
    word_of_text(arg, &text)
}

/// The same for a text; nothing for a switch that is off.
fn word_of_text(arg: &Arg, text: &str) -> Result<Vec<String>, String> {
    let name = long(arg);
    match (arg.get_action(), text) {
        (ArgAction::SetTrue, "true" | "1") => Ok(vec![format!("--{name}")]),
        (ArgAction::SetTrue, "false" | "0") => Ok(Vec::new()),
        (ArgAction::SetTrue, _) => Err(format!("{text:?} is neither true nor false")),
        _ => Ok(vec![format!("--{name}={text}")]),
    }
}

impl Settings {
    /// All settings as a file that gives them again, with where each comes from as a comment.
    pub(crate) fn print(&self, command: &Command) -> String {
        let mut out = String::new();
        for arg in settings(command).filter(|arg| !arg.is_hide_set()) {
            let name = long(arg);
            let origin = self.origins.get(name).map_or("default", String::as_str);
            let values = self.matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
            let values: Vec<String> = values.map(|value| literal(arg, &value.to_string_lossy())).collect();
            out += &match values.as_slice() {
                [] => format!("# {name} is not set\n"),
                values if name == SECRET => format!("# {name}: {} hidden, from {origin}\n", values.len()),
                values if matches!(arg.get_action(), ArgAction::Append) => {
                    format!("{name} = [{}]  # {origin}\n", values.join(", "))
                }
                values => format!("{name} = {}  # {origin}\n", values.join(" ")),
            };
        }
        out
    }
}

/// A value as the file has it.
fn literal(arg: &Arg, text: &str) -> String {
    let is_number = text.parse::<i64>().is_ok_and(|n| n.to_string() == text);
    match arg.get_action() {
        ArgAction::SetTrue => text.into(),
        _ if is_number => text.into(),
        _ => Value::String(text.into()).to_string(),
    }
}
