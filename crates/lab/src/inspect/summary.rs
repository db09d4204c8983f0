//! The report of `--inspect`: container, sizes, weights, memory, and what keeps the file from loading.

use ds4_gguf::File;
use ds4_model::{CacheLayout, CachePlan, Error, PAGE_TOKENS, Shape, StoredRows, Weights};

use super::families::{Family, Sum, expert_ranges, sums};
use super::text;

/// What [`summary`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Aligned lines for a terminal, ending with a line break.
    pub text: String,
    /// Whether the file is a model that ds4 runs. If not, the last lines say why.
    pub loads: bool,
}

/// Describes `file`. Payloads are not read, but for what the loader itself checks.
pub fn summary(file: &File) -> Summary {
    let shape = Shape::from_file(file);
    let weights = Weights::load(file);
    let mut page = Page { file, rows: Vec::new() };
    page.container();
    if let Ok(shape) = &shape {
        page.parameters(shape);
        page.sizes(shape);
    }
    if !matches!(shape, Err(Error::Architecture { .. })) {
        page.drafting();
        page.release();
    }
    let mut text = text::columns(&page.rows, &[]);
    text.push_str(&weights_table(file));
    if let Ok(shape) = &shape {
        text.push_str(&memory(shape));
    }
    if let Err(error) = &weights {
        text.push_str(&format!("\nds4 cannot run this file:\n{error}\n"));
    }
    Summary { text, loads: weights.is_ok() }
}

/// The lines of the first part.
struct Page<'a> {
    file: &'a File,
    rows: Vec<Vec<String>>,
}

impl Page<'_> {
    fn row(&mut self, label: &str, text: String) {
        self.rows.push(vec![label.into(), text]);
    }

    fn container(&mut self) {
        let file = self.file;
        self.row("file", text::printable(file.name(), 1000));
        let (size, exact) = (text::bytes(file.size() as f64), text::grouped(file.size()));
        let tensors = text::count(file.tensors().len(), "tensor");
        let keys = text::count(file.metadata().len(), "metadata key");
        self.row("size", format!("{size} ({exact} bytes), {tensors}, {keys}"));
        for (label, key) in [("architecture", "general.architecture"), ("name", "general.name")] {
            let value = match file.metadata().str(key) {
                Ok(value) => value.map_or("not stated".into(), |name| text::printable(name, 200)),
                Err(_) => format!("{key} is not a string"),
            };
            self.row(label, value);
        }
    }

    /// Counted from the tensors. A token reads one row of the embedding and some of the experts.
    fn parameters(&mut self, shape: &Shape) {
        let sums = sums(self.file);
        let of = |family| sums.get(&family).map_or(0, |sum: &Sum| sum.parameters);
        let total = sums.values().map(|sum| sum.parameters).sum::<u128>() - of(Family::Mtp) - of(Family::Other);
        let experts = of(Family::Experts);
        let used = experts / shape.experts as u128 * shape.experts_used as u128;
        let active = total - experts + used - of(Family::Embedding) + shape.hidden as u128;
        let (total, active) = (text::parameters(total), text::parameters(active));
        self.row("parameters", format!("{total}, {active} active per token"));
    }

    fn sizes(&mut self, s: &Shape) {
        let of_ratio = |ratio| s.ratios.iter().filter(|&&r| r == ratio).count();
        let (window, four, many) = (of_ratio(0), of_ratio(4), of_ratio(128));
        let layers = format!("{}: {window} window only, {four} of ratio 4, {many} of ratio 128", s.layers());
        self.row("layers", format!("{layers}; {} hash-routed", s.hash_layers));
        self.row("hidden", format!("{} in {} streams", s.hidden, Shape::STREAMS));
        let heads = format!("{} heads of {} ({} rotary), one key/value head", s.heads, s.head_dim, s.rope_dim);
        self.row("attention", format!("{heads}, window {}", s.window));
        let output = format!("output {} groups of rank {}", s.out_groups, s.out_rank);
        self.row("", format!("query rank {}, {output}", s.q_rank));
        if s.has_indexer() {
            self.row("indexer", format!("{} heads of {}, top {}", s.index_heads, s.index_dim, s.index_top_k));
        }
        let experts = format!("{} routed, {} used per token, 1 shared", s.experts, s.experts_used);
        self.row("experts", format!("{experts}; width {}, scale {}", s.expert_ff, s.expert_scale));
        self.expert_bits();
        self.row("vocabulary", format!("{} tokens", text::grouped(s.vocab as u64)));
        self.row("context", format!("{} tokens", text::grouped(s.context_length.into())));
    }

    /// The class that cache files name (that of the first layer's gate) and the mean.
    fn expert_bits(&mut self) {
        let ranges = expert_ranges(self.file);
        let Some(gate) = ranges.first().and_then(|range| range.formats[0]) else { return };
        let class = gate.block_bytes() * 8 / gate.block_len().max(1);
        let bits = ranges.iter().map(|range| range.sum.bytes as f64 * 8.0).sum::<f64>();
        let weights = ranges.iter().map(|range| range.sum.parameters).sum::<u128>();
        self.row("", format!("{class}-bit routed weights, {:.2} bits on average", bits / weights as f64));
    }

    fn drafting(&mut self) {
        let sums = sums(self.file);
        let declared = self.file.metadata().u64("deepseek4.nextn_predict_layers").ok().flatten().unwrap_or(0);
        let text = match (sums.get(&Family::Mtp), sums.contains_key(&Family::Embedding)) {
            (Some(mtp), true) => format!("MTP block of {} parameters", text::parameters(mtp.parameters)),
            (Some(_), false) => "MTP block without a model: give it as --mtp beside its model".into(),
            (None, _) if declared > 0 => "the MTP block is a file of its own (--mtp)".into(),
            (None, _) => "no MTP block".into(),
        };
        self.row("drafting", text);
    }

    /// Which words about effort the checkpoint was trained with, if the file tells: see `ds4_chat::Release`.
    fn release(&mut self) {
        let strings = self.file.metadata().iter().filter_map(|(key, value)| match value {
            ds4_gguf::Value::String(text) => Some((key, text)),
            _ => None,
        });
        let mut hints = strings.filter(|(key, text)| match *key {
            "tokenizer.chat_template" => text.contains("Beyond maximum"),
            key => key.starts_with("general.") && text.contains("0731"),
        });
        let text =
            hints.next().map_or("not stated".into(), |(key, _)| format!("0731, by {}", text::printable(key, 80)));
        self.row("chat release", text);
    }
}

