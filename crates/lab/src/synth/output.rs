//! Writes the file: every core makes pieces of payload, one thread writes them in order.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use ds4_gguf::Writer;
use ds4_tokenizer::Vocabulary;

use super::payload::Tensor;
use super::{Error, Plan, Summary, tensors};

/// Bytes of a piece, about.
const PIECE: u64 = 2 << 20;
/// Pieces that a worker may be ahead of the writer; with the one it makes and the one being written, 8 MiB a core.
const AHEAD: usize = 2;

impl Plan {
    /// As [`super::write`], for any shape. `overwrite` replaces an existing file.
    ///
    /// # Errors
    /// A vocabulary that does not fit the shape, a shape whose rows are not whole blocks, an `out` that exists, and
    /// what the disk refuses; the unfinished file is removed then.
    pub fn write(
        &self,
        vocabulary: &Vocabulary,
        out: &Path,
        overwrite: bool,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Summary, Error> {
        if out.is_dir() || out.file_name().is_none() {
            return Err(Error::NotAFile(out.into()));
        }
        if out.exists() && !overwrite {
            return Err(Error::Exists(out.into()));
        }
        let mut part = OsString::from(out);
        part.push(".part");
        let part = PathBuf::from(part);
        let written = self.write_part(vocabulary, &part, progress).and_then(|summary| {
            fs::rename(&part, out).map_err(io(out, "rename the finished file to this name"))?;
            Ok(summary)
        });
        if written.is_err() {
            let _ = fs::remove_file(&part); // the first error is the one to report
        }
        written
    }

    fn write_part(
        &self,
        vocabulary: &Vocabulary,
        part: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Summary, Error> {
        let header = self.header(vocabulary)?;
        let file = File::create(part).map_err(io(part, "create"))?;
        let mut writer = Writer::begin(&part.to_string_lossy(), file, &header)?;
        self.write_payloads(&mut writer, progress)?;
        let tensors = writer.tensors().len();
        let file = writer.finish()?;
        file.sync_all().map_err(io(part, "write"))?;
        let bytes = file.metadata().map_err(io(part, "read the size"))?.len();
        Ok(Summary { tensors, bytes })
    }

    fn write_payloads(&self, writer: &mut Writer<File>, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Error> {
        let tensors = tensors(&self.shape, self.recipe);
        let total = tensors.iter().map(Tensor::bytes).sum();
        let workers = thread::available_parallelism().map_or(1, |n| n.get());
        thread::scope(|scope| {
            // Worker w makes the pieces w, w + workers, ...; taking one of each in turn restores the order. When a
            // write fails, the receivers go and with them the workers.
            let mut made = Vec::new();
            for w in 0..workers {
                let (send, receive) = sync_channel(AHEAD);
                let share = pieces(&tensors).skip(w).step_by(workers);
                scope.spawn(move || make(share, self.seed, send));
                made.push(receive);
            }
            let mut done = 0;
            for (piece, from) in pieces(&tensors).zip(made.iter().cycle()) {
                if piece.offset == 0 {
                    writer.start(&piece.tensor.name)?;
                }
                let bytes = from.recv().expect("a worker makes every piece of its share");
                writer.write(&bytes)?;
                done += bytes.len() as u64;
                progress(done, total);
            }
            Ok(())
        })
    }
}

/// A range of a tensor's payload.
struct Piece<'a> {
    tensor: &'a Tensor,
    offset: u64,
    len: u64,
}

/// All payloads in file order, in pieces that [`Tensor::fill`] takes.
fn pieces(tensors: &[Tensor]) -> impl Iterator<Item = Piece<'_>> {
    tensors.iter().flat_map(|tensor| {
        let (bytes, unit) = (tensor.bytes(), tensor.unit());
        let len = (PIECE / unit).max(1) * unit;
        let offsets = (0..bytes.div_ceil(len)).map(move |i| i * len);
        offsets.map(move |offset| Piece { tensor, offset, len: len.min(bytes - offset) })
    })
}

/// Makes `share` piece by piece until it is done or nobody listens.
fn make<'a>(share: impl Iterator<Item = Piece<'a>>, seed: u64, send: SyncSender<Vec<u8>>) {
    for Piece { tensor, offset, len } in share {
        let mut bytes = vec![0; len as usize];
        tensor.fill(seed, offset, &mut bytes);
        if send.send(bytes).is_err() {
            return;
        }
    }
}

fn io(file: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { file: file.into(), action, source }
}
