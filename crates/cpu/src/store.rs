//! Storing rows: each token's own in the window, and what the compressors make of them.

use ds4_model::{Batch, CacheLayout, Series, Span};

use crate::cache::Cache;
use crate::kernels::compressor::State;
use crate::kernels::norm::{Turn, rms_norm, rotate};
use crate::kernels::{indexer, rows};
use crate::step::Angles;

/// Stores each token's normed and rotated row. `kv [T][d]`, `angles [T][pairs]`.
pub(crate) fn store_window(
    batch: &Batch,
    layer: usize,
    kv: &[f32],
    norm: &[f32],
    eps: f32,
    angles: &Angles,
    cache: &mut Cache,
) {
    let d = norm.len();
    let pairs = angles.len() / batch.len();
    let mut row = vec![0.0; d];
    for span in batch.spans() {
        for t in span.tokens.clone() {
            rms_norm(&kv[t * d..][..d], norm, eps, &mut row);
            rotate(&mut row, &angles[t * pairs..][..pairs], Turn::Forward);
            let layout = cache.layout().row;
            rows::encode(layout, &row, cache.window_row_mut(layer, span.slot, batch.positions()[t]));
        }
    }
}

/// The weights of a compressor, as slices.
pub(crate) struct CompressorWeights<'a> {
    pub(crate) ape: &'a [f32],
    pub(crate) norm: &'a [f32],
    pub(crate) eps: f32,
}

/// Steps the compressor through each span and stores the rows that complete. `kv`, `gate`: `[T][c·width]`;
/// `angles(position)` gives the rotation of a row.
#[allow(clippy::too_many_arguments, reason = "one fused kernel")]
pub(crate) fn compress(
    batch: &Batch,
    layer: usize,
    series: Series,
    kv: &[f32],
    gate: &[f32],
    w: &CompressorWeights<'_>,
    angles: impl Fn(u32) -> Angles,
    cache: &mut Cache,
) {
    let ratio = cache.ratio(layer);
    let width = w.norm.len();
    let c = w.ape.len() / ratio / width; // 2 at ratio 4, else 1
    let layout = cache.row_layout(series);
    let (mut pooled, mut row) = (vec![0.0; width], vec![0.0; width]);
    let mut state = vec![0.0; c * 3 * width];
    for span in batch.spans() {
        restore(cache, layer, series, span, width, &mut state);
        for t in span.tokens.clone() {
            let position = batch.positions()[t];
            let place = position as usize % ratio;
            let channels = t * c * width..(t + 1) * c * width;
            let ape = &w.ape[place * c * width..][..c * width];
            step(&mut state, &kv[channels.clone()], &gate[channels], ape, width);
            if place + 1 == ratio {
                take_row(&mut state, &mut pooled);
                rms_norm(&pooled, w.norm, w.eps, &mut row);
                rotate(&mut row, &angles(position + 1 - ratio as u32), Turn::Forward);
                if series == Series::Index {
                    indexer::hadamard(&mut row);
                }
                rows::encode(layout, &row, cache.row_mut(layer, series, &span.pages, position as usize / ratio));
            }
            if span.tokens.end - t <= CacheLayout::states() {
                cache.state_mut(layer, series, span.slot, position).copy_from_slice(&state);
            }
        }
    }
}

/// Adds a token. The last `width` channels continue the row under way; with two halves, the first begins the next row.
fn step(state: &mut [f32], kv: &[f32], gate: &[f32], ape: &[f32], width: usize) {
    let (current, next) = state.split_at_mut(3 * width);
    let own = kv.len() - width;
    State::new(current).step(&kv[own..], &gate[own..], &ape[own..]);
    if own > 0 {
        State::new(next).step(&kv[..own], &gate[..own], &ape[..own]);
    }
}

/// Takes the finished row; the one that was begun, if any, goes on.
fn take_row(state: &mut [f32], pooled: &mut [f32]) {
    let (current, next) = state.split_at_mut(3 * pooled.len());
    State::new(current).pooled(pooled);
    if next.is_empty() {
        State::new(current).clear();
    } else {
        current.copy_from_slice(next);
        State::new(next).clear();
    }
}

/// The compressor's state before a span; empty at the start of a sequence.
fn restore(cache: &Cache, layer: usize, series: Series, span: &Span, width: usize, state: &mut [f32]) {
    match span.position.checked_sub(1) {
        Some(before) => state.copy_from_slice(cache.state(layer, series, span.slot, before)),
        None => state.chunks_mut(3 * width).for_each(|s| State::new(s).clear()),
    }
}
