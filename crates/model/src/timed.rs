//! A backend with a stopwatch around it.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::rope::RopeTable;
use crate::weights::{Compressor, Experts, HyperConnection, HyperHead, Matrix, Router, SharedExpert, Vector};
use crate::{Batch, CacheLayout, Ops, Series};

/// Passes every operation on to another backend and adds up how long those of a step take, by operation. For backends
/// that are done when they return.
pub struct Timed<B> {
    inner: B,
    times: Vec<OperationTime>,
}

/// How long an operation took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationTime {
    /// Which one, as [`Ops`] calls it.
    pub operation: &'static str,
    /// What it was about, where there are several of its kind: the first matrix, or the rows that were made.
    pub detail: String,
    /// Calls.
    pub calls: usize,
    /// Time of all of them.
    pub time: Duration,
}

impl<B: Ops> Timed<B> {
    /// Starts with no time.
    pub fn new(inner: B) -> Self {
        Self { inner, times: Vec::new() }
    }

    /// What was measured since the last time, in the order of the first calls.
    pub fn take(&mut self) -> Vec<OperationTime> {
        std::mem::take(&mut self.times)
    }

    fn time<T>(&mut self, operation: &'static str, detail: &str, work: impl FnOnce(&mut B) -> T) -> T {
        let start = Instant::now();
        let result = work(&mut self.inner);
        let time = start.elapsed();
        match self.times.iter_mut().find(|t| t.operation == operation && t.detail == detail) {
            Some(known) => {
                known.calls += 1;
                known.time += time;
            }
            None => self.times.push(OperationTime { operation, detail: detail.into(), calls: 1, time }),
        }
        result
    }
}

/// A matrix's name without its layer.
fn kind(matrix: &Matrix) -> &str {
    let name = matrix.name.strip_suffix(".weight").unwrap_or(&matrix.name);
    match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((_, kind)) => kind,
        None => name,
    }
}

impl<B: Ops> Ops for Timed<B> {
    type Buf = B::Buf;
    type Picks = B::Picks;
    type Cache = B::Cache;

    fn buffer(&mut self, rows: usize, width: usize) -> B::Buf {
        self.inner.buffer(rows, width)
    }

    fn picks(&mut self, rows: usize, width: usize) -> B::Picks {
        self.inner.picks(rows, width)
    }

    fn cache(&mut self, layout: &CacheLayout) -> B::Cache {
        self.inner.cache(layout)
    }

    fn write(&mut self, buf: &mut B::Buf, values: &[f32]) {
        self.inner.write(buf, values);
    }

    fn read(&mut self, buf: &B::Buf) -> Vec<f32> {
        self.inner.read(buf)
    }

    fn read_picks(&mut self, picks: &B::Picks) -> Vec<u32> {
        self.inner.read_picks(picks)
    }

    fn export_point(&mut self, cache: &B::Cache, slot: usize, len: usize, pages: &[u32], out: &mut Vec<u8>) {
        self.inner.export_point(cache, slot, len, pages, out);
    }

    fn import_point(&mut self, cache: &mut B::Cache, slot: usize, len: usize, pages: &[u32], bytes: &[u8]) {
        self.inner.import_point(cache, slot, len, pages, bytes);
    }

    fn export_page(&mut self, cache: &B::Cache, page: u32, out: &mut Vec<u8>) {
        self.inner.export_page(cache, page, out);
    }

    fn import_page(&mut self, cache: &mut B::Cache, page: u32, bytes: &[u8]) {
        self.inner.import_page(cache, page, bytes);
    }

    fn read_rows(
        &mut self,
        cache: &B::Cache,
        layer: usize,
        series: Series,
        pages: &[u32],
        rows: Range<usize>,
    ) -> Vec<f32> {
        self.inner.read_rows(cache, layer, series, pages, rows)
    }

    fn begin(&mut self, batch: &Batch) {
        self.time("begin", "", |ops| ops.begin(batch));
    }

    fn embed(&mut self, table: &Matrix, streams: &mut B::Buf) {
        self.time("embed", "", |ops| ops.embed(table, streams));
    }

