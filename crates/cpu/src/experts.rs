//! The routed and the shared experts. Tokens are grouped by expert, so that a weight row is unpacked once for all of them.

use ds4_model::Matrix;

use crate::kernels::router::swiglu;
use crate::matmul::{Part, Workshop};
use crate::quantised::Uses;

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

    /// The uses of an active expert.
    fn uses(&self, i: usize) -> Uses<'_> {
        let group = &self.active[i];
        Uses::List(&self.uses[group.first..][..group.len])
    }
}

impl Workshop<'_> {
    /// Multiplies each use with its expert's matrix: `out[use][r] = w[expert][r] · x[input row]`, `out [uses][w.rows]`.
    fn expert_products(&mut self, w: &Matrix, groups: &Groups, x: &[f32], out: &mut [f32]) {
        let part = |i: usize| Part { weights: w.matrix(groups.active[i].expert), uses: groups.uses(i), column: 0 };
        self.parts(w, x, groups.active.len(), w.rows, part, out, w.rows);
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
        let parts: Vec<_> = (0..groups.active.len()).map(|i| (groups.active[i].expert, groups.uses(i))).collect();
        self.pairs([(gate, mid), (up, up_out)], x, &parts, |mid, up, u| swiglu(mid, up, clamp, weights[u]));
    }

    /// Outputs of every use, `out [uses][D]`.
    pub(crate) fn outer(&mut self, down: &Matrix, groups: &Groups, mid: &[f32], out: &mut [f32]) {
        self.quantised.clear();
        self.expert_products(down, groups, mid, out);
    }
}
