//! Writes the file: every thread makes pieces and writes them where they belong; one more keeps the journal.
//!
//! A thread holds one piece at a time: its bytes as stored and as written, each at most 4 a value (8 for a table), its
//! scales and one decoded row. With pieces of 2^19 values that is some 4 MiB, whatever the tensor's size.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use ds4_gguf::Layout;

use super::Progress;
use super::encode::{Misfit, encode};
use super::error::{Error, io};
use super::journal::{Journal, appended, folder_of, sync_folder};
use super::plan::{Piece, Plan};
use super::source::Source;

/// Bytes that are written between two entries in the journal.
const JOURNAL_EVERY: u64 = 64 << 20;
/// Pieces that may be finished and not yet counted, as while the journal is written.
const AHEAD: usize = 16;
/// Bytes that a file system may want for itself.
const SPARE: u64 = 16 << 20;

/// Where everything comes from and goes.
pub(super) struct Job<'a> {
    pub(super) source: &'a Source,
    pub(super) plan: &'a Plan,
    pub(super) layout: &'a Layout,
    pub(super) threads: usize,
    /// Set from outside to stop.
    pub(super) stop: &'a AtomicBool,
}

impl Job<'_> {
    /// Bytes of a piece in the file.
    fn bytes(&self, piece: &Piece<'_>) -> u64 {
        self.row_bytes(piece) * piece.rows.len() as u64
    }

    fn row_bytes(&self, piece: &Piece<'_>) -> u64 {
        let tensor = &self.layout.tensors[piece.number];
        tensor.len / tensor.rows()
    }
}

/// The unfinished file.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    journal: Journal,
    /// Pieces that are there, from the first.
    done: usize,
}

impl Part {
    /// Opens `out` + `.part`, to continue what is there or, if that cannot be and `anew` allows it, to begin again.
    pub(super) fn open(job: &Job<'_>, out: &Path, anew: bool) -> Result<Self, Error> {
        let path = appended(out, ".part");
        check_space(&path, job.layout.size)?;
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(io(&path))?;
        // File systems that know no locks are left to their users.
        if let Err(fs::TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::Locked(path));
        }
        let journal = Journal::new(&path, job.source.stamps()?, job.plan.pieces());
        let done = match journal.resume(&file, &job.layout.header, job.layout.size) {
            Ok(done) => done,
            Err(_) if anew => 0,
            Err(why) => return Err(Error::Unfinished { part: path, why }),
        };
        let mut part = Self { path, file, journal, done };
        if done == 0 {
            part.begin(job.layout)?;
        }
        Ok(part)
    }

    /// The header, and zeros that take no space yet. The journal says so first: it is never ahead of the file.
    fn begin(&mut self, layout: &Layout) -> Result<(), Error> {
        self.journal.write(0)?;
        let written = self.file.set_len(0).and_then(|()| self.file.write_all_at(&layout.header, 0));
        written.and_then(|()| self.file.set_len(layout.size)).map_err(io(&self.path))
    }

    /// Makes all pieces that are missing and keeps those that are finished, whatever happens.
    pub(super) fn fill(&mut self, job: &Job<'_>, progress: &mut dyn FnMut(Progress)) -> Result<(), Error> {
        let next = AtomicUsize::new(self.done);
        let (send, finished) = sync_channel(AHEAD);
        let (file, path) = (&self.file, self.path.as_path());
        thread::scope(|scope| {
            for _ in 0..job.threads.clamp(1, job.plan.pieces().max(1)) {
                let (send, next) = (send.clone(), &next);
                scope.spawn(move || Worker::new(job, file, path).run(next, &send));
            }
            drop(send);
            let mut ledger = Ledger { file, path, journal: &mut self.journal, done: self.done, unsaved: 0 };
            ledger.count(job, &finished, &next, progress)
        })
    }

    /// The path of the unfinished file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the finished file its name.
    pub(super) fn finish(self, out: &Path) -> Result<(), Error> {
        fs::rename(&self.path, out).map_err(io(out))?;
        sync_folder(out)?;
        self.journal.remove()
    }
}

/// Whether a file of `size` bytes fits, of which `path` has some already.
fn check_space(path: &Path, size: u64) -> Result<(), Error> {
    let folder = folder_of(path);
    let disk = rustix::fs::statvfs(folder).map_err(|e| Error::Io(folder.into(), e.into()))?;
    let taken = fs::metadata(path).map_or(0, |m| m.blocks().saturating_mul(512));
    space(folder, size.saturating_sub(taken), disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether `needed` more bytes fit.
fn space(folder: &Path, needed: u64, free: u64) -> Result<(), Error> {
    match needed.saturating_add(SPARE) > free {
        true => Err(Error::Space { folder: folder.into(), needed, free }),
        false => Ok(()),
    }
}

/// A piece's number and how making it ended.
type Finished = (usize, Result<(), Error>);

/// Counts the pieces that are finished without a gap and keeps the journal.
struct Ledger<'a> {
    file: &'a File,
    path: &'a Path,
    journal: &'a mut Journal,
    /// Finished pieces, from the first.
    done: usize,
    /// Bytes since the last entry.
    unsaved: u64,
}

impl Ledger<'_> {
    /// Hears the workers out; the first error ends them all.
    fn count(
        &mut self,
        job: &Job<'_>,
        finished: &Receiver<Finished>,
        next: &AtomicUsize,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let pieces = job.plan.pieces();
        let size = |i| job.bytes(&job.plan.piece(i));
        let mut state = Progress { done: (0..self.done).map(size).sum(), total: (0..pieces).map(size).sum() };
        let (mut ahead, mut failed) = (BTreeSet::new(), None);
        progress(state);
        for (i, result) in finished {
            match result.and_then(|()| self.add(i, size(i), &mut ahead)) {
                Ok(()) => {
                    state.done += size(i);
                    progress(state);
                }
                Err(error) => {
                    next.store(pieces, Relaxed);
                    failed.get_or_insert(error);
                }
            }
        }
        let saved = self.save();
        failed.map_or(saved, Err)?;
        match self.done < pieces {
            true => {
                let done = (0..self.done).map(size).sum();
                Err(Error::Interrupted { part: self.path.into(), done, total: state.total })
            }
            false => Ok(()),
        }
    }

    /// One more piece; `ahead` holds those after a gap.
    fn add(&mut self, i: usize, bytes: u64, ahead: &mut BTreeSet<usize>) -> Result<(), Error> {
        ahead.insert(i);
        while ahead.remove(&self.done) {
            self.done += 1;
        }
        self.unsaved += bytes;
        if self.unsaved < JOURNAL_EVERY { Ok(()) } else { self.save() }
    }

    fn save(&mut self) -> Result<(), Error> {
        self.unsaved = 0;
        self.file.sync_data().map_err(io(self.path))?;
        self.journal.write(self.done)
    }
}

