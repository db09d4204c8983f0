//! From flags to a running engine.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ds4_engine::{Engine, Machine, Model, Options, Plan, load_tokenizer};
use ds4_gguf::File;
use ds4_hub::{Catalogue, State};
use ds4_kv::Tier;
use ds4_model::Numerics;
use ds4_tokenizer::Tokenizer;

use crate::builtin;
use crate::failure::Failure;
use crate::lock::InstanceLock;
use crate::progress::Bar;
use crate::runtime::Runtime;

/// An engine, and the lock that lets it run.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) model: Arc<Model>,
    /// Whether it is the model inside the program.
    pub(crate) builtin: bool,
    _lock: InstanceLock,
}

impl Opened {
    /// Opens what the flags say for one conversation, prints the memory plan and holds to it.
    pub(crate) fn new(runtime: &Runtime) -> Result<Self, Failure> {
        Self::several(runtime, Some(1), Options::default(), Vec::new())
    }

    /// The same for so many conversations at once, or as many as suit the machine, with tiers below memory. The flags
    /// override `options`.
    pub(crate) fn several(
        runtime: &Runtime,
        sessions: Option<usize>,
        options: Options,
        tiers: Vec<Tier>,
    ) -> Result<Self, Failure> {
        let lock = InstanceLock::take()?;
        let path = model_path(runtime.model.as_deref())?;
        let named = runtime.model.is_some() || variable().is_some();
        if path.is_none() && !named {
            eprintln!("ds4: {}", builtin::NOTICE);
        }
        let file = open_file(path.as_ref())?;
        if !runtime.allow_oversubscribe {
            // A model that does not fit is better thrown out of memory in small pieces.
            file.use_large_pages();
        }
        if runtime.warm_weights {
            let bar = Bar::new("reading weights");
            file.touch(|done, total| bar.show(done, total));
        }
        let mut model = Model::from_file(file)?;
        if let Some(path) = &runtime.mtp {
            model.add_mtp(path)?;
            eprintln!("ds4: drafting weights {} fit; drafting is not built yet and stays off", path.display());
        }
        let model = Arc::new(model);
        let options = Options { context: runtime.ctx, ..options };
        let engine = start(runtime, &model, path.as_ref(), sessions, options, tiers)?;
        Ok(Self { engine, model, builtin: path.is_none(), _lock: lock })
    }

    /// Whether there is room for another context once this engine is gone.
    pub(crate) fn check(&self, runtime: &Runtime, context: usize) -> Result<(), Failure> {
        let Some(machine) = Machine::measure() else { return Ok(()) };
        let available = machine.available.saturating_add(self.engine.plan().anonymous()).min(machine.total);
        let machine = Machine { available, ..machine };
        let options = Options { context, pool: None, ..*self.engine.options() };
        let options = options.fit(&self.model, Some(&machine), Some(1));
        Ok(Plan::new(&self.model, &options).check(&machine, runtime.allow_oversubscribe)?)
    }

    /// Starts again with another context, or with the one there was where memory went elsewhere since the check.
    pub(crate) fn restart(self, runtime: &Runtime, context: usize) -> Result<Self, Failure> {
        let Self { engine, model, builtin, _lock } = self;
        let before = engine.options().context;
        drop(engine);
        let with = |context| Options { context, ..Options::default() };
        let start = |context| start(runtime, &model, None, Some(1), with(context), Vec::new());
        let engine = start(context).or_else(|failure| {
            failure.report();
            start(before)
        })?;
        Ok(Self { engine, model, builtin, _lock })
    }
}

fn start(
    runtime: &Runtime,
    model: &Arc<Model>,
    path: Option<&PathBuf>,
    sessions: Option<usize>,
    options: Options,
    tiers: Vec<Tier>,
) -> Result<Engine, Failure> {
    let numerics = if runtime.quality { Numerics::QUALITY } else { Numerics::DEFAULT };
    let oversubscribe = runtime.allow_oversubscribe;
    let options = Options { numerics, threads: threads(runtime)?, oversubscribe, ..options };
    let machine = Machine::measure();
    let options = options.fit(model, machine.as_ref(), sessions);
    let plan = Plan::new(model, &options);
    eprintln!("ds4: context {}{}, memory: {plan}", options.context, shared(&options));
    let larger = machine.is_some_and(|m| plan.weights + plan.anonymous() > m.available);
    if let Some(path) = path.filter(|_| larger && oversubscribe) {
        warn_of_disk(model, path)?;
    }
    Ok(Engine::start_with(Arc::clone(model), options, tiers)?)
}

