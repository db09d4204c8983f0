//! What sequences leave behind, in memory (laid out by [`CacheLayout`]).

use std::ops::Range;

use ds4_model::{CacheLayout, RowLayout, Series};

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

/// Windows and compressor states of one sequence, layer by layer.
#[derive(Default)]
pub struct Saved {
    windows: Vec<u8>,
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

    fn slot_states(&self, slot: usize) -> Range<usize> {
        let len = CacheLayout::states() * self.state_len;
        slot * len..(slot + 1) * len
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

    /// Copies what only the end of the sequence in `slot` has.
    pub(crate) fn save(&self, slot: usize, saved: &mut Saved) {
        saved.windows.clear();
        saved.states.clear();
        for layer in &self.layers {
            saved.windows.extend_from_slice(&layer.window[self.slot_window(slot)]);
            for series in [&layer.attention, &layer.index] {
                saved.states.extend_from_slice(&series.states[series.slot_states(slot)]);
            }
        }
    }

    /// Puts it back.
    pub(crate) fn restore(&mut self, slot: usize, saved: &Saved) {
        let (mut windows, mut states) = (&saved.windows[..], &saved.states[..]);
        let window = self.slot_window(slot);
        for layer in &mut self.layers {
            layer.window[window.clone()].copy_from_slice(windows.split_off(..window.len()).expect("the same layout"));
            for series in [&mut layer.attention, &mut layer.index] {
                let range = series.slot_states(slot);
                let part = states.split_off(..range.len()).expect("the same layout");
                series.states[range].copy_from_slice(part);
            }
        }
    }

    fn slot_window(&self, slot: usize) -> Range<usize> {
        let len = self.layout.window_rows * self.layout.row.bytes();
        slot * len..(slot + 1) * len
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
