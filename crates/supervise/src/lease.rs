//! Leases: the processes that need the server.
//!
//! A lease is written once; its holder confirms it by touching the file, which cannot bring back a lease that was released
//! in between, as writing it again could.

use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::dir::entries;
use crate::process;
use crate::records::LeaseRecord;
use crate::{Error, FileLock, Found, StateDir, Stop, Timings, read_json, write_json};

/// A file in the folder of leases, and what it is.
#[derive(Debug)]
pub struct Lease {
    /// Where.
    pub path: PathBuf,
    /// What it says.
    pub record: Found<LeaseRecord>,
    /// When it was last confirmed.
    pub confirmed: SystemTime,
}

impl Lease {
    /// Whether its process is there, whenever it was confirmed.
    pub fn lives(&self) -> bool {
        matches!(&self.record, Found::There(record) if record.lives())
    }

    /// Whether it counts by the clock.
    pub fn is_valid(&self, ttl: Duration) -> bool {
        // One from the future is fresh: the clock was set.
        self.lives() && self.confirmed.elapsed().unwrap_or_default() <= ttl
    }
}

/// All files that could be leases.
pub fn all(dir: &StateDir) -> Vec<Lease> {
    let named = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
    let lease = |path: PathBuf| {
        let confirmed = std::fs::metadata(&path).and_then(|about: Metadata| about.modified()).ok()?;
        Some(Lease { record: read_json(&path), path, confirmed })
    };
    entries(&dir.clients()).into_iter().filter(named).filter_map(lease).collect()
}

/// Writes the lease of a process.
pub fn take(dir: &StateDir, pid: u32, cwd: &str) -> Result<(), Error> {
    dir.create()?;
    let gone = || Error::Failed(format!("there is no process {pid}, so nothing would end its lease"));
    let start = process::start_of(pid).ok_or_else(gone)?;
    write_json(&dir.lease(pid), &LeaseRecord::of(pid, start, cwd.into()))
}

/// Takes a process's lease back. Whether there was one.
pub fn release(dir: &StateDir, pid: u32) -> Result<bool, Error> {
    let path = dir.lease(pid);
    match std::fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::file(&path, "remove")(e)),
    }
}

/// Removes what is no lease, and those of processes that are gone. Those that were not confirmed in time stay: their
/// process may have slept with the machine, and the watchdog knows how long it was awake.
pub fn prune(dir: &StateDir) {
    for lease in all(dir).iter().filter(|lease| !lease.lives()) {
        let _ = std::fs::remove_file(&lease.path);
    }
}

/// Whether somebody holds the lease of this process.
pub fn is_held(dir: &StateDir, pid: u32) -> Result<bool, Error> {
    Ok(FileLock::holder(&dir.lease_lock(pid))?.is_some())
}

/// Holds the lease of a process until it ends or the lease is released: comes back at once when another process does.
pub fn hold(dir: &StateDir, pid: u32, cwd: &str, timings: &Timings, stop: &Stop) -> Result<Held, Error> {
    if !is_there(dir, pid) {
        take(dir, pid, cwd)?;
    }
    let lock_path = dir.lease_lock(pid);
    loop {
        let lock = match FileLock::take(&lock_path)? {
            Ok(lock) => lock,
            Err(holder) => return Ok(Held::ByAnother(holder)),
        };
        let held = confirm_until_the_end(dir, pid, timings, stop);
        let _ = std::fs::remove_file(&lock_path);
        drop(lock);
        // Whoever wrote a new one while this process still had the lock counts on it.
        if held.is_err() || !is_there(dir, pid) {
            return held;
        }
    }
}

fn is_there(dir: &StateDir, pid: u32) -> bool {
    read_json::<LeaseRecord>(&dir.lease(pid)).there().is_some_and(|record| record.lives())
}

fn confirm_until_the_end(dir: &StateDir, pid: u32, timings: &Timings, stop: &Stop) -> Result<Held, Error> {
    let look = (timings.heartbeat / 2).min(Duration::from_secs(1));
    touch(dir, pid)?;
    let mut confirmed = Instant::now();
    loop {
        match read_json::<LeaseRecord>(&dir.lease(pid)) {
            Found::Nothing => return Ok(Held::Released),
            Found::There(record) if record.lives() => {}
            Found::There(_) | Found::Unreadable(_) => {
                release(dir, pid)?;
                return Ok(Held::Ended);
            }
        }
        if confirmed.elapsed() >= timings.heartbeat {
            touch(dir, pid)?;
            confirmed = Instant::now();
        }
        if let Err(interrupted) = stop.sleep(look) {
            release(dir, pid)?;
            return Err(interrupted);
        }
    }
}

/// How holding a lease came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// This process holds it already.
    ByAnother(u32),
    /// The process that needed the server has ended, or the lease is none any more.
    Ended,
    /// The lease was taken back.
    Released,
}

fn touch(dir: &StateDir, pid: u32) -> Result<(), Error> {
    let path = dir.lease(pid);
    match File::options().write(true).open(&path).and_then(|file| file.set_modified(SystemTime::now())) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::file(&path, "confirm the lease")(e)),
        _ => Ok(()),
    }
}
