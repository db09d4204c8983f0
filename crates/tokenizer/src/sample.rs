//! A small vocabulary for tests: ids 0-255 are the bytes in order, then a few merges, then added tokens.

use crate::{TokenType, Tokenizer, Vocabulary, alphabet};

const MERGES: [&str; 12] =
    ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "l d", "Ġwor ld", "Ġ Ġ", "t h", "Ċ Ċ"];

const ADDED: [(&str, TokenType); 9] = [
    ("<｜begin▁of▁sentence｜>", TokenType::Control),
    ("<｜end▁of▁sentence｜>", TokenType::Control),
    ("<｜▁pad▁｜>", TokenType::Control),
    ("<｜User｜>", TokenType::Control),
    ("<｜Assistant｜>", TokenType::Control),
    ("<think>", TokenType::UserDefined),
    ("</think>", TokenType::UserDefined),
    ("｜DSML｜", TokenType::UserDefined),
    ("<｜User｜>!", TokenType::UserDefined),
];

pub(crate) fn vocabulary() -> Vocabulary {
    let mut tokens: Vec<String> = (0..=255).map(|byte| alphabet::char_of(byte).to_string()).collect();
    tokens.extend(MERGES.iter().map(|merge| merge.replace(' ', "")));
    let mut types = vec![TokenType::Normal; tokens.len()];
    let bos = tokens.len() as u32;
    tokens.extend(ADDED.iter().map(|(token, _)| token.to_string()));
    types.extend(ADDED.iter().map(|(_, kind)| *kind));
    tokens.push("[PAD277]".into());
    types.push(TokenType::Unused);
    let merges = MERGES.map(String::from).to_vec();
    Vocabulary { tokens, types, merges, bos, eos: bos + 1, pad: Some(bos + 2) }
}

pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::new(vocabulary()).expect("the sample vocabulary is sound")
}

pub(crate) fn byte_id(tokenizer: &Tokenizer, byte: u8) -> u32 {
    tokenizer.id(&alphabet::char_of(byte).to_string()).expect("every byte has a token")
}
