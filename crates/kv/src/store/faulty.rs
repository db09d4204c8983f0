//! A store with faults: what disks and networks do at their worst, by a seed.

use std::sync::Mutex;

use super::{Entry, Error, Store};

/// Every so many calls, on average, one goes wrong; bytes are damaged, cut off, or refused.
pub(crate) struct Faulty<S> {
    inner: S,
    one_in: u64,
    state: Mutex<(u64, u64)>,
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Error,
    Short,
    Flip,
}

impl<S: Store> Faulty<S> {
    pub(crate) fn new(inner: S, seed: u64, one_in: u64) -> Self {
        Self { inner, one_in, state: Mutex::new((seed, 0)) }
    }

    /// How many faults there were.
    pub(crate) fn faults(&self) -> u64 {
        self.state.lock().unwrap().1
    }

    /// Random numbers (SplitMix64).
    fn random(&self) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.0 = state.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state.0 ^ (state.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fault(&self) -> Option<Fault> {
        if !self.random().is_multiple_of(self.one_in) {
            return None;
        }
        self.state.lock().unwrap().1 += 1;
        Some([Fault::Error, Fault::Short, Fault::Flip][(self.random() % 3) as usize])
    }

    fn fails<T>(&self, name: &str) -> Result<T, Error> {
        let what = ["No space left on device", "Input/output error", "Connection reset by peer"];
        Err(Error::new(name, what[(self.random() % 3) as usize]))
    }

    fn damaged(&self, fault: Fault, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if !bytes.is_empty() {
            let at = (self.random() % bytes.len() as u64) as usize;
            match fault {
                Fault::Short => bytes.truncate(at),
                _ => bytes[at] ^= 1 << (self.random() % 8),
            }
        }
        bytes
    }
}

impl<S: Store> Store for Faulty<S> {
    fn list(&self, prefix: &str) -> Result<Vec<Entry>, Error> {
        let mut entries = self.inner.list(prefix)?;
        match self.fault() {
            None => {}
            Some(Fault::Error) => return self.fails(prefix),
            Some(Fault::Short) => entries.truncate(entries.len() / 2),
            Some(Fault::Flip) => entries.iter_mut().for_each(|e| e.name = e.name.replace('1', "2")),
        }
        Ok(entries)
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let bytes = self.inner.get(name)?;
        match self.fault() {
            None => Ok(bytes),
            Some(Fault::Error) => self.fails(name),
            Some(fault) => Ok(bytes.map(|bytes| self.damaged(fault, &bytes))),
        }
    }

    fn get_start(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.get(name)?.map(|bytes| bytes[..bytes.len().min(most)].to_vec()))
    }

    /// Worse than any store should be: damaged bytes may end up under the name.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        match self.fault() {
            None => self.inner.put(name, bytes),
            Some(Fault::Error) => self.fails(name),
            Some(fault) => self.inner.put(name, &self.damaged(fault, bytes)),
        }
    }

    fn touch(&self, name: &str) -> Result<(), Error> {
        if self.fault().is_some() { self.fails(name) } else { self.inner.touch(name) }
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        if self.fault().is_some() { self.fails(name) } else { self.inner.remove(name) }
    }
}