/// A thread's buffers.
struct Worker<'a> {
    job: &'a Job<'a>,
    file: &'a File,
    path: &'a Path,
    bytes: Vec<u8>,
    scales: Vec<u8>,
    row: Vec<f32>,
    out: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(job: &'a Job<'a>, file: &'a File, path: &'a Path) -> Self {
        let (bytes, scales, row, out) = Default::default();
        Self { job, file, path, bytes, scales, row, out }
    }

    /// Makes one piece after the other until there are no more or nobody wants them.
    fn run(mut self, next: &AtomicUsize, finished: &SyncSender<Finished>) {
        while !self.job.stop.load(Relaxed) {
            let i = next.fetch_add(1, Relaxed);
            if i >= self.job.plan.pieces() || finished.send((i, self.make(i))).is_err() {
                break;
            }
        }
    }

    fn make(&mut self, i: usize) -> Result<(), Error> {
        let piece = self.job.plan.piece(i);
        self.read(&piece)?;
        self.out.clear();
        for row in 0..piece.rows.len() {
            match piece.part().encoding.is_integer() {
                true => self.table_row(&piece, row)?,
                false => self.float_row(&piece, row)?,
            }
        }
        let offset = self.job.layout.tensors[piece.number].offset;
        let offset = offset + piece.first_row() as u64 * self.job.row_bytes(&piece);
        self.file.write_all_at(&self.out, offset).map_err(io(self.path))
    }

    /// Reads the piece's rows and the rows of scales that belong to them.
    fn read(&mut self, piece: &Piece<'_>) -> Result<(), Error> {
        let (part, source) = (piece.part(), self.job.source);
        let (first, last) = (part.first + piece.rows.start, part.first + piece.rows.end - 1);
        let row = part.encoding.row_bytes(piece.tensor.cols());
        self.bytes.resize(piece.rows.len() * row, 0);
        source.read(part.data, (first * row) as u64, &mut self.bytes)?;
        self.scales.clear();
        if let Some(scales) = part.scales {
            let (first, last) = (part.encoding.scale_row(first), part.encoding.scale_row(last));
            let row = part.encoding.scales_in_row(piece.tensor.cols());
            self.scales.resize((last + 1 - first) * row, 0);
            source.read(scales, (first * row) as u64, &mut self.scales)?;
        }
        Ok(())
    }

    /// Appends row `i` of a piece of floats.
    fn float_row(&mut self, piece: &Piece<'_>, i: usize) -> Result<(), Error> {
        let (part, cols) = (piece.part(), piece.tensor.cols());
        let first = part.first + piece.rows.start;
        let bytes = part.encoding.row_bytes(cols);
        let scales = part.encoding.scales_in_row(cols);
        let scale_row = part.encoding.scale_row(first + i) - part.encoding.scale_row(first);
        self.row.resize(cols, 0.0);
        part.encoding.decode(
            &self.bytes[i * bytes..][..bytes],
            &self.scales[scale_row * scales..][..scales],
            &mut self.row,
        )?;
        encode(piece.tensor.format, &self.row, &mut self.out).map_err(|Misfit { column, value, why }| Error::Value {
            tensor: piece.source(),
            value: value.to_string(),
            row: first + i,
            column,
            why,
        })
    }

    /// Appends row `i` of a table of experts.
    fn table_row(&mut self, piece: &Piece<'_>, i: usize) -> Result<(), Error> {
        let (part, experts) = (piece.part(), self.job.plan.experts);
        let bytes = part.encoding.row_bytes(piece.tensor.cols());
        for (column, expert) in part.encoding.integers(&self.bytes[i * bytes..][..bytes]).into_iter().enumerate() {
            if !(0..experts as i64).contains(&expert) {
                let why = format!("expected an expert, 0 to {}", experts - 1);
                let row = part.first + piece.rows.start + i;
                return Err(Error::Value { tensor: piece.source(), value: expert.to_string(), row, column, why });
            }
            self.out.extend((expert as i32).to_le_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_too_small_is_named_with_both_sizes() {
        let folder = Path::new("/models");
        let error = space(folder, 81_000_000_000, 20_100_000_000).unwrap_err().to_string();
        assert_eq!(error, "/models: 81000.0 MB needed, 20100.0 MB free");
        assert!(space(folder, 1000, SPARE + 1000).is_ok() && space(folder, 1000, SPARE + 999).is_err());
        assert!(space(folder, u64::MAX, u64::MAX - 1).is_err());
    }
}
