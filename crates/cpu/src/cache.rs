//! What sequences leave behind, in memory (laid out by [`CacheLayout`]).

use std::ops::Range;

use ds4_model::{CacheLayout, PAGE_TOKENS, RowLayout, Series};

/// Fills memory that nothing was written to: scale bytes and states then read as NaN. Written at once, so that what the
/// plan says is what the process holds.
const UNWRITTEN: u8 = 255;

/// Windows, compressed rows and compressor states of all layers.
pub struct Cache {
    layout: CacheLayout,
    layers: Vec<LayerCache>,
}

struct LayerCache {
    ratio: usize,
    /// `[slots][window_rows][row]`
    window: Vec<u8>,
    /// Key/value rows.
    attention: SeriesCache,
    /// Indexer rows; empty unless the ratio is 4.
    index: SeriesCache,
}

/// Compressed rows of one kind, and the states of the compressor that makes them.
struct SeriesCache {
    row_bytes: usize,
    /// `[pages][rows_per_page][row]`
    rows: Vec<u8>,
    state_len: usize,
    /// `[slots][states][state]`
    states: Vec<f32>,
}

impl SeriesCache {
    fn new(layout: &CacheLayout, ratio: usize, row_bytes: usize, width: usize) -> Self {
        let state_len = CacheLayout::state_len(ratio, width);
        let rows = layout.plan.pages * CacheLayout::rows_per_page(ratio);
        Self {
            row_bytes,
            rows: vec![UNWRITTEN; rows * row_bytes],
            state_len,
            states: vec![f32::NAN; layout.plan.slots * CacheLayout::states() * state_len],
        }
    }

    fn none() -> Self {
        Self { row_bytes: 0, rows: Vec::new(), state_len: 0, states: Vec::new() }
    }

    /// Where the rows lie that the first `tokens` of a page have completed.
    fn page_range(&self, ratio: usize, page: u32, tokens: usize) -> Range<usize> {
        let first = page as usize * CacheLayout::rows_per_page(ratio) * self.row_bytes;
        first..first + tokens.checked_div(ratio).unwrap_or(0) * self.row_bytes
    }

    fn state_range(&self, slot: usize, position: u32) -> Range<usize> {
        let states = CacheLayout::states();
        let start = (slot * states + position as usize % states) * self.state_len;
        start..start + self.state_len
    }
}

impl Cache {
    pub(crate) fn new(layout: &CacheLayout) -> Self {
        let layers = layout.ratios.iter().map(|&ratio| LayerCache {
            ratio,
            window: vec![UNWRITTEN; layout.plan.slots * layout.window_rows * layout.row.bytes()],
            attention: match ratio {
                0 => SeriesCache::none(),
                _ => SeriesCache::new(layout, ratio, layout.row.bytes(), layout.row.width()),
            },
            index: match ratio {
                4 => SeriesCache::new(layout, ratio, layout.index_row.bytes(), layout.index_row.width()),
                _ => SeriesCache::none(),
            },
        });
        Self { layers: layers.collect(), layout: layout.clone() }
    }

    pub(crate) fn layout(&self) -> &CacheLayout {
        &self.layout
    }

    /// How compressed rows of this kind are stored.
    pub(crate) fn row_layout(&self, series: Series) -> RowLayout {
        match series {
            Series::Attention => self.layout.row,
            Series::Index => self.layout.index_row,
        }
    }

    pub(crate) fn ratio(&self, layer: usize) -> usize {
        self.layers[layer].ratio
    }

    /// The window row of the sequence in `slot` at `position`.
    pub(crate) fn window_row(&self, layer: usize, slot: usize, position: u32) -> &[u8] {
        &self.layers[layer].window[self.window_range(slot, position)]
    }

    pub(crate) fn window_row_mut(&mut self, layer: usize, slot: usize, position: u32) -> &mut [u8] {
        let range = self.window_range(slot, position);
        &mut self.layers[layer].window[range]
    }

    fn window_range(&self, slot: usize, position: u32) -> Range<usize> {
        let len = self.layout.row.bytes();
        let row = slot * self.layout.window_rows + position as usize % self.layout.window_rows;
        row * len..(row + 1) * len
    }

    /// Compressed row `index` of the sequence with this page table.
    pub(crate) fn row(&self, layer: usize, series: Series, pages: &[u32], index: usize) -> &[u8] {
        let range = self.row_range(layer, series, pages, index);
        &self.series(layer, series).rows[range]
    }

