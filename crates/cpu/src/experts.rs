//! The routed and the shared experts. Tokens are grouped by expert, so that a weight row is unpacked once for all of them.

use std::sync::Mutex;

use ds4_model::{Activations, Matrix};

use crate::kernels::router::swiglu;
use crate::matmul::{Inputs, Quantised, RowScratch, Target, prepare};
use crate::pool::{Pool, SharedSlice, rows_per_task};

/// The uses of a step sorted by expert; use u = token · used + slot.
#[derive(Default)]
pub(crate) struct Groups {
    /// Experts that are used at all, ascending.
    active: Vec<Group>,
    /// (input row, output row) of each use, expert by expert.
    uses: Vec<(usize, usize)>,
}

struct Group {
    expert: usize,
    first: usize,
    len: usize,
}

impl Groups {
    /// Sorts `picks [T][used]`; input rows are `input(use)`.
    pub(crate) fn sort(&mut self, picks: &[u32], input: impl Fn(usize) -> usize) {
        self.active.clear();
        self.uses.clear();
        let mut order: Vec<(u32, usize)> = picks.iter().copied().zip(0..).collect();
        order.sort_unstable();
        for (expert, u) in order {
            match self.active.last_mut() {
                Some(group) if group.expert == expert as usize => group.len += 1,
                _ => self.active.push(Group { expert: expert as usize, first: self.uses.len(), len: 1 }),
            }
            self.uses.push((input(u), u));
        }
    }
}

/// The parts of the backend that products need.
pub(crate) struct Workshop<'a> {
    pub(crate) pool: &'a mut Pool,
    pub(crate) mode: Activations,
    pub(crate) quantised: &'a mut Quantised,
    pub(crate) scratch: &'a [Mutex<RowScratch>],
}

impl Workshop<'_> {
    /// Multiplies each use with its expert's matrix: `out[use][r] = w[expert][r] · x[input row]`, `out [uses][w.rows]`.
    fn expert_products(&mut self, w: &Matrix, groups: &Groups, x: &[f32], out: &mut [f32]) {
        prepare(self.pool, self.mode, self.quantised, w.format, x, w.cols);
        let inputs = Inputs { mode: self.mode, x, quantised: self.quantised, cols: w.cols };
        let out = SharedSlice::new(out);
        let target = Target { out: &out, stride: w.rows };
        let uses_each = groups.uses.len().div_ceil(groups.active.len().max(1));
        let rows = rows_per_task(w.rows, w.cols * uses_each);
        let blocks = w.rows.div_ceil(rows);
        self.pool.run(groups.active.len() * blocks, |task, worker| {
            let group = &groups.active[task / blocks];
            let first = task % blocks * rows;
            let uses = &groups.uses[group.first..][..group.len];
            let mut scratch = self.scratch[worker].lock().expect("never poisoned");
            // SAFETY: every use belongs to one expert, and the tasks of an expert own distinct weight rows.
            #[allow(unsafe_code)]
            unsafe {
                let rows = first..w.rows.min(first + rows);
                inputs.rows(w.format, w.matrix(group.expert), rows, uses, &target, &mut scratch);
            }
        });
    }

    /// Inner values of every use, weighted: `mid [uses][F]`; `up` is scratch of the same size.
    #[allow(clippy::too_many_arguments, reason = "one fused step")]
    pub(crate) fn inner(
        &mut self,
        gate: &Matrix,
        up: &Matrix,
        clamp: f32,
        groups: &Groups,
        x: &[f32],
        weights: &[f32],
        mid: &mut [f32],
        up_out: &mut [f32],
    ) {
        self.quantised.clear();
        self.expert_products(gate, groups, x, mid);
        self.expert_products(up, groups, x, up_out);
        let width = gate.rows;
        self.pool.run_rows(mid, width, |u, mid, _| {
            swiglu(mid, &up_out[u * width..][..width], clamp, weights[u]);
        });
    }

    /// Outputs of every use, `out [uses][D]`.
    pub(crate) fn outer(&mut self, down: &Matrix, groups: &Groups, mid: &[f32], out: &mut [f32]) {
        self.quantised.clear();
        self.expert_products(down, groups, mid, out);
    }
}
