//! A line of the table.

/// What was measured at one context length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Tokens of context.
    pub context: usize,
    /// Tokens read to get there from the row before.
    pub prefilled: usize,
    /// Tokens read per second.
    pub prefill_rate: f64,
    /// Tokens generated.
    pub generated: usize,
    /// Tokens generated per second.
    pub decode_rate: f64,
    /// Bytes that a sequence of this length holds.
    pub cache_bytes: usize,
}

impl Row {
    /// The columns of [`Row::csv`].
    pub const HEADER: &str = "ctx_tokens,prefill_tokens,prefill_tps,gen_tokens,gen_tps,kvcache_bytes";

    /// One line of the table.
    pub fn csv(&self) -> String {
        let Self { context, prefilled, prefill_rate, generated, decode_rate, cache_bytes } = self;
        format!("{context},{prefilled},{prefill_rate:.2},{generated},{decode_rate:.2},{cache_bytes}")
    }

    /// The row with the medians of the rates of several runs, of which there is at least one.
    pub(super) fn median(runs: &[Row]) -> Row {
        let rate = |of: fn(&Row) -> f64| median(runs.iter().map(of).collect());
        Row { prefill_rate: rate(|r| r.prefill_rate), decode_rate: rate(|r| r.decode_rate), ..runs[0] }
    }
}

/// The middle one, or what is half way between the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_runs_make_one_row_of_medians() {
        let row = |prefill_rate, decode_rate| Row {
            context: 64,
            prefilled: 64,
            prefill_rate,
            generated: 3,
            decode_rate,
            cache_bytes: 1,
        };
        let [a, b, c] = [row(9.0, 1.0), row(7.0, 3.0), row(8.0, 2.5)];
        assert_eq!(Row::median(&[a]), a);
        assert_eq!(Row::median(&[a, b]), row(8.0, 2.0));
        assert_eq!(Row::median(&[a, b, c]), row(8.0, 2.5));
        assert_eq!(a.csv(), "64,64,9.00,3,1.00,1");
    }
}
