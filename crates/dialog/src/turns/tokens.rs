//! Which of the sampled tokens spell what the client was given.

use ds4_tokenizer::Tokenizer;

/// The one control token that a body may hold.
const MARK: &str = "｜DSML｜";

/// The tokens of a turn, without those that the template writes around them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TurnTokens {
    /// Between `<think>` and `</think>`.
    pub reasoning: Vec<u32>,
    /// Text and calls, up to the end of the turn.
    pub body: Vec<u32>,
}

/// What a turn says: all that the model wrote, without the tags around the reasoning, up to where reading ended.
pub(crate) struct Spelled<'a> {
    pub(crate) reasoning: &'a str,
    pub(crate) body: &'a str,
}

impl TurnTokens {
    /// Those of `sampled` that spell the turn. `thinking` is whether the prompt ended inside the reasoning.
    ///
    /// Where the text was cut inside a token, as stop strings do, or not spelled by whole characters, the tokens before
    /// are kept and the rest of the text is tokenised.
    pub(crate) fn new(tokenizer: &Tokenizer, sampled: &[u32], thinking: bool, spelled: &Spelled<'_>) -> Self {
        let is = |token: &str, id: &u32| tokenizer.id(token) == Some(*id);
        let opening = usize::from(sampled.first().is_some_and(|id| is("<think>", id)));
        let thinks = thinking || opening > 0;
        let (reasoning, body) = match sampled.iter().position(|id| is("</think>", id)) {
            Some(end) if thinks => (&sampled[opening..end], &sampled[end + 1..]),
            // Calls in reasoning that never ended follow it without a tag.
            None if thinks => {
                sampled[opening..].split_at(count(tokenizer, &sampled[opening..], spelled.reasoning.len()))
            }
            _ => (&[][..], sampled),
        };
        // A second <think> is no text, but the model has seen it. A first one is the template's.
        let mut kept = if thinking { sampled[..opening].to_vec() } else { Vec::new() };
        kept.extend(spelling(tokenizer, reasoning, spelled.reasoning));
        Self { reasoning: kept, body: spelling(tokenizer, body, spelled.body) }
    }
}

/// How many of the tokens spell the first `len` bytes, the last of them perhaps more.
fn count(tokenizer: &Tokenizer, ids: &[u32], len: usize) -> usize {
    let mut at = 0;
    let spells = |id: &&u32| {
        let begins = at < len;
        at += bytes(tokenizer, **id);
        begins
    };
    ids.iter().take_while(spells).count()
}

/// Bytes of a token's text.
fn bytes(tokenizer: &Tokenizer, id: u32) -> usize {
    tokenizer.token_bytes(id).map_or('\u{FFFD}'.len_utf8(), <[u8]>::len)
}

/// Tokens of `text`, the first of them from `sampled` as long as these spell it.
fn spelling(tokenizer: &Tokenizer, sampled: &[u32], text: &str) -> Vec<u32> {
    let spelled = tokenizer.decode_bytes(sampled);
    if String::from_utf8_lossy(&spelled) == text {
        return sampled.to_vec();
    }
    let same = spelled.iter().zip(text.as_bytes()).take_while(|(a, b)| a == b).count();
    let (mut kept, mut end) = (0, 0);
    let mut at = 0;
    for (count, id) in (1..).zip(sampled) {
        at += bytes(tokenizer, *id);
        if at > same {
            break;
        }
        if text.is_char_boundary(at) {
            (kept, end) = (count, at);
        }
    }
    let mut ids = sampled[..kept].to_vec();
    let rest = &text[end..];
    let marks: Vec<_> = rest.match_indices(MARK).map(|(at, mark)| at..at + mark.len()).collect();
    ids.extend(tokenizer.encode_marked(rest, &marks).unwrap_or_else(|_| tokenizer.encode_inert(rest)));
    ids
}
