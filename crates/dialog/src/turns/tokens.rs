//! Which of the sampled tokens spell what the client was given.

use ds4_chat::Message;
use ds4_tokenizer::Tokenizer;

/// The tokens of a turn, without those that the template writes around them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TurnTokens {
    /// Between `<think>` and `</think>`.
    pub reasoning: Vec<u32>,
    /// Text and calls, up to the end of the turn.
    pub body: Vec<u32>,
}

impl TurnTokens {
    /// Those of `sampled` that spell what was `given`. `thinking` is whether the prompt ended inside the reasoning.
    ///
    /// Where the text was cut inside a token, as stop strings do, or not spelled by whole characters, the tokens before
    /// are kept and the rest of the text is tokenised.
    pub(crate) fn new(tokenizer: &Tokenizer, sampled: &[u32], thinking: bool, given: &Message) -> Self {
        let is = |token: &str, id: &u32| tokenizer.id(token) == Some(*id);
        let opening = usize::from(sampled.first().is_some_and(|id| is("<think>", id)));
        let thinks = thinking || opening > 0;
        let (reasoning, body) = match sampled.iter().position(|id| is("</think>", id)) {
            Some(end) if thinks => (&sampled[opening..end], &sampled[end + 1..]),
            None if thinks => (&sampled[opening..], &[][..]),
            _ => (&[][..], sampled),
        };
        // A second <think> is no text, but the model has seen it. A first one is the template's.
        let mut kept = if thinking { sampled[..opening].to_vec() } else { Vec::new() };
        kept.extend(spelling(tokenizer, reasoning, &given.reasoning));
        Self { reasoning: kept, body: spelling(tokenizer, body, &given.content) }
    }
}

/// Tokens of `text`, the first of them from `sampled` as long as these spell it.
fn spelling(tokenizer: &Tokenizer, sampled: &[u32], text: &str) -> Vec<u32> {
    let bytes = tokenizer.decode_bytes(sampled);
    if String::from_utf8_lossy(&bytes) == text {
        return sampled.to_vec();
    }
    let same = bytes.iter().zip(text.as_bytes()).take_while(|(a, b)| a == b).count();
    let (mut kept, mut end) = (0, 0);
    let mut at = 0;
    for (count, id) in (1..).zip(sampled) {
        at += tokenizer.token_bytes(*id).map_or('\u{FFFD}'.len_utf8(), <[u8]>::len);
        if at > same {
            break;
        }
        if text.is_char_boundary(at) {
            (kept, end) = (count, at);
        }
    }
    let mut ids = sampled[..kept].to_vec();
    ids.extend(tokenizer.encode_inert(&text[end..]));
    ids
}