/// Tensors, bytes and formats of each family; routed experts by range of layers if they are mixed.
fn weights_table(file: &File) -> String {
    let row = |label: &str, sum: &Sum, formats: String| {
        let (tensors, bytes) = (text::grouped(sum.tensors as u64), text::bytes(sum.bytes as f64));
        vec![label.to_string(), tensors, bytes, formats]
    };
    let mut rows = vec![["weights", "tensors", "bytes", "formats"].map(String::from).to_vec()];
    for (family, sum) in sums(file) {
        let ranges = if family == Family::Experts { expert_ranges(file) } else { Vec::new() };
        match ranges.as_slice() {
            [] => rows.push(row(family.label(), &sum, sum.formats())),
            [range] => rows.push(row(family.label(), &range.sum, range.formats())),
            ranges => {
                rows.push(row(family.label(), &sum, "mixed:".into()));
                for range in ranges {
                    let label = match (range.layers.start, range.layers.end - 1) {
                        (first, last) if first == last => format!("  layer {first}"),
                        (first, last) => format!("  layers {first}-{last}"),
                    };
                    rows.push(row(&label, &range.sum, range.formats()));
                }
            }
        }
    }
    format!("\n{}", text::columns(&rows, &[1, 2]))
}

/// What a sequence takes with rows stored as the model was trained.
fn memory(shape: &Shape) -> String {
    let layout = |step| CacheLayout::new(shape, StoredRows::Trained, CachePlan { slots: 1, pages: 0, step });
    let (page, slot) = (layout(1).page_bytes() as f64, layout(1).slot_bytes() as f64);
    let step = layout(2).slot_bytes() as f64 - slot;
    let context = f64::from(shape.context_length);
    let row = |label: &str, text: String| vec![label.to_string(), text];
    let rows = [
        row("memory", "rows stored as trained (FP8; indexer FP4)".into()),
        row("per token", text::bytes(page / PAGE_TOKENS as f64)),
        row("per sequence", format!("{} and {} per token of a prefill step", text::bytes(slot), text::bytes(step))),
        row("full context", text::bytes(slot + (context / PAGE_TOKENS as f64).ceil() * page)),
    ];
    format!("\n{}", text::columns(&rows, &[]))
}
