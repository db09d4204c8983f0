//! The byte-level alphabet: one printable character for each of the 256 bytes (GPT-2's map).
//!
//! Tokens are stored as strings of these characters, so that any byte sequence is printable text. Bytes that print as
//! Latin-1 stand for themselves; the 68 others take the characters from U+0100 on, in order (a space is `Ġ`).

const OTHERS: u32 = 0x100;

const CHARS: [char; 256] = {
    let mut chars = ['\0'; 256];
    let (mut byte, mut next) = (0, OTHERS);
    while byte < 256 {
        let code = if is_itself(byte as u8) {
            byte as u32
        } else {
            next += 1;
            next - 1
        };
        chars[byte] = char::from_u32(code).expect("below U+0144");
        byte += 1;
    }
    chars
};

const BYTES: [Option<u8>; 0x144] = {
    let mut bytes = [None; 0x144];
    let mut byte = 0;
    while byte < 256 {
        bytes[CHARS[byte] as usize] = Some(byte as u8);
        byte += 1;
    }
    bytes
};

const fn is_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character that stands for `byte`.
pub(crate) fn char_of(byte: u8) -> char {
    CHARS[byte as usize]
}

/// The byte that `c` stands for, if it is of the alphabet.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    BYTES.get(c as usize).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_one_to_one() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        assert_eq!((char_of(b'a'), char_of(b' '), char_of(b'\n'), char_of(0xAD)), ('a', 'Ġ', 'Ċ', '\u{143}'));
        assert_eq!((byte_of(' '), byte_of('\u{AD}'), byte_of('\u{144}'), byte_of('｜')), (None, None, None, None));
    }
}
