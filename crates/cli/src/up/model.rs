//! Which model a new server gets.

use std::path::Path;
use std::sync::Arc;

use ds4_engine::Machine;
use ds4_hub::{Catalogue, Progress, Source, Store};
use ds4_supervise::{Model, StateDir, Stop};

use crate::failure::Failure;
use crate::open::existing;
use crate::pull;
use crate::pull::display::Display;
use crate::supervised::{SIGNALS, failure};

/// A name for whatever runs, the linked model, or what suits this machine's memory.
pub(super) const AUTO: &str = "auto";

/// Finds models, and downloads those that are not there.
pub(super) struct Chooser<'a> {
    pub(super) dir: &'a StateDir,
    pub(super) stop: &'a Stop,
    /// Whether what is to be said are JSON objects.
    pub(super) events: bool,
}

impl Chooser<'_> {
    fn store(&self) -> Store {
        Store::at(self.dir.root())
    }

    /// The model that a name means. One of the catalogue, or one with an address, is downloaded if it is not there.
    pub(super) fn named(&self, origin: &str, name: &str) -> Result<Model, Failure> {
        let store = self.store();
        if store.files().iter().any(|file| file == name) && !Path::new(name).exists() {
            return file(&store.path(name));
        }
        match Source::parse(name, &Catalogue::new()).map_err(|e| Failure::usage(format!("{origin} {e}")))? {
            Source::BuiltIn => Ok(Model::Builtin),
            Source::File(path) => file(&path),
            source => self.obtain(&source, &mut Display::new(self.events)),
        }
    }

    /// The linked model; without one what suits this machine's memory, downloaded if it is not there, or, unless that is
    /// wanted, the built-in one.
    pub(super) fn unnamed(&self, fitting: bool) -> Result<Model, Failure> {
        if let Some(link) = existing(self.store().link())? {
            return file(&link);
        }
        let (catalogue, mut display) = (Catalogue::new(), Display::new(self.events));
        if !fitting {
            display.note(crate::builtin::NOTICE);
            return Ok(Model::Builtin);
        }
        let ram = Machine::measure().map(|machine| machine.total);
        let pick = catalogue.pick(ram, cfg!(target_os = "macos")).map_err(|e| pull::failure(&e))?;
        display.note(&pick.why);
        pick.note.iter().for_each(|note| display.note(note));
        let source = Source::parse(&pick.model.name, &catalogue).map_err(|e| pull::failure(&e))?;
        self.obtain(&source, &mut display)
    }

    /// The file of a published model.
    fn obtain(&self, source: &Source, display: &mut Display) -> Result<Model, Failure> {
        let settings = pull::settings(None).map_err(|e| pull::failure(&e))?;
        for signal in SIGNALS {
            let handled = signal_hook::flag::register(signal, Arc::clone(&settings.stop));
            handled.map_err(|e| format!("signal {signal} cannot be handled: {e}"))?;
        }
        let path = ds4_hub::obtain(source, &self.store(), &settings, display);
        display.clear();
        self.stop.check().map_err(failure)?;
        file(&path.map_err(|e| pull::failure(&e))?.ok_or_else(|| Failure::usage("a model without a file"))?)
    }
}

/// A file that can be a model, before a server that runs another one is ended for it; by its own name, since a link may point
/// elsewhere tomorrow.
fn file(path: &Path) -> Result<Model, Failure> {
    ds4_gguf::File::open(path)?;
    let path = std::fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Model::File(path))
}
