//! What is kept of a turn, and its bytes.

use ds4_chat::Message;
use ds4_kv::Key;

use super::TurnTokens;
use super::seen::{Seen, hash, thought};

/// How they begin; the last byte is the version.
const MAGIC: [u8; 8] = *b"ds4turn\x01";
const TURN: u8 = 0;
const LINK: u8 = 1;
/// A hash of everything before, at the end.
const CHECK: usize = 16;

/// What is kept of a turn: its tokens, and hashes of what its client was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exact {
    pub(super) said: Key,
    pub(super) thought: Key,
    /// Between `<think>` and `</think>`.
    pub reasoning: Box<[u32]>,
    /// Text and calls.
    pub body: Box<[u32]>,
}

impl Exact {
    pub(super) fn new(seen: &Seen, tokens: &TurnTokens) -> Self {
        let (reasoning, body) = (tokens.reasoning.clone().into(), tokens.body.clone().into());
        Self { said: seen.said, thought: seen.thought.unwrap_or(hash("thought", &[])), reasoning, body }
    }

    /// Whether a message says the same.
    pub(super) fn is(&self, seen: &Seen) -> bool {
        self.said == seen.said
    }

    /// Whether a message that says the same has the same reasoning, or keeps it to itself.
    pub(crate) fn thought_as(&self, message: &Message) -> bool {
        thought(message).is_none_or(|thought| thought == self.thought)
    }

    /// Bytes that it takes in memory, keys and tables included.
    pub(super) fn bytes(&self) -> usize {
        400 + size_of_val(&*self.reasoning) + size_of_val(&*self.body)
    }
}

/// What a store keeps under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// A turn.
    Turn(Exact),
    /// The key under which the turn is.
    Link(Key),
}

impl Saved {
    /// Whether all ids are tokens of a vocabulary of that size.
    pub(super) fn fits(&self, vocabulary: u32) -> bool {
        match self {
            Self::Turn(exact) => exact.reasoning.iter().chain(&exact.body).all(|id| *id < vocabulary),
            Self::Link(_) => true,
        }
    }

    /// Its bytes: magic, kind, then a key (link), or two keys, two counts and the ids (turn), then the check. Numbers are
    /// little-endian and have 4 bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        match self {
            Self::Link(key) => {
                bytes.push(LINK);
                bytes.extend(key.bytes());
            }
            Self::Turn(Exact { said, thought, reasoning, body }) => {
                bytes.push(TURN);
                bytes.extend(said.bytes());
                bytes.extend(thought.bytes());
                let counts = [reasoning.len() as u32, body.len() as u32];
                bytes.extend(counts.iter().chain(reasoning).chain(body).flat_map(|n| n.to_le_bytes()));
            }
        }
        Self::seal(bytes)
    }

    /// Bytes with the check at their end.
    pub fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.extend(check(&bytes));
        bytes
    }

    /// Reads [`to_bytes`](Self::to_bytes); `None` for any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (bytes, found) = bytes.split_last_chunk::<CHECK>()?;
        if check(bytes) != *found {
            return None;
        }
        match bytes.strip_prefix(&MAGIC)?.split_first()? {
            (&LINK, rest) => Some(Self::Link(<[u8; Key::BYTES]>::try_from(rest).ok()?.into())),
            (&TURN, rest) => {
                let (said, rest) = rest.split_first_chunk::<{ Key::BYTES }>()?;
                let (thought, rest) = rest.split_first_chunk::<{ Key::BYTES }>()?;
                let (numbers, []) = rest.as_chunks::<4>() else { return None };
                let mut numbers = numbers.iter().map(|n| u32::from_le_bytes(*n));
                let counts = (numbers.next()? as usize, numbers.next()? as usize);
                let ids: Vec<u32> = numbers.collect();
                if counts.0.checked_add(counts.1) != Some(ids.len()) {
                    return None;
                }
                let (reasoning, body) = ids.split_at(counts.0);
                let (said, thought) = ((*said).into(), (*thought).into());
                Some(Self::Turn(Exact { said, thought, reasoning: reasoning.into(), body: body.into() }))
            }
            _ => None,
        }
    }
}

fn check(bytes: &[u8]) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    blake3::Hasher::new_derive_key("ds4 turn check").update(bytes).finalize_xof().fill(&mut check);
    check
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn saved() -> impl Strategy<Value = Saved> {
        let ids = || prop::collection::vec(any::<u32>(), 0..20).prop_map(Vec::into_boxed_slice);
        let key = || any::<[u8; Key::BYTES]>().prop_map(Key::from);
        prop_oneof![
            key().prop_map(Saved::Link),
            (key(), key(), ids(), ids()).prop_map(|(said, thought, reasoning, body)| Saved::Turn(Exact {
                said,
                thought,
                reasoning,
                body
            })),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(saved in saved()) {
            prop_assert_eq!(Saved::from_bytes(&saved.to_bytes()), Some(saved));
        }

        #[test]
        fn a_damaged_turn_is_none(saved in saved(), at: prop::sample::Index, change in 1u8.., cut: prop::sample::Index) {
            let bytes = saved.to_bytes();
            prop_assert_eq!(Saved::from_bytes(&bytes[..cut.index(bytes.len())]), None);
            let mut damaged = bytes;
            *at.get_mut(&mut damaged) ^= change;
            prop_assert_eq!(Saved::from_bytes(&damaged), None);
        }

        /// Also where the check holds, as a forger's would: only what would be written the same way is read.
        #[test]
        fn a_forged_turn_does_no_harm(saved in saved(), at: prop::sample::Index, change: u8, cut: prop::sample::Index) {
            let mut bytes = saved.to_bytes();
            *at.get_mut(&mut bytes) = change;
            let forged = Saved::seal(bytes[..cut.index(bytes.len())].to_vec());
            if let Some(read) = Saved::from_bytes(&forged) {
                prop_assert_eq!(read.to_bytes(), forged);
            }
        }
    }
}