    pub(crate) fn row_mut(&mut self, layer: usize, series: Series, pages: &[u32], index: usize) -> &mut [u8] {
        let range = self.row_range(layer, series, pages, index);
        &mut self.series_mut(layer, series).rows[range]
    }

    fn row_range(&self, layer: usize, series: Series, pages: &[u32], index: usize) -> Range<usize> {
        let per_page = CacheLayout::rows_per_page(self.layers[layer].ratio);
        let len = self.series(layer, series).row_bytes;
        let row = pages[index / per_page] as usize * per_page + index % per_page;
        row * len..(row + 1) * len
    }

    /// The compressor's state after `position`.
    pub(crate) fn state(&self, layer: usize, series: Series, slot: usize, position: u32) -> &[f32] {
        let s = self.series(layer, series);
        &s.states[s.state_range(slot, position)]
    }

    pub(crate) fn state_mut(&mut self, layer: usize, series: Series, slot: usize, position: u32) -> &mut [f32] {
        let s = self.series_mut(layer, series);
        let range = s.state_range(slot, position);
        &mut s.states[range]
    }

    /// Appends what the sequence in `slot` needs to go on after `len` tokens: windows, states, and the rows of the page
    /// under way.
    pub(crate) fn export_point(&self, slot: usize, len: usize, pages: &[u32], out: &mut Vec<u8>) {
        for (layer, cache) in self.layers.iter().enumerate() {
            for position in self.layout.window_before(len) {
                out.extend_from_slice(self.window_row(layer, slot, position));
            }
            for series in [&cache.attention, &cache.index] {
                let state = &series.states[series.state_range(slot, len as u32 - 1)];
                out.extend(state.iter().flat_map(|x| x.to_le_bytes()));
            }
        }
        if !len.is_multiple_of(PAGE_TOKENS) {
            self.export_page(pages[len / PAGE_TOKENS], len % PAGE_TOKENS, out);
        }
    }

    /// Puts it back, in a slot and a page that need not be the same.
    pub(crate) fn import_point(&mut self, slot: usize, len: usize, pages: &[u32], mut bytes: &[u8]) {
        let window = self.layout.window_before(len);
        for layer in 0..self.layers.len() {
            for position in window.clone() {
                let row = self.window_row_mut(layer, slot, position);
                row.copy_from_slice(take(&mut bytes, row.len()));
            }
            let cache = &mut self.layers[layer];
            for series in [&mut cache.attention, &mut cache.index] {
                let range = series.state_range(slot, len as u32 - 1);
                let values = take(&mut bytes, 4 * range.len());
                for (x, four) in series.states[range].iter_mut().zip(values.as_chunks().0) {
                    *x = f32::from_le_bytes(*four);
                }
            }
        }
        if !len.is_multiple_of(PAGE_TOKENS) {
            self.import_page(pages[len / PAGE_TOKENS], len % PAGE_TOKENS, bytes);
        }
    }

    /// Appends the rows that the first `tokens` of a page have completed.
    pub(crate) fn export_page(&self, page: u32, tokens: usize, out: &mut Vec<u8>) {
        for layer in &self.layers {
            for series in [&layer.attention, &layer.index] {
                out.extend_from_slice(&series.rows[series.page_range(layer.ratio, page, tokens)]);
            }
        }
    }

    /// Puts them back, into a page that need not be the same.
    pub(crate) fn import_page(&mut self, page: u32, tokens: usize, mut bytes: &[u8]) {
        for layer in &mut self.layers {
            for series in [&mut layer.attention, &mut layer.index] {
                let range = series.page_range(layer.ratio, page, tokens);
                let len = range.len();
                series.rows[range].copy_from_slice(take(&mut bytes, len));
            }
        }
    }

    fn series(&self, layer: usize, series: Series) -> &SeriesCache {
        match series {
            Series::Attention => &self.layers[layer].attention,
            Series::Index => &self.layers[layer].index,
        }
    }

    fn series_mut(&mut self, layer: usize, series: Series) -> &mut SeriesCache {
        match series {
            Series::Attention => &mut self.layers[layer].attention,
            Series::Index => &mut self.layers[layer].index,
        }
    }
}

/// The next `len` of `bytes`, whose length the layout gives.
fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    bytes.split_off(..len).expect("as many bytes as the layout says")
}
