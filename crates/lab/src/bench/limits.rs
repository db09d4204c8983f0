//! What machine and model allow.

use ds4_cpu::{Family, MachineLimits};

use super::{Row, Work};

/// Limits of the machine, and what the model needs of it.
pub struct Limits<'m> {
    /// Measured.
    pub machine: MachineLimits,
    /// Counted.
    pub work: Work<'m>,
}

impl Limits<'_> {
    /// More columns of [`Row::HEADER`].
    pub const HEADER: &'static str = "prefill_share,gen_share";

    /// Prompt tokens per second at most.
    pub fn prefill(&self) -> f64 {
        self.work.prefill_limit(self.machine.products)
    }

    /// Tokens generated per second at most, after `context` tokens.
    pub fn decode(&self, context: usize) -> f64 {
        self.work.decode_limit(self.machine.read, context)
    }

    /// What a row reached of them: prefill, decode.
    pub fn shares(&self, row: &Row) -> [f64; 2] {
        [row.prefill_rate / self.prefill(), row.decode_rate / self.decode(row.context)]
    }

    /// One line for people.
    pub fn describe(&self, threads: usize, context: usize) -> String {
        format!(
            "{threads} threads ({}) read {:.1} GB/s and multiply {:.0} G bytes/s; a token takes {:.0} MB of weights and, \
             after {context}, {:.1} MB of context to decode, {:.2} G products to read: at most {:.1} and {:.0} tokens/s",
            Family::current(),
            self.machine.read / 1e9,
            self.machine.products / 1e9,
            self.work.decode_bytes / 1e6,
            self.work.attention(context).bytes as f64 / 1e6,
            self.work.prefill_products / 1e9,
            self.decode(context),
            self.prefill(),
        )
    }
}
