//! From a name to a file that is whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::network::{Clients, Trouble};
use crate::origin::{Origin, remove, with_suffix};
use crate::part::Part;
use crate::progress::{Meter, Progress};
use crate::settings::Settings;
use crate::store::make;
use crate::transfer::Transfer;
use crate::verify::{Kind, check_gguf};
use crate::{Error, Remote, Source, Store};

/// The file of a model, downloaded if it is not there; none for what is inside the program. A model that answers by itself
/// becomes the one to which the store's link points.
///
/// Blocks until the file is whole, and waits for another process that downloads the same file.
///
/// # Errors
/// See [`Error`]. What was downloaded stays in `FILE.part` unless it is no part of a model.
pub fn obtain(
    source: &Source,
    store: &Store,
    settings: &Settings,
    progress: &mut dyn Progress,
) -> Result<Option<PathBuf>, Error> {
    let (path, kind) = match source {
        Source::BuiltIn => return Ok(None),
        Source::File(path) => (path.clone(), gguf(path)?),
        Source::Remote(remote) => pull(remote, store, settings, progress)?,
    };
    let model = if let Source::Remote(remote) = source { remote.model.as_ref() } else { None };
    match kind {
        Kind::Main if model.is_none_or(|model| !model.drafting) => {
            if let Err(error) = store.point_at(&path) {
                progress.note(&format!("{error}; -m {} uses the model all the same", path.display()));
            }
        }
        Kind::Other if model.is_none() => {
            progress.note(&format!("{} is no deepseek4 model with all its layers; the link stays", path.display()));
        }
        _ => {}
    }
    Ok(Some(path))
}

fn pull(
    remote: &Remote,
    store: &Store,
    settings: &Settings,
    progress: &mut dyn Progress,
) -> Result<(PathBuf, Kind), Error> {
    let path = store.path(&remote.file);
    let part = with_suffix(&path, ".part");
    let mut pull = Pull { remote, settings, path: &path, part: &part, meter: Meter::new(progress) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::io(&path, "start downloading"))?;
    let kind = runtime.block_on(async {
        tokio::select! {
            kind = pull.run() => kind,
            () = settings.stopped() => {
                let kept = std::fs::metadata(&part).map_or(0, |m| m.len());
                Err(Error::Interrupted { part: part.clone(), kept })
            }
        }
    })?;
    Ok((path, kind))
}

/// One download.
struct Pull<'a> {
    remote: &'a Remote,
    settings: &'a Settings,
    path: &'a Path,
    part: &'a Path,
    meter: Meter<'a>,
}

