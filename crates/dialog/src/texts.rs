//! The tokens of texts that were tokenised before. A request brings the whole conversation again, and all but its end was
//! there the last time.
//!
//! A text between two control tokens has the same tokens wherever it stands, so that its hash is enough to find them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use blake3::Hash;
use ds4_tokenizer::Tokenizer;

/// Shorter texts are tokenised faster than they are looked for.
const SHORTEST: usize = 256;
/// Bytes of tokens that are kept, in two generations.
const BUDGET: usize = 32 << 20;

/// Tokens of texts, those used last.
#[derive(Default)]
pub(crate) struct Texts(Mutex<Generations>);

/// What was used since the last change of generations, and what was used before. When the young ones fill half the budget
/// they become the old ones, and what was old is forgotten.
#[derive(Default)]
struct Generations {
    young: HashMap<Hash, Arc<[u32]>>,
    old: HashMap<Hash, Arc<[u32]>>,
    young_bytes: usize,
}

impl Generations {
    fn get(&mut self, key: &Hash) -> Option<Arc<[u32]>> {
        if let Some(tokens) = self.young.get(key) {
            return Some(Arc::clone(tokens));
        }
        let tokens = self.old.remove(key)?;
        self.put(*key, Arc::clone(&tokens));
        Some(tokens)
    }

    fn put(&mut self, key: Hash, tokens: Arc<[u32]>) {
        let bytes = size_of_val(&*tokens) + size_of::<(Hash, Arc<[u32]>)>();
        if bytes > BUDGET / 2 {
            return;
        }
        if self.young_bytes + bytes > BUDGET / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(key, tokens).is_none() {
            self.young_bytes += bytes;
        }
    }
}

impl Texts {
    /// Appends the tokens of a text without control tokens.
    pub(crate) fn encode(&self, tokenizer: &Tokenizer, text: &str, tokens: &mut Vec<u32>) {
        if text.len() < SHORTEST {
            return tokens.extend(tokenizer.encode_inert(text));
        }
        let key = blake3::hash(text.as_bytes());
        let known = self.0.lock().expect("nothing panics under this lock").get(&key);
        let found = known.unwrap_or_else(|| {
            let found: Arc<[u32]> = tokenizer.encode_inert(text).into();
            self.0.lock().expect("nothing panics under this lock").put(key, Arc::clone(&found));
            found
        });
        tokens.extend_from_slice(&found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Hash {
        blake3::hash(&n.to_le_bytes())
    }

    #[test]
    fn what_is_used_stays_and_the_rest_makes_room() {
        let mut kept = Generations::default();
        let text: Arc<[u32]> = vec![1; 1 << 18].into();
        for n in 0..100 {
            kept.put(key(n), Arc::clone(&text));
            assert!(kept.get(&key(0)).is_some(), "used all the time: {n}");
            assert!((kept.young.len() + kept.old.len()) * size_of_val(&*text) <= BUDGET);
        }
        assert!(kept.get(&key(1)).is_none() && kept.get(&key(99)).is_some());
        kept.put(key(100), vec![1; BUDGET / 8 + 1].into());
        assert!(kept.get(&key(100)).is_none(), "one text does not drive out all others");
    }
}
