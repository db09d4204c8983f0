//! What a token costs, counted from the loaded weights.

use ds4_gguf::Format;
use ds4_model::Weights;

/// The least that a token takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Bytes of weights that decoding a token reads.
    pub decode_bytes: f64,
    /// Multiplications of weights that reading a prompt token takes: everything but the output matrix, which only the
    /// last one meets. Attention comes on top.
    pub prefill_products: f64,
    /// Of these, the part with weights in integer formats.
    pub integer_part: f64,
}

impl Work {
    /// Counts.
    pub fn of(weights: &Weights) -> Self {
        let (mut all, mut integers) = (0.0, 0.0);
        for (w, used) in weights.used_by_a_token() {
            let products = (w.rows * w.cols * used) as f64;
            let output = w.name == weights.output.name || w.name == weights.head.fn_.name;
            all += if output { 0.0 } else { products };
            let float = matches!(w.format, Format::F32 | Format::F16 | Format::BF16);
            integers += if output || float { 0.0 } else { products };
        }
        Self {
            decode_bytes: weights.bytes_per_token() as f64,
            prefill_products: all,
            integer_part: if all > 0.0 { integers / all } else { 0.0 },
        }
    }

    /// Tokens per second that a machine decodes which reads `bytes` a second.
    pub fn decode_limit(&self, bytes: f64) -> f64 {
        bytes / self.decode_bytes
    }

    /// Prompt tokens per second that a machine reads which multiplies `products` a second.
    pub fn prefill_limit(&self, products: f64) -> f64 {
        products / self.prefill_products
    }
}
