//! A directory.
//!
//! A file is written under `tmp/`, reaches the disk, and is renamed to its name: the rename is what commits it, and there
//! is no index that could be damaged. A writer holds a lock on its file in `tmp/` as long as it lives, so that others know
//! which leftovers nobody will finish. A power cut may lose the latest names, never half of a file under its name.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Entry, Error, Store};
use crate::Segment;

/// Files being written.
const ASIDE: &str = "tmp";
/// Folders below each other, at most: `<root>/<parent>/<file>`.
const DEPTH: usize = 3;

/// A directory that any number of processes can use at once.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    /// Why nothing can be written.
    read_only: Option<String>,
    /// Numbers the files that this process writes.
    written: AtomicU64,
}

impl Disk {
    /// Opens a directory, which is made if it is not there, for its owner only. One that cannot be written can be read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|e| Error::new(dir.display(), format_args!("cannot be made: {e}")))?;
        fs::read_dir(dir).map_err(|e| Error::new(dir.display(), e))?;
        let mut disk = Self { dir: dir.into(), read_only: None, written: AtomicU64::new(0) };
        disk.read_only = disk.try_writing().err().map(|e| e.to_string());
        if disk.read_only.is_none() {
            disk.sweep();
        }
        Ok(disk)
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn try_writing(&self) -> io::Result<()> {
        let aside = self.dir.join(ASIDE);
        match DirBuilder::new().mode(0o700).create(&aside) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let (path, _file) = self.aside()?;
        fs::remove_file(path)
    }

    /// Removes what dead writers left. A file whose lock can be had is nobody's.
    fn sweep(&self) {
        for entry in fs::read_dir(self.dir.join(ASIDE)).into_iter().flatten().flatten() {
            let left = File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
            if left {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// A new file in `tmp/`, locked as long as it is open.
    fn aside(&self) -> io::Result<(PathBuf, File)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos());
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(ASIDE).join(format!("{}-{now}-{number}", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        match file.try_lock() {
            // Where there are no locks, leftovers cannot be told from files under way, and nobody gets one to remove.
            Ok(()) | Err(TryLockError::Error(_)) => Ok((path, file)),
            Err(TryLockError::WouldBlock) => Err(io::Error::other("taken for a leftover by another process")),
        }
    }

    /// Writes aside, syncs, renames.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (aside, mut file) = self.aside()?;
        let written = file.write_all(bytes).and_then(|()| file.sync_data()).and_then(|()| commit(&aside, path));
        if written.is_err() {
            let _ = fs::remove_file(&aside);
        }
        written
    }

    /// The path of a name; `tmp/` and everything outside have none.
    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let plain = |part: &str| {
            let letters = part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'));
            letters && !part.is_empty() && !part.starts_with('.')
        };
        let parts = name.split('/').count();
        match name.split('/').all(plain) && parts <= DEPTH && !name.starts_with("tmp/") {
            true => Ok(self.dir.join(name)),
            false => Err(self.error(name, "not a name of this store")),
        }
    }

    fn error(&self, name: &str, what: impl std::fmt::Display) -> Error {
        Error::new(self.dir.join(name).display(), what)
    }

    fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        let file = match File::open(self.path(name)?) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.error(name, e)),
        };
        let length = file.metadata().map_or(0, |m| m.len()).min(most);
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(most).read_to_end(&mut bytes).map_err(|e| self.error(name, e))?;
        Ok(Some(bytes))
    }

    /// Adds what lies in the folder `name`, so many levels deep.
    fn walk(&self, name: &str, levels: usize, found: &mut Vec<Entry>) -> io::Result<()> {
        let entries = match fs::read_dir(self.dir.join(name)) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(|file| format!("{name}{file}")) else { continue };
            // What another process removes meanwhile is not there.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() && levels > 1 && name != ASIDE {
                self.walk(&format!("{name}/"), levels - 1, found)?;
            } else if meta.is_file() && self.path(&name).is_ok() {
                found.push(Entry { name, bytes: meta.len(), used: meta.modified()? });
            }
        }
        Ok(())
    }
}

/// Gives the file its name. Another process may remove the empty folder just then.
fn commit(aside: &Path, path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    let mut last = Ok(());
    for _ in 0..3 {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        last = fs::rename(aside, path);
        match &last {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            _ => break,
        }
    }
    last
}

