//! `ds4 pull`: a model file, downloaded if it is not there.

pub(crate) mod display;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches, Parser};
use ds4_engine::Machine;
use ds4_hub::{Catalogue, Error, Progress, Settings, Source, Store};
use ds4_supervise::StateDir;

use crate::args::explain;
use crate::failure::Failure;
use crate::interrupt;

use display::Display;

/// Downloads a model, or finds it where it is, and prints its path.
#[derive(Parser)]
#[command(name = "ds4 pull", bin_name = "ds4 pull", disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Pull {
    /// A name of `ds4 models`, hf://OWNER/REPOSITORY/FILE, a URL, or the path of a file [default: what fits this machine's
    /// memory]
    #[arg(value_name = "NAME|hf://…|URL|PATH")]
    what: Option<String>,

    /// Hugging Face token [default: $HF_TOKEN, then the file token in $HF_HOME or ~/.cache/huggingface]
    #[arg(long, value_name = "T")]
    token: Option<String>,

    #[command(flatten)]
    place: Place,

    /// One JSON object a line on stdout: events progress, done (with path) and failed (with message)
    #[arg(long)]
    json: bool,
}

/// The flags that say where models lie.
#[derive(clap::Args)]
pub(crate) struct Place {
    /// Folder of model files [default: $DS4_GGUF_DIR, or support/gguf in $DS4_DIR, ~/.pi/ds4]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// The link to the model that is used [default: ds4flash.gguf beside the folder]
    #[arg(long, value_name = "FILE")]
    link: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
A download can be stopped at any time; the same command goes on where it was. A file gets
its name when it is whole, has the published SHA-256 and is a GGUF. What is there is not
downloaded again, and two pulls of one file do it once. Models that answer by themselves
get the link ds4flash.gguf; drafting weights (mtp) leave it alone.

Examples:
  ds4 pull                                    what fits this machine, and why
  ds4 pull q2-imatrix                         V4 Flash for 96 GB of memory and more
  ds4 pull hf://owner/repository/file.gguf    any GGUF of Hugging Face
  ds4 -m \"$(ds4 pull q2-imatrix)\" -p Hello    download and run

Environment: HF_TOKEN, HF_HOME, HF_ENDPOINT (a mirror), DS4_GGUF_DIR, DS4_DIR,
HTTPS_PROXY, ALL_PROXY, NO_PROXY.
Exit codes: 0 success, 1 failure, 2 bad usage, 130 interrupted.";

impl Place {
    /// The store that they say.
    pub(crate) fn store(&self) -> Result<Store, Error> {
        let folder = match &self.dir {
            Some(folder) => folder.clone(),
            None => store()?.folder().into(),
        };
        Ok(Store::new(&folder, self.link.as_deref()))
    }
}

/// The store of the state directory that the environment names.
pub(crate) fn store() -> Result<Store, Error> {
    let dir = StateDir::from_environment().map_err(|e| Error::Usage(e.to_string()))?;
    Ok(Store::at(dir.root()))
}

/// The command line.
pub(crate) fn command() -> clap::Command {
    Pull::command()
}

/// `ds4 pull …`
pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let matches = command().try_get_matches_from(args).map_err(|e| explain("ds4 pull", &e))?;
    let pull = Pull::from_arg_matches(&matches).map_err(|e| explain("ds4 pull", &e))?;
    interrupt::install()?;
    let mut display = Display::new(pull.json);
    let path = pull.obtain(&mut display);
    display.clear();
    match path {
        Ok(path) if pull.json => display::event(&serde_json::json!({"event": "done", "path": path})),
        Ok(path) => writeln!(std::io::stdout(), "{}", path.display())?,
        Err(error) if pull.json => {
            display.failed(&error.to_string());
            return Err(Failure::silent(code(&error)));
        }
        Err(error) => return Err(failure(&error)),
    }
    Ok(())
}

impl Pull {
    /// The file; for the model inside the program its name, which `--model` takes as well.
    fn obtain(&self, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
        let catalogue = Catalogue::new();
        let store = self.place.store()?;
        let ram = Machine::measure().map(|machine| machine.total);
        let source = match &self.what {
            Some(what) => Source::parse(what, &catalogue)?,
            None => {
                let pick = catalogue.pick(ram, cfg!(target_os = "macos"))?;
                progress.note(&pick.why);
                pick.note.iter().for_each(|note| progress.note(note));
                Source::parse(&pick.model.name, &catalogue)?
            }
        };
        warn_of_memory(&source, ram, progress);
        let settings = settings(self.token.as_deref())?;
        let _guard = interrupt::watch(Arc::clone(&settings.stop));
        let path = ds4_hub::obtain(&source, &store, &settings, progress)?;
        if path.is_none() {
            progress.note("mini is inside ds4: nothing to download (ds4 -p \"Hello\" answers with it)");
        }
        Ok(path.unwrap_or_else(|| Path::new("mini").into()))
    }
}

/// As the environment says.
pub(crate) fn settings(token: Option<&str>) -> Result<Settings, Error> {
    Settings::new(token, &|name| std::env::var_os(name))
}

/// A model that is too large for this machine is fetched all the same: it may be for another one.
fn warn_of_memory(source: &Source, ram: Option<u64>, progress: &mut dyn Progress) {
    let model = if let Source::Remote(remote) = source { remote.model.as_ref() } else { None };
    if let (Some(model), Some(ram)) = (model, ram)
        && !model.fits(ram)
    {
        let (name, needs, has) = (&model.name, model.ram_gb, ram / 1_000_000_000);
        progress.note(&format!(
            "{name} needs {needs} GB of memory and this machine has {has} GB; --allow-oversubscribe runs it from the disk, slowly"
        ));
    }
}

/// How the program ends because of an error of the hub.
pub(crate) fn failure(error: &Error) -> Failure {
    match code(error) {
        130 => Failure::interrupted_with(error.to_string()),
        2 => Failure::usage(error.to_string()),
        _ => Failure::from(error),
    }
}

fn code(error: &Error) -> u8 {
    match error {
        Error::Interrupted { .. } => 130,
        Error::Usage(_) => 2,
        _ => 1,
    }
}
