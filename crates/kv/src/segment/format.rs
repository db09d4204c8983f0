//! The bytes of a segment's file: a header with its own checksum, then pages and resume point, each with one.
//!
//! | bytes | header |
//! |---|---|
//! | 8 | `ds4 seg` and a line feed |
//! | 4 | version, 1 |
//! | 4 | tokens |
//! | 8 | tokens before |
//! | 16 | key of everything before |
//! | 4 × tokens | the tokens |
//! | 36 × (pages + 1) | of each page, then of the point: its length in 4 bytes, its BLAKE3 hash |
//! | 32 | BLAKE3 hash of all above |
//!
//! Numbers are little-endian. There are as many pages as whole ones fit into the tokens. The file ends with the point.

use ds4_model::PAGE_TOKENS;

use super::Segment;
use crate::Key;

const MAGIC: &[u8; 8] = b"ds4 seg\n";
const HASH: usize = blake3::OUT_LEN;
/// Magic, version, tokens, tokens before, key.
const FIXED: usize = 8 + 4 + 4 + 8 + Key::BYTES;
/// Largest position that a name can tell.
const LAST: u64 = 9_999_999_999;

/// Why bytes are no segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// It does not begin as a segment does.
    #[error("not a segment of ds4: it begins with other bytes")]
    Foreign,
    /// It was written by another version.
    #[error("segment format {0}; this program reads 1")]
    Version(u32),
    /// A number cannot be.
    #[error("{field} is {value}; {limit}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it is.
        value: u64,
        /// What it can be.
        limit: &'static str,
    },
    /// It ends too early or too late.
    #[error("{is} bytes instead of {should}: cut off, or followed by something else")]
    Length {
        /// Bytes that there are.
        is: u64,
        /// Bytes that there should be.
        should: u64,
    },
    /// A part was changed after it was written.
    #[error("the checksum of {0} is wrong")]
    Checksum(Part),
    /// It is whole, but not what its name says, or not what was asked for.
    #[error("it is not the segment that its name says")]
    Misnamed,
}

/// A part of the file with a checksum of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All that is not payload.
    Header,
    /// A page, counted from 0.
    Page(usize),
    /// The resume point.
    Point,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header => write!(f, "the header"),
            Self::Page(page) => write!(f, "page {page}"),
            Self::Point => write!(f, "the resume point"),
        }
    }
}

/// What a segment says about itself before the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The key of everything before.
    pub parent: Key,
    /// Tokens before.
    pub start: usize,
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Length and hash of each page, then of the resume point.
    parts: Vec<(u32, [u8; HASH])>,
}

impl Header {
    /// The first so many bytes of a file hold its header.
    pub const MOST_BYTES: usize = header_bytes(Segment::MOST_TOKENS);

    /// Reads the beginning of a file; what follows the header is not looked at.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let fixed =
            bytes.first_chunk::<FIXED>().ok_or(Damaged::Length { is: bytes.len() as u64, should: FIXED as u64 });
        let mut rest = match fixed {
            Ok(fixed) if fixed.starts_with(MAGIC) => &fixed[MAGIC.len()..],
            Err(short) if bytes.starts_with(MAGIC) => return Err(short),
            _ => return Err(Damaged::Foreign),
        };
        match u32::from_le_bytes(take(&mut rest)) {
            Segment::VERSION => {}
            other => return Err(Damaged::Version(other)),
        }
        let tokens = u32::from_le_bytes(take(&mut rest)) as usize;
        let start = u64::from_le_bytes(take(&mut rest));
        let parent = Key::from(take::<{ Key::BYTES }>(&mut rest));
        check(start, tokens)?;
        let length = header_bytes(tokens);
        let header = bytes.get(..length).ok_or(Damaged::Length { is: bytes.len() as u64, should: length as u64 })?;
        let (hashed, hash) = header.split_at(length - HASH);
        if blake3::hash(hashed).as_bytes() != hash {
            return Err(Damaged::Checksum(Part::Header));
        }
        let mut rest = &hashed[FIXED..];
        let tokens: Vec<u32> = (0..tokens).map(|_| u32::from_le_bytes(take(&mut rest))).collect();
        let part = |rest: &mut &[u8]| (u32::from_le_bytes(take(rest)), take(rest));
        let parts = (0..=Segment::pages_of(tokens.len())).map(|_| part(&mut rest)).collect();
        Ok(Self { parent, start: start as usize, tokens, parts })
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        header_bytes(self.tokens.len()) as u64 + self.parts.iter().map(|p| u64::from(p.0)).sum::<u64>()
    }

    /// Tokens up to the end.
    pub fn end(&self) -> usize {
        self.start + self.tokens.len()
    }
}