/// How conversations share memory, if there are several.
fn shared(options: &Options) -> String {
    match options.sessions {
        1 => String::new(),
        n => format!(" for each of {n} sessions, {} tokens in all", options.pool_tokens()),
    }
}

/// A model larger than memory runs at the disk's speed: says which.
fn warn_of_disk(model: &Model, path: &Path) -> Result<(), Failure> {
    let bytes_per_second = ds4_engine::disk_rate(path)?;
    let seconds = model.weights.bytes_per_token() as f64 / bytes_per_second;
    eprintln!(
        "ds4: the model is larger than free memory; from this disk ({:.0} MB/s) expect about {seconds:.1} s a token",
        bytes_per_second / 1e6
    );
    Ok(())
}

/// `-m` or `$DS4_MODEL`, a file or a name of `ds4 models`; without them `./ds4flash.gguf`, then the model to which the
/// store's link points. None for the built-in model.
pub(crate) fn model_path(named: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    if let Some(name) = named.map(PathBuf::from).or_else(variable) {
        return by_name(name);
    }
    if let Some(here) = existing(Path::new("ds4flash.gguf"))? {
        return Ok(Some(here));
    }
    // Without a home there is no store.
    crate::pull::store().map_or(Ok(None), |store| existing(store.link()))
}

/// `$DS4_MODEL`
fn variable() -> Option<PathBuf> {
    std::env::var_os("DS4_MODEL").filter(|name| !name.is_empty()).map(PathBuf::from)
}

/// A model file that need not be there; but a link to nowhere, or a file that cannot be seen, is no reason to let the
/// built-in model answer.
pub(crate) fn existing(path: &Path) -> Result<Option<PathBuf>, Failure> {
    let why = match std::fs::metadata(path) {
        Ok(_) => return Ok(Some(path.into())),
        Err(why) => why,
    };
    match (std::fs::read_link(path), why.kind()) {
        (Ok(target), _) => Err(Failure::from(format!(
            "{} points to {}: {why}; put the file back, remove the link, or name another model (-m mini is the built-in one)",
            path.display(),
            target.display()
        ))),
        (Err(_), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        (Err(_), _) => Err(Failure::from(format!("{}: {why}", path.display()))),
    }
}

/// A model that was downloaded, by its published name or by that of its file; else the name is a file's.
fn by_name(name: PathBuf) -> Result<Option<PathBuf>, Failure> {
    let catalogue = Catalogue::new();
    if let Some(model) = name.to_str().and_then(|text| catalogue.find(text)) {
        let Some(file) = &model.file else { return Ok(None) };
        let store = crate::pull::store()?;
        return match store.state(file) {
            State::There(_) => Ok(Some(store.path(file))),
            _ => Err(Failure::usage(format!("{0} is not here; ds4 pull {0} downloads it", model.name))),
        };
    }
    if !name.exists()
        && let Some(text) = name.to_str()
        && let Ok(store) = crate::pull::store()
        && store.files().iter().any(|file| file == text)
    {
        return Ok(Some(store.path(text)));
    }
    Ok(Some(name))
}

fn open_file(path: Option<&PathBuf>) -> Result<File, Failure> {
    match path {
        Some(path) => Ok(File::open(path)?),
        None => Ok(builtin::open()?),
    }
}

fn threads(runtime: &Runtime) -> Result<usize, Failure> {
    if let Some(threads) = runtime.threads {
        return Ok(threads);
    }
    match std::env::var("DS4_THREADS") {
        Ok(text) => crate::args::threads(&text)
            .map_err(|why| Failure::usage(format!("invalid value for DS4_THREADS: {text} ({why})"))),
        Err(_) => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
    }
}

/// The tokenizer alone: no weights, no lock.
pub(crate) fn tokenizer(runtime: &Runtime) -> Result<Tokenizer, Failure> {
    tokenizer_of(runtime.model.as_deref())
}

/// The tokenizer of a model that may be named.
pub(crate) fn tokenizer_of(model: Option<&Path>) -> Result<Tokenizer, Failure> {
    Ok(load_tokenizer(&open_file(model_path(model)?.as_ref())?)?)
}

/// `--inspect`
pub(crate) fn inspect(runtime: &Runtime) -> Result<(), Failure> {
    let file = open_file(model_path(runtime.model.as_deref())?.as_ref())?;
    crate::lab::print_summary(&file)
}
