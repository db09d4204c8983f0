//! Where bytes are kept under names: a directory, an object store, or memory.

mod disk;
#[cfg(test)]
pub(crate) mod faulty;
mod memory;
mod remote;

pub use disk::Disk;
pub use memory::Memory;
pub use remote::Remote;

use std::fmt::Display;
use std::time::{Duration, SystemTime};

/// A place for named bytes that never change. Names are relative paths of `a-z 0-9 - . /`.
pub trait Store: Send + Sync {
    /// Everything whose name begins with `prefix`, which is empty or ends with `/`.
    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error>;
    /// The bytes; none where there is no such name.
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error>;
    /// The first `most` bytes, or all where there are fewer; none where there is no such name.
    fn get_start(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, Error>;
    /// Keeps bytes, wholly or not at all, at any crash. What is there already, as long as these, stays.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error>;
    /// Remembers that it was used now.
    fn touch(&self, name: &str) -> Result<(), Error>;
    /// Forgets it; what is not there is forgotten already.
    fn remove(&self, name: &str) -> Result<(), Error>;

    /// Why nothing can be written here, if that is known.
    fn read_only(&self) -> Option<String> {
        None
    }
}

impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        (**self).list(prefix)
    }
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        (**self).get(name)
    }
    fn get_start(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, Error> {
        (**self).get_start(name, most)
    }
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        (**self).put(name, bytes)
    }
    fn touch(&self, name: &str) -> Result<(), Error> {
        (**self).touch(name)
    }
    fn remove(&self, name: &str) -> Result<(), Error> {
        (**self).remove(name)
    }
    fn read_only(&self) -> Option<String> {
        (**self).read_only()
    }
}

/// Something that a store keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written or last used.
    pub used: SystemTime,
}

/// A store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Error {
    /// The store and the name.
    pub place: String,
    /// What went wrong.
    pub what: String,
    /// When it may go right again, where that is likely: an outage, not a full disk.
    pub again: Option<Duration>,
}

impl Error {
    /// An error that trying again does not mend.
    pub fn new(place: impl Display, what: impl Display) -> Self {
        Self { place: place.to_string(), what: what.to_string(), again: None }
    }
}
