//! Whether a file fits on the disk.

use std::path::Path;

use crate::Error;

/// What stays free, for whatever else is written meanwhile.
const SPARE: u64 = 64 << 20;

/// Refuses what does not fit.
pub(crate) fn check(folder: &Path, needed: u64) -> Result<(), Error> {
    let disk = rustix::fs::statvfs(folder).map_err(|e| Error::io(folder, "find the free space of")(e.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match needed.saturating_add(SPARE) > free {
        true => Err(Error::Space { folder: folder.into(), needed, free }),
        false => Ok(()),
    }
}
