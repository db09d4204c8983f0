//! A store in memory: for tests, and as the simplest example of one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::{Entry, Error, Store};

/// Keeps everything until it is dropped.
#[derive(Debug, Default)]
pub struct Memory {
    kept: Mutex<BTreeMap<String, (Vec<u8>, SystemTime)>>,
}

impl Memory {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, (Vec<u8>, SystemTime)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        let kept = self.kept();
        let under = kept.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(under
            .map(|(name, (bytes, used))| Entry { name: name.clone(), bytes: bytes.len() as u64, used: *used })
            .collect())
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.kept().get(name).map(|(bytes, _)| bytes.clone()))
    }

    fn get_start(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.kept().get(name).map(|(bytes, _)| bytes[..bytes.len().min(most)].to_vec()))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.kept().entry(name.into()).or_insert_with(|| (bytes.to_vec(), SystemTime::now()));
        Ok(())
    }

    fn touch(&self, name: &str) -> Result<(), Error> {
        if let Some((_, used)) = self.kept().get_mut(name) {
            *used = SystemTime::now();
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        self.kept().remove(name);
        Ok(())
    }
}
