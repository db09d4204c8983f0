//! `ds4 models`: what there is, and what of it is here.

use std::io::Write;
use std::path::Path;

use clap::{CommandFactory, FromArgMatches, Parser};
use ds4_engine::Machine;
use ds4_hub::{Catalogue, Model, State, Store};
use serde_json::{Value, json};

use crate::args::explain;
use crate::failure::Failure;
use crate::pull::{Place, failure};

/// Lists the models that can be pulled by name, and the files that are there.
#[derive(Parser)]
#[command(name = "ds4 models", bin_name = "ds4 models", disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Models {
    #[command(flatten)]
    place: Place,

    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
The model marked with * is the one to which the link ds4flash.gguf points. \"fits\" says
whether this machine's memory is enough; a model that does not fit can be run from the
disk, slowly, with --allow-oversubscribe.

  ds4 pull NAME       download one, or go on downloading
  ds4 -m FILE         run one";

/// A line of the list.
struct Row {
    name: String,
    /// What the catalogue knows; files that it does not name have nothing.
    model: Option<Model>,
    file: Option<String>,
    state: State,
    linked: bool,
}

/// The command line.
pub(crate) fn command() -> clap::Command {
    Models::command()
}

/// `ds4 models …`
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let matches = command().try_get_matches_from(args).map_err(|e| explain("ds4 models", &e))?;
    let models = Models::from_arg_matches(&matches).map_err(|e| explain("ds4 models", &e))?;
    let store = models.place.store().map_err(|e| failure(&e))?;
    let ram = Machine::measure().map(|machine| machine.total);
    let rows = rows(&Catalogue::new(), &store);
    let text = match models.json {
        true => format!("{:#}\n", document(&rows, &store, ram)),
        false => table(&rows, &store, ram),
    };
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// The catalogue, then what else is in the store.
fn rows(catalogue: &Catalogue, store: &Store) -> Vec<Row> {
    let linked = store.linked();
    let row = |name: &str, model: Option<&Model>, file: Option<&str>| {
        let state = file.map_or(State::Missing, |file| store.state(file));
        let linked = file.is_some_and(|file| linked.as_deref() == Some(&*store.path(file)));
        Row { name: name.into(), model: model.cloned(), file: file.map(Into::into), state, linked }
    };
    let known = catalogue.models().iter().map(|model| row(&model.name, Some(model), model.file.as_deref()));
    let named = |file: &str| catalogue.models().iter().any(|model| model.file.as_deref() == Some(file));
    let others = store.files().into_iter().filter(|file| !named(file));
    known.chain(others.map(|file| row(&file, None, Some(&file)))).collect()
}

impl Row {
    /// there, 14%, built in, or -.
    fn state(&self) -> String {
        match self.state {
            _ if self.file.is_none() => "built in".into(),
            State::There(_) => "there".into(),
            State::Partial { .. } => self.percent().map_or_else(|| "begun".into(), |percent| format!("{percent}%")),
            State::Missing => "-".into(),
        }
    }

    fn percent(&self) -> Option<u64> {
        let State::Partial { have, total } = self.state else { return None };
        let total = total.or(self.model.as_ref().map(Model::bytes))?;
        Some((have.saturating_mul(100) / total.max(1)).min(99))
    }

    /// Bytes: as they lie there, or as they will.
    fn bytes(&self) -> u64 {
        match self.state {
            State::There(size) | State::Partial { total: Some(size), .. } => size,
            State::Partial { have, .. } => self.model.as_ref().map_or(have, Model::bytes),
            State::Missing => self.model.as_ref().map_or(0, Model::bytes),
        }
    }

    fn fits(&self, ram: Option<u64>) -> Option<bool> {
        Some(self.model.as_ref()?.fits(ram?))
    }
}

fn table(rows: &[Row], store: &Store, ram: Option<u64>) -> String {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or_default();
    let mut text = format!("  {:width$}  {:>8}  {:8}  {:>6}  {:4}\n", "name", "size", "state", "memory", "fits");
    for row in rows {
        let mark = if row.linked { '*' } else { ' ' };
        let memory = row.model.as_ref().map_or("?".into(), |model| format!("{} GB", model.ram_gb));
        let fits = row.fits(ram).map_or("?", |fits| if fits { "yes" } else { "no" });
        let about = row.model.as_ref().map_or("", |model| model.about.as_str());
        let (name, size, state) = (&row.name, size(row.bytes()), row.state());
        let line = format!("{mark} {name:width$}  {size:>8}  {state:8}  {memory:>6}  {fits:4}  {about}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let memory = ram.map_or("memory unknown".into(), |ram| format!("{} GB of memory", ram / 1_000_000_000));
    text + &format!("this machine: {memory}; models lie in {}\n", store.folder().display())
}

fn document(rows: &[Row], store: &Store, ram: Option<u64>) -> Value {
    let models = rows.iter().map(|row| {
        let state = match row.state {
            _ if row.file.is_none() => "built-in",
            State::There(_) => "there",
            State::Partial { .. } => "partial",
            State::Missing => "missing",
        };
        json!({
            "name": row.name,
            "about": row.model.as_ref().map(|model| &model.about),
            "repository": row.model.as_ref().and_then(|model| model.repository.as_ref()),
            "file": row.file,
            "path": row.file.as_ref().map(|file| store.path(file)),
            "size": row.bytes(),
            "state": state,
            "percent": row.percent(),
            "linked": row.linked,
            "memory_gb": row.model.as_ref().map(|model| model.ram_gb),
            "fits": row.fits(ram),
        })
    });
    let link: Option<&Path> = store.linked().is_some().then(|| store.link());
    json!({
        "models": models.collect::<Vec<_>>(),
        "folder": store.folder(),
        "link": link,
        "memory_gb": ram.map(|ram| ram / 1_000_000_000),
    })
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
