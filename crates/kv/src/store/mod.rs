//! Where bytes are kept under names: a directory, or an object store.

use std::time::SystemTime;

/// A place for named bytes that never change. Names are relative paths of `a-z 0-9 - . /`.
pub trait Store: Send + Sync {
    /// Everything whose name begins with `prefix`, which is empty or ends with `/`.
    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error>;
    /// The bytes; none where there is no such name.
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error>;
    /// Keeps bytes, wholly or not at all, at any crash. What is there already stays.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error>;
    /// Remembers that it was used now.
    fn touch(&self, name: &str) -> Result<(), Error>;
    /// Forgets it; what is not there is forgotten already.
    fn remove(&self, name: &str) -> Result<(), Error>;
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
}
