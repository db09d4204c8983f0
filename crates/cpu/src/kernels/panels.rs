//! Activations of many tokens, packed for integer products of matrices with matrices: panels of a few tokens, in which
//! four columns of each token lie side by side. Blocks come lane by lane, as docs/numerics.md 3 wants them summed.

use super::products::Activation;

/// Tokens of a panel.
pub const PANEL: usize = 6;
/// The order in which a product takes its four lanes: the first two are added up, the last two, then both.
pub const LANE_ORDER: [usize; 4] = [0, 2, 1, 3];

/// For each block of a row, in order, its place lane by lane.
pub fn lane_places(blocks: usize) -> impl Iterator<Item = usize> {
    let mut starts = [0; 4];
    let mut start = 0;
    for lane in LANE_ORDER {
        starts[lane] = start;
        start += blocks.saturating_sub(lane).div_ceil(4);
    }
    (0..blocks).map(move |u| starts[u % 4] + u / 4)
}

/// One panel. Tokens that are not there are zero.
pub struct Panel<'a> {
    /// `[cols / 4]`: four columns of each token, blocks in lane order
    pub q: &'a [[i32; PANEL]],
    /// `[cols / 32]`: -128 times the sum of 32 columns, blocks in lane order
    pub offsets: &'a [[i32; PANEL]],
    /// `[cols / 32]`: the two sums of 16 columns each, as words, blocks in lane order
    pub sums: &'a [[i32; PANEL]],
    /// `[cols / B]`: scales, in lane order
    pub d: &'a [[f32; PANEL]],
}

/// Numbers that a panel takes: `cols` columns with scales for every `block`.
pub const fn panel_len(cols: usize, block: usize) -> usize {
    PANEL * (cols / 4 + 2 * (cols / 32) + cols / block)
}

impl<'a> Panel<'a> {
    /// Views what [`pack`] wrote.
    pub fn new(packed: &'a [i32], cols: usize) -> Self {
        let lines = packed.as_chunks::<PANEL>().0;
        let (q, rest) = lines.split_at(cols / 4);
        let (offsets, rest) = rest.split_at(cols / 32);
        let (sums, d) = rest.split_at(cols / 32);
        Self { q, offsets, sums, d: bytemuck::cast_slice(d) }
    }
}

/// Packs up to [`PANEL`] tokens, whose scales hold for `block` columns, into `panel_len` numbers.
pub fn pack<'x>(tokens: impl Iterator<Item = Activation<'x>>, block: usize, packed: &mut [i32]) {
    packed.fill(0);
    for (t, x) in tokens.take(PANEL).enumerate() {
        let cols = x.q.len();
        let lines = packed.as_chunks_mut::<PANEL>().0;
        let (q, rest) = lines.split_at_mut(cols / 4);
        let (offsets, rest) = rest.split_at_mut(cols / 32);
        let (sums, d) = rest.split_at_mut(cols / 32);
        let (fours, pairs) = (x.q.as_chunks::<4>().0, x.sums.as_chunks::<2>().0);
        for (u, i) in lane_places(cols / block).enumerate() {
            let (n, groups) = (block / 4, block / 32);
            for (line, four) in q[i * n..][..n].iter_mut().zip(&fours[u * n..]) {
                line[t] = bytemuck::cast(*four);
            }
            for (j, &[a, b]) in pairs[u * groups..][..groups].iter().enumerate() {
                offsets[i * groups + j][t] = -128 * (i32::from(a) + i32::from(b));
                sums[i * groups + j][t] = i32::from(a) & 0xFFFF | i32::from(b) << 16;
            }
            d[i][t] = bytemuck::cast(x.d[u]);
        }
    }
}
