//! Where model files lie.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::origin::{Origin, with_suffix};

/// The name of the link to the model that is used.
const LINK: &str = "ds4flash.gguf";

/// A folder of model files, and the link that says which of them is used.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    link: PathBuf,
}

/// How much of a file is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// All of it: so many bytes.
    There(u64),
    /// The next pull goes on from here.
    Partial {
        /// Bytes that are there.
        have: u64,
        /// Bytes of the whole, if the server said.
        total: Option<u64>,
    },
    /// Nothing.
    Missing,
}

impl Store {
    /// The store of a state directory: `$DS4_GGUF_DIR`, or `support/gguf` in it; the link lies beside that folder.
    pub fn at(state: &Path) -> Self {
        let moved = std::env::var_os("DS4_GGUF_DIR").filter(|dir| !dir.is_empty());
        Self::new(&moved.map_or_else(|| state.join("support/gguf"), PathBuf::from), None)
    }

    /// A folder, and where the link lies if not beside it.
    pub fn new(folder: &Path, link: Option<&Path>) -> Self {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
        let beside = folder.parent().unwrap_or(&folder).join(LINK);
        let link = link.map_or(beside, |link| std::path::absolute(link).unwrap_or_else(|_| link.into()));
        Self { folder, link }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The link, whether it is there or not.
    pub fn link(&self) -> &Path {
        &self.link
    }

    /// Where a file of this name is or will be.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// How much of a file is there.
    pub fn state(&self, file: &str) -> State {
        let path = self.path(file);
        let size = |path: &Path| std::fs::metadata(path).ok().filter(|m| m.is_file() && m.len() > 0).map(|m| m.len());
        if let Some(size) = size(&path) {
            return State::There(size);
        }
        match size(&with_suffix(&path, ".part")) {
            Some(have) => State::Partial { have, total: Origin::read(&Origin::path(&path)).and_then(|o| o.size) },
            None => State::Missing,
        }
    }

    /// The file to which the link points, if it does.
    pub fn linked(&self) -> Option<PathBuf> {
        let target = std::fs::read_link(&self.link).ok()?;
        Some(self.link.parent()?.join(target))
    }

    /// The names of all files that are there and of those that have begun.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let models = names.filter_map(|name| {
            let whole = name.strip_suffix(".part").unwrap_or(&name);
            whole.ends_with(".gguf").then(|| whole.to_owned())
        });
        let mut files: Vec<String> = models.collect();
        files.sort();
        files.dedup();
        files
    }

    /// Makes the link point to a file, in one step. A file that lies where the link should be stays.
    ///
    /// # Errors
    /// Why the link was left as it is.
    pub(crate) fn point_at(&self, file: &Path) -> Result<(), Error> {
        // The link itself, or what leads through it, would make a circle.
        if let (Ok(asked), Ok(there)) = (file.canonicalize(), self.link.canonicalize())
            && asked == there
        {
            return Ok(());
        }
        if std::fs::symlink_metadata(&self.link).is_ok_and(|m| !m.is_symlink()) {
            return Err(Error::content(&self.link, "is no link and stays as it is"));
        }
        let folder = self.link.parent().unwrap_or(Path::new("/"));
        make(folder)?;
        // Relative inside, so that both can be moved together.
        let target = file.strip_prefix(folder).unwrap_or(file);
        if std::fs::read_link(&self.link).is_ok_and(|there| there == target) {
            return Ok(());
        }
        // One name for all, so that nothing of killed processes gathers.
        let aside = with_suffix(&self.link, ".tmp");
        crate::origin::remove(&aside)?;
        match std::os::unix::fs::symlink(target, &aside).and_then(|()| std::fs::rename(&aside, &self.link)) {
            // Another process links at this moment: its link counts.
            Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => Ok(()),
            linked => linked.map_err(Error::io(&self.link, "link")),
        }
    }
}

/// Makes a folder that may be there already, for its owner alone.
pub(crate) fn make(folder: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(Error::io(folder, "make"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_link_changes_in_one_step_and_never_replaces_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(&folder.path().join("gguf"), None);
        assert_eq!(store.linked(), None);
        for name in ["a.gguf", "b.gguf", "b.gguf"] {
            store.point_at(&store.path(name)).expect("linked");
            assert_eq!(store.linked(), Some(store.path(name)));
            assert_eq!(std::fs::read_link(store.link()).expect("a link"), Path::new("gguf").join(name));
        }
        store.point_at(Path::new("/elsewhere/c.gguf")).expect("linked");
        assert_eq!(store.linked(), Some("/elsewhere/c.gguf".into()));

        std::fs::remove_file(store.link()).expect("removed");
        std::fs::write(store.link(), "81 GB").expect("written");
        store.point_at(&store.path("a.gguf")).expect_err("a file is no link");
        assert_eq!(std::fs::read(store.link()).expect("there"), b"81 GB");
    }

    #[test]
    fn the_link_never_leads_to_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(&folder.path().join("gguf"), None);
        make(store.folder()).expect("made");
        std::fs::write(store.path("a.gguf"), "81 GB").expect("written");
        store.point_at(&store.path("a.gguf")).expect("linked");
        let round = folder.path().join("round.gguf");
        std::os::unix::fs::symlink(store.link(), &round).expect("linked");
        for file in [store.link(), &round] {
            store.point_at(file).expect("linked");
            assert_eq!(store.linked(), Some(store.path("a.gguf")));
            assert_eq!(std::fs::read(store.link()).expect("there"), b"81 GB");
        }
    }

    #[test]
    fn what_a_killed_process_left_does_not_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(&folder.path().join("gguf"), None);
        std::os::unix::fs::symlink("gguf/old.gguf", with_suffix(store.link(), ".tmp")).expect("linked");
        store.point_at(&store.path("a.gguf")).expect("linked");
        assert_eq!(store.linked(), Some(store.path("a.gguf")));
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn folders_are_made_for_their_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(&folder.path().join("ds4/support/gguf"), None);
        store.point_at(Path::new("/elsewhere/c.gguf")).expect("linked");
        for made in ["ds4", "ds4/support"] {
            let mode = folder.path().join(made).metadata().expect("made").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{made}");
        }
    }

    #[test]
    fn files_are_there_partly_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::new(folder.path(), None);
        assert!(store.files().is_empty());
        assert_eq!(store.state("a.gguf"), State::Missing);
        std::fs::write(store.path("a.gguf"), "").expect("written");
        assert_eq!(store.state("a.gguf"), State::Missing, "an empty file is none");
        std::fs::write(store.path("a.gguf.part"), "12345").expect("written");
        assert_eq!(store.state("a.gguf"), State::Partial { have: 5, total: None });
        let origin = Origin { source: "hf://me/mine/a.gguf".into(), size: Some(10), sha256: None, etag: None };
        origin.write(&Origin::path(&store.path("a.gguf"))).expect("written");
        assert_eq!(store.state("a.gguf"), State::Partial { have: 5, total: Some(10) });
        std::fs::write(store.path("a.gguf"), "1234567890").expect("written");
        assert_eq!(store.state("a.gguf"), State::There(10));
        assert_eq!(store.files(), ["a.gguf"]);
    }
}
