//! The turns used last.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ds4_kv::Key;

use super::Exact;

/// Most bytes of all turns: some 15 million tokens.
const MAX_BYTES: usize = 64 << 20;

/// Turns under their keys, within limits; those that were not used for longest make room.
pub(super) struct Memory {
    /// By the time of their last use.
    turns: BTreeMap<u64, Held>,
    /// That time, by key.
    keys: HashMap<Key, u64>,
    now: u64,
    bytes: usize,
    most: usize,
    most_bytes: usize,
}

struct Held {
    exact: Arc<Exact>,
    keys: Vec<Key>,
}

impl Memory {
    pub(super) fn new(most: usize) -> Self {
        Self { turns: BTreeMap::new(), keys: HashMap::new(), now: 0, bytes: 0, most, most_bytes: MAX_BYTES }
    }

    /// The turn of a key, which is used now.
    pub(super) fn get(&mut self, key: Key) -> Option<Arc<Exact>> {
        let held = self.take(*self.keys.get(&key)?)?;
        let exact = Arc::clone(&held.exact);
        self.insert(held);
        Some(exact)
    }

    /// Remembers a turn, which takes `keys` over from others.
    pub(super) fn put(&mut self, keys: Vec<Key>, exact: Arc<Exact>) {
        for key in &keys {
            self.forget(*key);
        }
        self.insert(Held { exact, keys });
        while self.turns.len() > self.most || self.bytes > self.most_bytes {
            let Some(oldest) = self.turns.keys().next().copied() else { return };
            self.take(oldest);
        }
    }

    /// A key leads nowhere any more; a turn without keys is gone.
    fn forget(&mut self, key: Key) {
        let Some(mut held) = self.keys.get(&key).copied().and_then(|time| self.take(time)) else { return };
        held.keys.retain(|other| *other != key);
        if !held.keys.is_empty() {
            self.insert(held);
        }
    }

    fn take(&mut self, time: u64) -> Option<Held> {
        let held = self.turns.remove(&time)?;
        for key in &held.keys {
            self.keys.remove(key);
        }
        self.bytes -= held.exact.bytes();
        Some(held)
    }

    fn insert(&mut self, held: Held) {
        self.now += 1;
        self.keys.extend(held.keys.iter().map(|key| (*key, self.now)));
        self.bytes += held.exact.bytes();
        self.turns.insert(self.now, held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        [n; Key::BYTES].into()
    }

    fn turn(n: u32) -> Arc<Exact> {
        Arc::new(Exact { said: key(0), thought: key(0), reasoning: [].into(), body: [n].into() })
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        // H109
        let mut memory = Memory::new(2);
        memory.put(vec![key(1), key(11)], turn(1));
        memory.put(vec![key(2)], turn(2));
        assert_eq!(memory.get(key(11)), Some(turn(1)));
        memory.put(vec![key(3)], turn(3));
        assert_eq!(memory.get(key(2)), None);
        assert_eq!(
            (memory.get(key(1)), memory.get(key(11)), memory.get(key(3))),
            (Some(turn(1)), Some(turn(1)), Some(turn(3)))
        );
        memory.most_bytes = turn(0).bytes();
        memory.put(vec![key(4)], turn(4));
        assert_eq!((memory.turns.len(), memory.keys.len(), memory.bytes), (1, 1, turn(4).bytes()));
    }

    #[test]
    fn a_newer_turn_takes_keys_over() {
        let mut memory = Memory::new(9);
        memory.put(vec![key(1), key(2)], turn(1));
        memory.put(vec![key(3), key(2)], turn(2));
        assert_eq!(
            (memory.get(key(1)), memory.get(key(2)), memory.get(key(3))),
            (Some(turn(1)), Some(turn(2)), Some(turn(2)))
        );
        memory.put(vec![key(1)], turn(3));
        assert_eq!((memory.turns.len(), memory.keys.len()), (2, 3), "nothing leads to the first any more");
        let mut none = Memory::new(0);
        none.put(vec![key(1)], turn(1));
        assert_eq!((none.get(key(1)), none.bytes), (None, 0));
    }
}