    fn hyper_in(&mut self, streams: &B::Buf, hc: &HyperConnection, norm: &Vector, x: &mut B::Buf, mix: &mut B::Buf) {
        self.time("hyper_in", "", |ops| ops.hyper_in(streams, hc, norm, x, mix));
    }

    fn hyper_out(&mut self, y: &B::Buf, mix: &B::Buf, streams: &mut B::Buf) {
        self.time("hyper_out", "", |ops| ops.hyper_out(y, mix, streams));
    }

    fn project(&mut self, x: &B::Buf, outs: &mut [(&Matrix, &mut B::Buf)]) {
        let first = outs.first().map_or("", |(matrix, _)| kind(matrix));
        self.time("project", first, |ops| ops.project(x, outs));
    }

    fn project_groups(&mut self, x: &B::Buf, w: &Matrix, out: &mut B::Buf) {
        self.time("project_groups", kind(w), |ops| ops.project_groups(x, w, out));
    }

    fn norm(&mut self, x: &mut B::Buf, weight: &Vector) {
        self.time("norm", "", |ops| ops.norm(x, weight));
    }

    fn queries(&mut self, q: &mut B::Buf, table: RopeTable) {
        self.time("queries", "", |ops| ops.queries(q, table));
    }

    fn store_window(&mut self, layer: usize, kv: &B::Buf, norm: &Vector, table: RopeTable, cache: &mut B::Cache) {
        self.time("store_window", "", |ops| ops.store_window(layer, kv, norm, table, cache));
    }

    fn compress(
        &mut self,
        layer: usize,
        series: Series,
        kv: &B::Buf,
        gate: &B::Buf,
        weights: &Compressor,
        cache: &mut B::Cache,
    ) {
        let made = match series {
            Series::Attention => "attention rows",
            Series::Index => "indexer rows",
        };
        self.time("compress", made, |ops| ops.compress(layer, series, kv, gate, weights, cache));
    }

    fn select_rows(&mut self, layer: usize, q: &B::Buf, weights: &B::Buf, cache: &B::Cache, picks: &mut B::Picks) {
        self.time("select_rows", "", |ops| ops.select_rows(layer, q, weights, cache, picks));
    }

    fn attend(
        &mut self,
        layer: usize,
        q: &B::Buf,
        sinks: &Vector,
        table: RopeTable,
        cache: &B::Cache,
        picks: Option<&B::Picks>,
        out: &mut B::Buf,
    ) {
        self.time("attend", "", |ops| ops.attend(layer, q, sinks, table, cache, picks, out));
    }

    fn route(&mut self, x: &B::Buf, router: &Router, picks: &mut B::Picks, weights: &mut B::Buf) {
        self.time("route", "", |ops| ops.route(x, router, picks, weights));
    }

    fn experts_in(
        &mut self,
        x: &B::Buf,
        experts: &Experts,
        clamp: f32,
        picks: &B::Picks,
        weights: &B::Buf,
        mid: &mut B::Buf,
    ) {
        self.time("experts_in", "", |ops| ops.experts_in(x, experts, clamp, picks, weights, mid));
    }

    fn experts_out(&mut self, mid: &B::Buf, experts: &Experts, picks: &B::Picks, out: &mut B::Buf) {
        self.time("experts_out", "", |ops| ops.experts_out(mid, experts, picks, out));
    }

    fn shared_expert(&mut self, x: &B::Buf, expert: &SharedExpert, clamp: f32, mid: &mut B::Buf, out: &mut B::Buf) {
        self.time("shared_expert", "", |ops| ops.shared_expert(x, expert, clamp, mid, out));
    }

    fn steer(&mut self, y: &mut B::Buf, rows: Range<usize>, direction: &[f32], scale: f32) {
        self.time("steer", "", |ops| ops.steer(y, rows, direction, scale));
    }

    fn head_in(&mut self, streams: &B::Buf, head: &HyperHead, norm: &Vector, out: &mut B::Buf) {
        self.time("head_in", "", |ops| ops.head_in(streams, head, norm, out));
    }

    fn read_logits(&mut self, logits: &B::Buf, index: usize, out: &mut Vec<f32>) {
        self.time("read_logits", "", |ops| ops.read_logits(logits, index, out));
    }
}
