//! An open file: its directory, and handles to the bytes of its tensors.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use crate::reader::{self, Parsed};
use crate::{Error, Metadata, Tensor};

/// A GGUF file that passed every check of the reader. Clones share one mapping.
#[derive(Clone)]
pub struct File {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    storage: Arc<Storage>,
    metadata: Metadata,
    tensors: Vec<Tensor>,
    index: HashMap<String, usize>,
}

/// Where the bytes are.
enum Storage {
    Mapped(Mmap),
    Static(&'static [u8]),
    Owned(Vec<u8>),
}

impl Storage {
    fn bytes(&self) -> &[u8] {
        match self {
            Storage::Mapped(map) => map,
            Storage::Static(bytes) => bytes,
            Storage::Owned(bytes) => bytes,
        }
    }
}

impl File {
    /// Maps the file at `path` read-only and checks everything before the payloads.
    ///
    /// # Errors
    /// A missing, unreadable or irregular file, and whatever breaks the format; the payloads themselves are not read.
    pub fn open(path: &Path) -> Result<File, Error> {
        let name = path.display().to_string();
        // Asked before opening: opening a named pipe would wait for a writer.
        let stat = std::fs::metadata(path).map_err(|e| Error::io(&name, "open", e))?;
        if !stat.is_file() {
            let found = if stat.is_dir() { "a directory" } else { "not a regular file" };
            return Err(Error::invalid(&name, "open", format!("expected a GGUF file, found {found}")));
        }
        if stat.len() == 0 {
            return File::parse(name, Storage::Static(&[])); // an empty mapping is an error on some systems
        }
        let file = std::fs::File::open(path).map_err(|e| Error::io(&name, "open", e))?;
        let map = map(&file).map_err(|e| Error::io(&name, "map", e))?;
        File::parse(name, Storage::Mapped(map))
    }

    /// A file that is part of the program. `name` is for messages.
    ///
    /// # Errors
    /// Whatever breaks the format.
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<File, Error> {
        File::parse(name.to_string(), Storage::Static(bytes))
    }

    /// A file held in memory. `name` is for messages.
    ///
    /// # Errors
    /// Whatever breaks the format.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<File, Error> {
        File::parse(name.to_string(), Storage::Owned(bytes))
    }

    fn parse(name: String, storage: Storage) -> Result<File, Error> {
        let bytes = storage.bytes();
        let Parsed { metadata, tensors, index } = reader::parse(&name, bytes, bytes.len() as u64)?;
        Ok(File { inner: Arc::new(Inner { name, storage: Arc::new(storage), metadata, tensors, index }) })
    }

    /// The path, or the name given, as messages show it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        self.inner.storage.bytes().len() as u64
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    /// The tensors in directory order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.inner.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.inner.index.get(name).map(|&i| &self.inner.tensors[i])
    }

    /// Everything before the payloads.
    pub fn header(&self) -> &[u8] {
        let bytes = self.inner.storage.bytes();
        let first = self.tensors().iter().map(|tensor| tensor.offset).min().unwrap_or(self.size());
        &bytes[..first as usize]
    }

    /// The payload of `tensor`. The handle keeps the mapping alive, so it may outlive the file.
    ///
    /// # Panics
    /// If `tensor` is another file's and does not lie inside this one.
    pub fn bytes(&self, tensor: &Tensor) -> Bytes {
        let end = tensor.offset.saturating_add(tensor.len);
        assert!(end <= self.size(), "{}: tensor {} is another file's", self.name(), tensor.name);
        Bytes { storage: Arc::clone(&self.inner.storage), range: tensor.offset as usize..end as usize }
    }

    /// Reads one byte of every page, so that the weights are in memory before the first token needs them. `progress`
    /// hears (bytes done, bytes in all) every 64 MiB and at the end.
    pub fn touch(&self, mut progress: impl FnMut(u64, u64)) {
        const PAGE: usize = 4096; // the smallest page of any machine we run on
        const STEP: usize = 64 << 20;
        let bytes = self.inner.storage.bytes();
        let mut done = 0;
        for step in bytes.chunks(STEP) {
            for page in step.chunks(PAGE) {
                std::hint::black_box(page[0]);
            }
            done += step.len() as u64;
            progress(done, bytes.len() as u64);
        }
    }
}

impl File {
    /// Asks for pages as large as the system gives (Linux: 2 MiB, where the file system can). Reading weights is then up
    /// to a fifth faster. What another program has already brought into memory in small pages stays so.
    pub fn use_large_pages(&self) {
        #[cfg(target_os = "linux")]
        if let Storage::Mapped(map) = &*self.inner.storage {
            // A wish: without it everything works the same.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({:?}, {} bytes, {} tensors)", self.name(), self.size(), self.tensors().len())
    }
}

#[allow(unsafe_code)]
fn map(file: &std::fs::File) -> std::io::Result<Mmap> {
    // SAFETY: the mapping is read-only and any byte is a valid u8. The file must not change while it is mapped, which
    // no program can enforce: if another process truncates it, reading past the new end raises SIGBUS and ends this
    // process; if another process writes into it, weights change under us and answers are wrong, but every use decodes
    // plain bytes with checked lengths, so nothing else is at stake. Our own programs replace model files by renaming.
    unsafe { Mmap::map(file) }
}

/// A tensor's payload: a range of the file and a share in its mapping. Cheap to clone and to send between threads.
#[derive(Clone)]
pub struct Bytes {
    storage: Arc<Storage>,
    range: Range<usize>,
}

/// No bytes.
impl Default for Bytes {
    fn default() -> Self {
        Bytes { storage: Arc::new(Storage::Static(&[])), range: 0..0 }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage.bytes()[self.range.clone()]
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({:?})", self.range)
    }
}