impl Segment {
    /// The file's bytes; refused is a segment that no reader would take.
    pub fn encode(&self) -> Result<Vec<u8>, Damaged> {
        check(self.start as u64, self.tokens.len())?;
        let pages = Self::pages_of(self.tokens.len());
        if self.pages.len() != pages {
            let limit = "there is one for each whole page of tokens";
            return Err(Damaged::Field { field: "number of pages", value: self.pages.len() as u64, limit });
        }
        let length = header_bytes(self.tokens.len()) + self.bytes();
        if length as u64 > Self::MOST_BYTES {
            return Err(too_large(length as u64));
        }
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&Segment::VERSION.to_le_bytes());
        bytes.extend_from_slice(&(self.tokens.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&(self.start as u64).to_le_bytes());
        bytes.extend_from_slice(self.parent.bytes());
        bytes.extend(self.tokens.iter().flat_map(|token| token.to_le_bytes()));
        let parts = || self.pages.iter().chain([&self.point]);
        for part in parts() {
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
            bytes.extend_from_slice(blake3::hash(part).as_bytes());
        }
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        parts().for_each(|part| bytes.extend_from_slice(part));
        Ok(bytes)
    }

    /// Reads a whole file and checks every part of it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let header = Header::decode(bytes)?;
        let (is, should) = (bytes.len() as u64, header.file_bytes());
        if is != should {
            return Err(Damaged::Length { is, should });
        }
        let mut rest = &bytes[header_bytes(header.tokens.len())..];
        let mut payloads = Vec::with_capacity(header.parts.len());
        let last = header.parts.len() - 1;
        for (i, (length, hash)) in header.parts.iter().enumerate() {
            // The lengths add up to what there is.
            let (payload, others) = rest.split_at(*length as usize);
            rest = others;
            if blake3::hash(payload).as_bytes() != hash {
                return Err(Damaged::Checksum(if i == last { Part::Point } else { Part::Page(i) }));
            }
            payloads.push(payload.to_vec());
        }
        let point = payloads.pop().unwrap_or_default();
        let Header { parent, start, tokens, .. } = header;
        Ok(Self { parent, start, tokens, pages: payloads, point })
    }
}

/// Bytes of a header with so many tokens.
const fn header_bytes(tokens: usize) -> usize {
    FIXED + 4 * tokens + (4 + HASH) * (tokens / PAGE_TOKENS + 1) + HASH
}

/// Checks where a segment lies.
fn check(start: u64, tokens: usize) -> Result<(), Damaged> {
    let wrong = |field, value, limit| Err(Damaged::Field { field, value, limit });
    if tokens == 0 || tokens > Segment::MOST_TOKENS {
        return wrong("number of tokens", tokens as u64, "it is from 1 to 65536");
    }
    if !start.is_multiple_of(PAGE_TOKENS as u64) || start > LAST - tokens as u64 {
        return wrong("number of tokens before", start, "it is a multiple of 128 below ten thousand million");
    }
    Ok(())
}

/// A file larger than any segment.
fn too_large(bytes: u64) -> Damaged {
    Damaged::Field { field: "size", value: bytes, limit: "a segment has at most 256 MiB" }
}

