//! The lifecycle lock: who starts, stops or adopts a server does so alone.
//!
//! The truth is a lock of the kernel on `lifecycle.lock`, which its owner cannot lose by age and cannot keep after its death.
//! Whoever has it then makes the folder `lock/` with `owner.json`, which programs that know nothing else go by: it is theirs
//! to make as well, and is taken away only from an owner that is dead. Such programs count a folder of more than a minute as
//! abandoned, so an owner that takes long writes it again and again.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::json::aside;
use crate::records::Owner;
use crate::{Error, Found, StateDir, Stop, read_json, write_json};

/// Held until it is dropped.
#[derive(Debug)]
pub struct LifecycleLock {
    dir: StateDir,
    fresh: Option<(Sender<()>, JoinHandle<()>)>,
    _truth: File,
}

/// How long a folder may be without a readable owner: its maker writes that at once.
const NAMELESS: Duration = Duration::from_secs(5);
/// Between two tries.
const RETRY: Duration = Duration::from_millis(100);
/// How often the folder is written again.
const FRESH: Duration = Duration::from_secs(10);

/// Since when a folder without an owner has been seen, and which: what there is to remember between two tries.
#[derive(Debug, Default)]
pub struct Nameless(Option<(Instant, u64)>);

impl LifecycleLock {
    /// Waits for it, at most until `deadline`.
    pub fn take(dir: &StateDir, deadline: Instant, stop: &Stop) -> Result<Self, Error> {
        let mut nameless = Nameless::default();
        loop {
            if let Some(lock) = Self::try_take(dir, &mut nameless)? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                let (path, owner) = (dir.lock(), owner_in_words(dir));
                let path = path.display();
                return Err(Error::Failed(format!("Timed out waiting for ds4 lifecycle lock at {path}; {owner}")));
            }
            stop.sleep(RETRY)?;
        }
    }

    /// Takes it unless somebody who is alive has it: waits no longer than it takes to see that a folder is abandoned.
    pub fn take_from_the_dead(dir: &StateDir) -> Result<Option<Self>, Error> {
        let (start, mut nameless) = (Instant::now(), Nameless::default());
        loop {
            if let Some(lock) = Self::try_take(dir, &mut nameless)? {
                return Ok(Some(lock));
            }
            let lives = owner(dir).there().is_some_and(|owner| owner.lives());
            if lives || start.elapsed() > NAMELESS + 10 * RETRY {
                return Ok(None);
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Takes it if nobody has it. Who tries again and again does so with the same `nameless`.
    pub fn try_take(dir: &StateDir, nameless: &mut Nameless) -> Result<Option<Self>, Error> {
        let path = dir.lifecycle_lock();
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let truth = options.open(&path).map_err(Error::file(&path, "open"))?;
        match truth.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(Error::file(&path, "lock")(e)),
        }
        let folder = dir.lock();
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                if is_abandoned(&folder, nameless) {
                    remove(&folder, |owner| owner.is_none_or(|owner| !owner.lives()));
                }
                return Ok(None); // another try makes it, if nobody else does
            }
            Err(e) => return Err(Error::file(&folder, "make this folder")(e)),
        }
        if write_json(&folder.join("owner.json"), &Owner::new()).is_err() {
            // A full disk, say: without its visible form the lock still holds, and a server can be stopped.
            let _ = std::fs::remove_dir_all(&folder);
        }
        Ok(Some(Self { dir: dir.clone(), fresh: Some(keep_fresh(dir)), _truth: truth }))
    }
}

impl Drop for LifecycleLock {
    fn drop(&mut self) {
        if let Some((done, thread)) = self.fresh.take() {
            drop(done);
            let _ = thread.join();
        }
        let this = std::process::id();
        remove(&self.dir.lock(), |owner| owner.is_some_and(|owner| owner.pid == this));
    }
}

/// Who has the lock, as far as the folder says.
pub(crate) fn owner(dir: &StateDir) -> Found<Owner> {
    read_json(&dir.lock().join("owner.json"))
}

/// The same as a part of a sentence.
pub(crate) fn owner_in_words(dir: &StateDir) -> String {
    match owner(dir) {
        Found::There(owner) => {
            let what = crate::process::command_line(owner.pid).unwrap_or_else(|| "which has ended".into());
            format!("its owner is process {} ({what})", owner.pid)
        }
        Found::Unreadable(why) => format!("its owner is unknown: {why}"),
        Found::Nothing => "its owner is unknown".into(),
    }
}

/// Whether nobody will come back to a folder. Asked by whoever has the truth, so that no two ask at a time.
fn is_abandoned(folder: &Path, nameless: &mut Nameless) -> bool {
    if let Found::There(owner) = read_json::<Owner>(&folder.join("owner.json")) {
        nameless.0 = None;
        return !owner.lives();
    }
    // The age is measured here, not by the clock, which may be set.
    let Ok(inode) = std::fs::metadata(folder).map(|about| about.ino()) else { return false };
    match nameless.0 {
        Some((since, seen)) if seen == inode => since.elapsed() >= NAMELESS,
        _ => {
            nameless.0 = Some((Instant::now(), inode));
            false
        }
    }
}

/// Removes the folder at once for all who look, if it is still the one that is meant.
fn remove(folder: &Path, is_meant: impl Fn(Option<&Owner>) -> bool) {
    let read = |folder: &Path| read_json::<Owner>(&folder.join("owner.json")).there();
    if !is_meant(read(folder).as_ref()) {
        return;
    }
    let away = aside(folder, "stale");
    if std::fs::rename(folder, &away).is_err() {
        return;
    }
    // A program that does not know the truth may have removed it and made its own in between.
    if !is_meant(read(&away).as_ref()) && std::fs::rename(&away, folder).is_ok() {
        return;
    }
    // What stays is swept later.
    let _ = std::fs::remove_dir_all(&away).or_else(|_| std::fs::remove_file(&away));
}

fn keep_fresh(dir: &StateDir) -> (Sender<()>, JoinHandle<()>) {
    let (done, ended) = channel();
    let path = dir.lock().join("owner.json");
    let thread = std::thread::spawn(move || {
        while ended.recv_timeout(FRESH) == Err(RecvTimeoutError::Timeout) {
            // The rename changes the folder's time.
            let _ = write_json(&path, &Owner::new());
        }
    });
    (done, thread)
}