impl Pull<'_> {
    async fn run(&mut self) -> Result<Kind, Error> {
        // First: aria2 makes a file as long as it will be, and its beginning comes early.
        self.refuse_leftovers()?;
        if let Some(kind) = self.there()? {
            return Ok(kind);
        }
        make(self.path.parent().unwrap_or(Path::new(".")))?;
        let mut part = Part::take(self.part, &mut self.meter).await?;
        // Whoever was waited for may have finished it.
        if let Some(kind) = self.there()? {
            part.remove()?;
            return Ok(kind);
        }
        match self.complete(&mut part).await {
            Ok(kind) => {
                part.finish(self.path)?;
                Ok(kind)
            }
            Err(error) => {
                // Only what can go on is kept.
                if part.nothing_there() {
                    remove(&Origin::path(self.path))?;
                    part.remove()?;
                }
                Err(error)
            }
        }
    }

    /// Whether the file is there, and what it is. The network is not asked.
    fn there(&self) -> Result<Option<Kind>, Error> {
        let Some(size) = std::fs::metadata(self.path).ok().map(|m| m.len()).filter(|size| *size > 0) else {
            return Ok(None);
        };
        let wrong = |problem: String| Error::content(self.path, problem);
        let origin = Origin::read(&Origin::path(self.path));
        if let Some(other) = origin.as_ref().filter(|origin| origin.source != self.remote.label()) {
            return Err(wrong(format!(
                "is there already and came from {}; --dir puts another one elsewhere",
                other.source
            )));
        }
        let expected = self.remote.model.as_ref().and_then(|m| m.size).or(origin.and_then(|o| o.size));
        if let Some(expected) = expected.filter(|expected| *expected != size) {
            return Err(wrong(format!("has {size} bytes and should have {expected}; remove it and pull again")));
        }
        let kind = check_gguf(self.path);
        kind.map(Some).map_err(|e| wrong(format!("is there but no whole model ({e}); remove it and pull again")))
    }

    /// Another program's download of the same file.
    fn refuse_leftovers(&self) -> Result<(), Error> {
        for file in [self.path, self.part] {
            let sidecar = with_suffix(file, ".aria2");
            if sidecar.exists() {
                let problem = "aria2 left an unfinished download here; finish it with aria2, or remove this file and the model file beside it";
                return Err(Error::content(&sidecar, problem));
            }
        }
        Ok(())
    }

    /// Gets all bytes and checks them; bytes of an earlier run that turn out wrong are thrown away once.
    async fn complete(&mut self, part: &mut Part) -> Result<Kind, Error> {
        let clients = Clients::new(&self.settings.patience)?;
        part.read_again(&mut self.meter).await?;
        let known = Origin::read(&Origin::path(self.path));
        if part.len() > 0 && known.is_some_and(|known| known.source != self.remote.label()) {
            self.meter.note("what was begun here came from elsewhere; beginning again");
            part.doubt();
        }
        loop {
            self.all_bytes(&clients, part).await?;
            match self.verified(part) {
                Ok(kind) => return Ok(kind),
                Err(problem) => {
                    let old = part.is_old();
                    part.restart()?;
                    if !old {
                        return Err(problem);
                    }
                    self.meter.note(&format!("{problem}; an earlier run left them, beginning again"));
                }
            }
        }
    }

    /// Tries until everything is there.
    async fn all_bytes(&mut self, clients: &Clients, part: &mut Part) -> Result<(), Error> {
        let (mut most, mut tries) = (part.len(), 0);
        loop {
            let trouble = self.transfer(clients, part).await;
            if part.len() > most {
                (most, tries) = (part.len(), 0);
            }
            tries += 1;
            let (why, wait) = match trouble {
                Ok(()) => return Ok(()),
                Err(Trouble::Over(error)) => return Err(error),
                Err(Trouble::Anew(why)) => {
                    part.doubt();
                    (why, None)
                }
                Err(Trouble::Again { why, after }) => {
                    let patience = &self.settings.patience;
                    let asked = after.map(|after| after.min(patience.asked_wait));
                    (why, Some(asked.unwrap_or_else(|| patience.wait_after(tries))))
                }
            };
            if tries >= self.settings.patience.tries {
                let kept = if part.len() > 0 { "; what is there is kept, and the same command goes on" } else { "" };
                let problem = format!("{why}, {tries} times in a row{kept}");
                return Err(Error::Server { from: self.remote.label(), problem });
            }
            match wait {
                None => self.meter.note(&format!("{why}; beginning again")),
                Some(wait) => {
                    self.meter.note(&format!("{why}; trying again{}", when(wait)));
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    async fn transfer(&mut self, clients: &Clients, part: &mut Part) -> Result<(), Trouble> {
        let (settings, remote, path, meter) = (self.settings, self.remote, self.path, &mut self.meter);
        Transfer { clients, settings, remote, path, part, meter }.run().await
    }

    /// What the bytes are, if they are what was published.
    fn verified(&self, part: &Part) -> Result<Kind, Error> {
        let wrong = |problem: String| Error::Server { from: self.remote.label(), problem };
        let origin = Origin::read(&Origin::path(self.path));
        if let Some(expected) = origin.and_then(|origin| origin.sha256) {
            let found = part.sha256();
            if found != expected {
                return Err(wrong(format!("the bytes are damaged (their SHA-256 is {found}, not {expected})")));
            }
        }
        check_gguf(self.part).map_err(|e| wrong(format!("what came is no whole model ({e})")))
    }
}

/// When a wait is over; one that nobody notices is not named.
fn when(wait: Duration) -> String {
    match wait.as_secs_f64().round() {
        seconds if seconds >= 1.0 => format!(" in {seconds} s"),
        _ => String::new(),
    }
}

/// What a file of the user's is.
fn gguf(path: &Path) -> Result<Kind, Error> {
    check_gguf(path).map_err(|e| Error::content(path, format!("is no model ({e})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waits_that_somebody_notices_are_named() {
        let waits = [1, 499, 1000, 2000, 60_000].map(|ms| when(Duration::from_millis(ms)));
        assert_eq!(waits, ["", "", " in 1 s", " in 2 s", " in 60 s"]);
    }
}