impl Store for Disk {
    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        let mut found = Vec::new();
        let folder = prefix.strip_suffix('/').unwrap_or(prefix);
        if !folder.is_empty() {
            self.path(folder)?;
        }
        let levels = DEPTH - prefix.matches('/').count().min(DEPTH);
        self.walk(prefix, levels, &mut found).map_err(|e| self.error(prefix, e))?;
        Ok(found)
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let bytes = self.read(name, Segment::MOST_BYTES + 1)?;
        match bytes {
            Some(bytes) if bytes.len() as u64 > Segment::MOST_BYTES => Err(self.error(name, "larger than any segment")),
            bytes => Ok(bytes),
        }
    }

    fn get_start(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, Error> {
        self.read(name, most as u64)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        if let Some(why) = &self.read_only {
            return Err(self.error(name, why));
        }
        let path = self.path(name)?;
        if fs::metadata(&path).is_ok_and(|there| there.len() == bytes.len() as u64) {
            return Ok(());
        }
        self.write(&path, bytes).map_err(|e| self.error(name, e))
    }

    fn touch(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name)?;
        let touched = OpenOptions::new().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
        match touched {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            touched => touched.map_err(|e| self.error(name, e)),
        }
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name)?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            removed => removed.map_err(|e| self.error(name, e))?,
        }
        // Folders go with their last file.
        let folders = path.ancestors().skip(1).take_while(|folder| *folder != self.dir);
        let _ = folders.map(fs::remove_dir).take_while(Result::is_ok).count();
        Ok(())
    }

    fn read_only(&self) -> Option<String> {
        self.read_only.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open(dir: &Path) -> Disk {
        Disk::open(dir).unwrap()
    }

    fn names(disk: &Disk, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = disk.list(prefix).unwrap().into_iter().map(|e| e.name).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_put_is_there_for_everyone() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/b");
        let disk = open(&dir);
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(disk.list("").unwrap(), []);
        assert_eq!(disk.get("m/a/1.seg").unwrap(), None);
        disk.put("m/a/1.seg", b"one").unwrap();
        disk.put("m/b/2.seg", b"two").unwrap();
        disk.put("n/b/3.seg", b"three").unwrap();
        let other = open(&dir);
        assert_eq!(names(&other, ""), ["m/a/1.seg", "m/b/2.seg", "n/b/3.seg"]);
        assert_eq!(names(&other, "m/"), ["m/a/1.seg", "m/b/2.seg"]);
        assert_eq!(names(&other, "m/b/"), ["m/b/2.seg"]);
        assert_eq!(names(&other, "m/c/"), [""; 0]);
        assert_eq!(other.get("m/a/1.seg").unwrap().unwrap(), b"one");
        assert_eq!(other.get_start("n/b/3.seg", 2).unwrap().unwrap(), b"th");
        assert_eq!(other.get_start("n/b/3.seg", 9).unwrap().unwrap(), b"three");
        other.remove("m/a/1.seg").unwrap();
        other.remove("m/a/1.seg").unwrap();
        assert!(!dir.join("m/a").exists() && dir.join("m").exists());
        assert_eq!(disk.get("m/a/1.seg").unwrap(), None);
        assert_eq!(fs::read_dir(dir.join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_there_stays_unless_it_was_cut_off() {
        let home = tempfile::tempdir().unwrap();
        let disk = open(home.path());
        disk.put("a", b"whole").unwrap();
        disk.put("a", b"other").unwrap();
        assert_eq!(disk.get("a").unwrap().unwrap(), b"whole");
        fs::write(home.path().join("a"), b"wh").unwrap();
        disk.put("a", b"whole").unwrap();
        assert_eq!(disk.get("a").unwrap().unwrap(), b"whole");
    }

    #[test]
    fn use_is_remembered() {
        let home = tempfile::tempdir().unwrap();
        let disk = open(home.path());
        disk.put("a", b"1").unwrap();
        let file = File::options().append(true).open(home.path().join("a")).unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
        assert_eq!(disk.list("").unwrap()[0].used, UNIX_EPOCH);
        disk.touch("a").unwrap();
        assert!(disk.list("").unwrap()[0].used > UNIX_EPOCH);
        disk.touch("b").unwrap();
        assert_eq!(names(&disk, ""), ["a"]);
    }

    #[test]
    fn leftovers_go_and_what_is_being_written_stays() {
        let home = tempfile::tempdir().unwrap();
        let living = open(home.path());
        let (path, _file) = living.aside().unwrap();
        let leftover = home.path().join("tmp/1-1-1");
        fs::write(&leftover, b"half").unwrap();
        open(home.path());
        assert!(path.exists() && !leftover.exists());
    }

    #[test]
    fn names_stay_inside() {
        let home = tempfile::tempdir().unwrap();
        let disk = open(&home.path().join("store"));
        fs::write(home.path().join("secret"), b"secret").unwrap();
        for name in ["../secret", "/etc/passwd", "a/../../secret", "", "a//b", "tmp/x", "A", "a/b/c/d", ".hidden"] {
            assert!(disk.get(name).is_err(), "{name}");
            assert!(disk.put(name, b"x").is_err(), "{name}");
            assert!(disk.remove(name).is_err(), "{name}");
        }
        assert!(disk.list("../").is_err());
        assert_eq!(fs::read(home.path().join("secret")).unwrap(), b"secret");
    }

    #[test]
    fn strange_things_in_the_directory_are_passed_over() {
        let home = tempfile::tempdir().unwrap();
        let disk = open(home.path());
        fs::create_dir_all(home.path().join("a/b/c/d")).unwrap();
        fs::write(home.path().join("a/b/c/d/deep"), b"x").unwrap();
        fs::write(home.path().join("a/UPPER"), b"x").unwrap();
        std::os::unix::fs::symlink("/etc", home.path().join("a/etc")).unwrap();
        disk.put("a/b/1", b"x").unwrap();
        assert_eq!(names(&disk, ""), ["a/b/1"]);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_read() {
        let home = tempfile::tempdir().unwrap();
        open(home.path()).put("a/b", b"x").unwrap();
        // Also for root, to whom permissions mean nothing: a file where the folder of new files would be.
        fs::remove_dir(home.path().join("tmp")).unwrap();
        fs::write(home.path().join("tmp"), b"").unwrap();
        let disk = open(home.path());
        assert!(disk.read_only().is_some());
        assert_eq!(disk.get("a/b").unwrap().unwrap(), b"x");
        assert!(disk.put("a/c", b"x").is_err());
        assert!(Disk::open(&home.path().join("tmp")).is_err());
    }
}
