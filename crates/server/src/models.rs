//! `/v1/models`: the one model that runs, in a form that both APIs' clients understand.

use ds4_engine::Model;
use serde_json::{Value, json};

/// The name that clients of the C program are set up with; it finds any model that runs.
const USUAL: &str = "deepseek-v4-flash";
/// 1 January 2026.
const CREATED: u64 = 1_767_225_600;

/// What the model is called and what it can do.
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) name: String,
    context: usize,
    max_tokens: usize,
}

impl Identity {
    pub(crate) fn new(model: &Model, context: usize, max_tokens: usize) -> Self {
        let shape = &model.weights.shape;
        let (id, name) = match (shape.hidden, shape.layers()) {
            (4096, 43) => (USUAL.into(), "DeepSeek V4 Flash".into()),
            (7168, 61) => ("deepseek-v4-pro".into(), "DeepSeek V4 Pro".into()),
            _ => (slug(&shape.name), shape.name.clone()),
        };
        Self { id, name, context, max_tokens: max_tokens.min(context) }
    }

    /// The model as clients ask for it by `id`; none when it is not here.
    pub(crate) fn find(&self, id: &str) -> Option<Value> {
        (id == self.id || id == USUAL).then(|| self.object(id))
    }

    /// The list of all models, which has one entry.
    pub(crate) fn list(&self) -> Value {
        json!({
            "object": "list",
            "data": [self.object(&self.id)],
            "has_more": false,
            "first_id": self.id,
            "last_id": self.id,
        })
    }

    fn object(&self, id: &str) -> Value {
        json!({
            "id": id,
            "object": "model",
            "type": "model",
            "created": CREATED,
            "created_at": "2026-01-01T00:00:00Z",
            "owned_by": "ds4",
            "name": self.name,
            "display_name": self.name,
            "context_length": self.context,
            "top_provider": {
                "context_length": self.context,
                "max_completion_tokens": self.max_tokens,
                "is_moderated": false,
            },
            "supported_parameters": [
                "max_tokens", "temperature", "top_p", "top_k", "min_p", "stop", "seed", "stream", "reasoning_effort", "tools",
                "tool_choice",
            ],
        })
    }
}

/// A name as an identifier: lower case, no spaces.
fn slug(name: &str) -> String {
    let slug: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let slug = slug.trim_matches('-').to_ascii_lowercase();
    if slug.is_empty() { USUAL.into() } else { slug }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers() {
        assert_eq!(slug("V4-mini"), "v4-mini");
        assert_eq!(slug(" My model 1.5! "), "my-model-1.5");
        assert_eq!(slug("模型"), USUAL);
    }
}
