//! The stream of random words: splitmix64 by position, so that any part of it can be made without the parts before.

/// The odd constant of splitmix64, 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The words of one tensor.
pub(super) struct Stream {
    key: u64,
}

impl Stream {
    /// The stream of the tensor `name`: its FNV-1a hash and the seed choose where in splitmix64's cycle it begins.
    pub(super) fn new(name: &str, seed: u64) -> Self {
        // FNV's published offset basis has one more digit (a 7); that the files agree matters, not the number.
        const BASIS: u64 = 1_469_598_103_934_665_603;
        let hash = name.bytes().fold(BASIS, |h, b| (h ^ u64::from(b)).wrapping_mul(1_099_511_628_211));
        Self { key: hash ^ seed.wrapping_mul(GOLDEN) }
    }

    /// Word `i`.
    #[inline]
    pub(super) fn word(&self, i: u64) -> u64 {
        let mut x = self.key.wrapping_add(i.wrapping_add(1).wrapping_mul(GOLDEN));
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }

    /// Fills `out` with the little-endian bytes of the words from `first` on; the last word may be cut.
    pub(super) fn fill(&self, first: u64, out: &mut [u8]) {
        let (words, rest) = out.as_chunks_mut();
        let mut i = first;
        for word in words {
            *word = self.word(i).to_le_bytes();
            i += 1;
        }
        rest.copy_from_slice(&self.word(i).to_le_bytes()[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_splitmix64() {
        // From the state 0 the published generator gives these.
        let stream = Stream { key: 0 };
        assert_eq!([0, 1].map(|i| stream.word(i)), [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
    }

    #[test]
    fn parts_join() {
        let stream = Stream::new("a", 7);
        let (mut whole, mut parts) = ([0; 30], [0; 30]);
        stream.fill(5, &mut whole);
        stream.fill(5, &mut parts[..16]);
        stream.fill(7, &mut parts[16..]);
        assert_eq!(whole, parts);
    }
}
