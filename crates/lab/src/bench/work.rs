//! What a token costs, counted from the loaded weights.

use ds4_gguf::Format;
use ds4_model::{CacheLayout, CachePlan, Shape, StoredRows, Weights};

/// The least that a token takes.
#[derive(Clone, Debug)]
pub struct Work<'m> {
    /// Bytes of weights that decoding a token reads.
    pub decode_bytes: f64,
    /// Multiplications of weights that reading a prompt token takes: everything but the output matrix, which only the
    /// last one meets. [`Work::attention`] comes on top.
    pub prefill_products: f64,
    /// Of these, the part with weights in integer formats.
    pub integer_part: f64,
    shape: &'m Shape,
    layout: CacheLayout,
}

/// What attention takes of a token, in all layers: it grows with the context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionWork {
    /// Bytes of stored rows that it reads.
    pub bytes: usize,
    /// Multiplications of these with queries and weights, in f32 (indexer: integers).
    pub products: usize,
}

impl<'m> Work<'m> {
    /// Counts.
    pub fn of(weights: &'m Weights, stored: StoredRows) -> Self {
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
            shape: &weights.shape,
            layout: CacheLayout::new(&weights.shape, stored, CachePlan { slots: 1, pages: 0, step: 1 }),
        }
    }

    /// Attention of a token with `context` tokens up to and with itself: over its window, and over the compressed rows
    /// of each layer, of which the indexer chooses where there are more than it may choose.
    pub fn attention(&self, context: usize) -> AttentionWork {
        let (shape, layout) = (self.shape, &self.layout);
        let mut work = AttentionWork { bytes: 0, products: 0 };
        for &ratio in &shape.ratios {
            let compressed = context.checked_div(ratio).unwrap_or(0);
            let chooses = ratio == 4 && compressed > shape.index_top_k;
            let rows = context.min(shape.window) + if chooses { shape.index_top_k } else { compressed };
            work.bytes += rows * layout.row.bytes();
            work.products += rows * shape.heads * 2 * shape.head_dim;
            if chooses {
                work.bytes += compressed * layout.index_row.bytes();
                work.products += compressed * shape.index_heads * shape.index_dim;
            }
        }
        work
    }

    /// Tokens per second that a machine decodes after `context` tokens which reads `bytes` a second.
    pub fn decode_limit(&self, bytes: f64, context: usize) -> f64 {
        bytes / (self.decode_bytes + self.attention(context).bytes as f64)
    }

    /// Prompt tokens per second that a machine reads which multiplies `products` a second. Attention is not in it: its
    /// products are not of bytes.
    pub fn prefill_limit(&self, products: f64) -> f64 {
        products / self.prefill_products
    }
}
