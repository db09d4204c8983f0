//! How probable tokens were, in the words of OpenAI's two APIs.

use std::sync::Arc;

use ds4_engine::{Model, TokenScore};
use serde_json::{Map, Value, json};

use crate::progress::Scored;

/// What OpenAI says of a token that is as good as impossible.
const LEAST: f64 = -9999.0;

/// The tokens of an answer that were not told yet; none are wanted without a model.
#[derive(Clone, Default)]
pub(super) struct Logprobs {
    model: Option<Arc<Model>>,
    scored: Vec<Scored>,
}

impl Logprobs {
    /// For an answer that wants them or not.
    pub(super) fn new(model: &Arc<Model>, wanted: bool) -> Self {
        Self { model: wanted.then(|| Arc::clone(model)), scored: Vec::new() }
    }

    pub(super) fn push(&mut self, scored: impl IntoIterator<Item = Scored>) {
        self.scored.extend(scored);
    }

    /// What has come since it was last asked, as `choices[].logprobs` of a chat; none if nobody wants it.
    pub(super) fn chat(&mut self) -> Option<Value> {
        let model = self.model.as_deref()?;
        let content = std::mem::take(&mut self.scored).into_iter().map(|scored| {
            let mut token = token(model, &scored.drawn);
            token["top_logprobs"] = scored.most.iter().map(|score| self::token(model, score)).collect();
            token
        });
        Some(json!({"content": content.collect::<Value>(), "refusal": null}))
    }

    /// The same for a completion, whose text has `offset` bytes before these.
    pub(super) fn completion(&mut self, mut offset: usize) -> Option<Value> {
        let model = self.model.as_deref()?;
        let (mut tokens, mut logprobs, mut tops, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for scored in std::mem::take(&mut self.scored) {
            let text = model.tokenizer.decode(&[scored.drawn.id]);
            offsets.push(offset);
            offset += text.len();
            tokens.push(text);
            logprobs.push(scored.drawn.logprob.max(LEAST));
            let top = scored.most.iter().map(|s| (model.tokenizer.decode(&[s.id]), s.logprob.max(LEAST).into()));
            tops.push(top.collect::<Map<String, Value>>());
        }
        Some(json!({"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets}))
    }
}

fn token(model: &Model, score: &TokenScore) -> Value {
    let bytes = model.tokenizer.decode_bytes(&[score.id]);
    let text = String::from_utf8_lossy(&bytes);
    json!({"token": text, "logprob": score.logprob.max(LEAST), "bytes": bytes})
}
