//! Earlier responses, so that a client can go on from one by its id. What is remembered is what was asked and answered, as
//! JSON; a response knows the one before it, so nothing is kept twice.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use super::item::Item;
use crate::Error;

/// Most responses, and most bytes of all.
const MAX_RESPONSES: usize = 4096;
const MAX_BYTES: usize = 64 << 20;

/// A response: what was new in its request, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The response that it goes on from.
    pub(super) before: Option<String>,
    /// A text, or a list of items.
    pub(super) input: String,
    /// A list of items.
    pub(super) output: String,
}

impl Kept {
    fn bytes(&self) -> usize {
        let before = self.before.as_ref().map_or(0, String::len);
        // With about what the tables take.
        before + self.input.len() + self.output.len() + 256
    }
}

/// The responses used last.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    responses: HashMap<String, (u64, Arc<Kept>)>,
    /// Ids by their last use.
    used: BTreeMap<u64, String>,
    now: u64,
    bytes: usize,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }

    /// Remembers a response.
    pub(super) fn put(&self, id: &str, kept: Kept) {
        if kept.bytes() <= MAX_BYTES {
            self.lock().put(id, kept);
        }
    }

    /// The responses up to this one, the first first.
    pub(super) fn up_to(&self, id: &str) -> Result<Vec<Arc<Kept>>, Error> {
        let mut state = self.lock();
        let mut found = Vec::new();
        let mut next = Some(id.to_owned());
        while let Some(id) = next.take() {
            let forgotten = || Error::Forgotten { param: "previous_response_id", id: id.clone() };
            let kept = state.get(&id).ok_or_else(forgotten)?;
            next = kept.before.clone();
            found.push(kept);
        }
        found.reverse();
        Ok(found)
    }

    /// An item of an answer. Its name contains that of its response.
    pub(super) fn item(&self, id: &str) -> Option<Item> {
        let (_, place) = id.split_once('_')?;
        let (response, _) = place.rsplit_once('-')?;
        let kept = self.lock().get(&format!("resp_{response}"))?;
        let items: Vec<Item> = serde_json::from_str(&kept.output).ok()?;
        items.into_iter().find(|item| item.is(id))
    }
}

impl State {
    fn put(&mut self, id: &str, kept: Kept) {
        self.remove(id);
        self.bytes += kept.bytes();
        self.now += 1;
        self.used.insert(self.now, id.to_owned());
        self.responses.insert(id.to_owned(), (self.now, Arc::new(kept)));
        while self.responses.len() > MAX_RESPONSES || self.bytes > MAX_BYTES {
            let Some((_, oldest)) = self.used.first_key_value() else { return };
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
    }

    /// A response, which counts as used: those before it, asked for after it, go after it.
    fn get(&mut self, id: &str) -> Option<Arc<Kept>> {
        let (used, kept) = self.responses.get_mut(id)?;
        self.used.remove(used);
        self.now += 1;
        *used = self.now;
        self.used.insert(self.now, id.to_owned());
        Some(Arc::clone(kept))
    }

    fn remove(&mut self, id: &str) {
        if let Some((used, kept)) = self.responses.remove(id) {
            self.used.remove(&used);
            self.bytes -= kept.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(before: Option<&str>, input: &str) -> Kept {
        Kept { before: before.map(str::to_owned), input: input.into(), output: "[]".into() }
    }

    fn inputs(memory: &Memory, id: &str) -> Result<Vec<String>, Error> {
        Ok(memory.up_to(id)?.iter().map(|kept| kept.input.clone()).collect())
    }

    #[test]
    fn a_response_comes_with_those_before_it() {
        let memory = Memory::default();
        memory.put("a", kept(None, "1"));
        memory.put("b", kept(Some("a"), "2"));
        memory.put("c", kept(Some("a"), "3"));
        assert_eq!(inputs(&memory, "b").unwrap(), ["1", "2"]);
        assert_eq!(inputs(&memory, "c").unwrap(), ["1", "3"]);
        let error = memory.up_to("d").unwrap_err().to_string();
        assert!(error.starts_with("previous_response_id: \"d\" is not remembered"), "{error}");
    }

    #[test]
    fn what_was_used_last_stays_within_the_limits() {
        let memory = Memory::default();
        let large = "x".repeat(MAX_BYTES / 4);
        memory.put("a", kept(None, &large));
        memory.put("b", kept(Some("a"), &large));
        memory.put("c", kept(None, &large));
        assert!(memory.up_to("b").is_ok(), "a and b are used");
        memory.put("d", kept(None, &large));
        assert!(memory.up_to("c").is_err());
        assert!(memory.up_to("b").is_ok() && memory.up_to("d").is_ok());
        memory.put("e", kept(None, &"x".repeat(MAX_BYTES)));
        assert!(memory.up_to("e").is_err() && memory.up_to("d").is_ok(), "what is too large moves nothing");
        (0..2 * MAX_RESPONSES).for_each(|i| memory.put(&i.to_string(), kept(None, "")));
        let state = memory.lock();
        assert_eq!((state.responses.len(), state.used.len()), (MAX_RESPONSES, MAX_RESPONSES));
        assert_eq!(state.bytes, state.responses.values().map(|(_, kept)| kept.bytes()).sum::<usize>());
    }
}