/// The next `N` bytes, which the caller knows to be there.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (bytes, others) = rest.split_first_chunk().expect("the length was checked");
    *rest = others;
    *bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::segment::tests::segment;

    fn example(start_pages: usize, tokens: usize, page_bytes: usize) -> Segment {
        let all: Vec<u32> = (0..(start_pages * PAGE_TOKENS + tokens) as u32).map(|t| t * 7 % 1000).collect();
        segment(Key::root(&[b"model"]), &all, start_pages * PAGE_TOKENS, page_bytes)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(start in 0usize..5, tokens in 1usize..700, page_bytes in 0usize..300) {
            let segment = example(start, tokens, page_bytes);
            let bytes = segment.encode().unwrap();
            prop_assert_eq!(Segment::decode(&bytes), Ok(segment.clone()));
            let header = Header::decode(&bytes[..header_bytes(tokens)]).unwrap();
            prop_assert_eq!(header.file_bytes(), bytes.len() as u64);
            prop_assert_eq!((header.end(), header.tokens), (segment.end(), segment.tokens));
        }

        #[test]
        fn no_changed_bit_goes_unseen(at in any::<prop::sample::Index>(), bit in 0u32..8) {
            let mut bytes = example(1, 300, 50).encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            prop_assert!(Segment::decode(&bytes).is_err());
        }

        #[test]
        fn no_other_length_is_taken(cut in any::<prop::sample::Index>(), more in 1usize..100) {
            let bytes = example(0, 300, 50).encode().unwrap();
            prop_assert!(Segment::decode(&bytes[..cut.index(bytes.len())]).is_err());
            prop_assert!(Segment::decode(&[bytes.clone(), vec![0; more]].concat()).is_err());
        }

        #[test]
        fn any_bytes_are_decided_on(mut bytes in prop::collection::vec(any::<u8>(), 0..400), lie in any::<bool>()) {
            if lie {
                // A header that is right in its first fields and its checksum.
                bytes.splice(..bytes.len().min(16), [&MAGIC[..], &Segment::VERSION.to_le_bytes(), &8u32.to_le_bytes()].concat());
                bytes.resize(header_bytes(8), 1);
                bytes[16..24].fill(0);
                let hash = blake3::hash(&bytes[..header_bytes(8) - HASH]);
                bytes[header_bytes(8) - HASH..].copy_from_slice(hash.as_bytes());
            }
            match Segment::decode(&bytes) {
                Ok(segment) => prop_assert_eq!(segment.encode(), Ok(bytes)),
                Err(why) => prop_assert!(!why.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn each_fault_is_named() {
        let good = example(1, 300, 50).encode().unwrap();
        let with = |at: usize, bytes: &[u8]| {
            let mut changed = good.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            Segment::decode(&changed).unwrap_err().to_string()
        };
        assert_eq!(with(0, b"KVC"), "not a segment of ds4: it begins with other bytes");
        assert_eq!(with(8, &[2]), "segment format 2; this program reads 1");
        assert_eq!(with(12, &[0; 4]), "number of tokens is 0; it is from 1 to 65536");
        assert_eq!(with(12, &[255; 4]), "number of tokens is 4294967295; it is from 1 to 65536");
        let start = with(16, &[129]);
        assert_eq!(start, "number of tokens before is 129; it is a multiple of 128 below ten thousand million");
        assert_eq!(with(60, b"x"), "the checksum of the header is wrong");
        let header = header_bytes(300);
        assert_eq!(with(header + 49, &[255]), "the checksum of page 0 is wrong");
        assert_eq!(with(header + 50, &[255]), "the checksum of page 1 is wrong");
        assert_eq!(with(good.len() - 1, &[255]), "the checksum of the resume point is wrong");
        let short = Segment::decode(&good[..good.len() - 1]).unwrap_err().to_string();
        let (is, should) = (good.len() - 1, good.len());
        assert_eq!(short, format!("{is} bytes instead of {should}: cut off, or followed by something else"));
    }

    #[test]
    fn what_no_reader_would_take_is_not_written() {
        let mut odd = example(0, 300, 5);
        odd.pages.pop();
        let why = odd.encode().unwrap_err().to_string();
        assert_eq!(why, "number of pages is 1; there is one for each whole page of tokens");
        odd.tokens.clear();
        assert!(odd.encode().is_err());
    }
}
