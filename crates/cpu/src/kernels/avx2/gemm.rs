//! Integer products of matrices with matrices: a tile of rows, unpacked once, meets panels of tokens.
//!
//! Products of bytes come in pairs of 16 bits, one side unsigned. Weights of up to four bits leave room to add up several
//! pairs before a multiplier widens them to 32; those of IQ2_XXS become unsigned by adding 43 and fill a pair. Q8_0 gets
//! |w| and sign(q, w), as in products with one token.

use std::arch::x86_64::*;
use std::ops::Range;

use ds4_gguf::Format;

use super::{add_lanes, load, load_f32, part};
use crate::kernels::panels::{LANE_ORDER, PANEL, Panel, panel_len};
use crate::kernels::products::SUPER;
use crate::kernels::tile::{Line, ROWS, Tile};

/// Sums of a panel over half a tile: for each token two registers of 8 rows.
type Sums<const T: usize> = [[__m256; 2]; T];

/// Fours of columns in 32.
const FOURS: usize = 8;
/// The same in both halves of a tile.
const FOURS_IN_HALVES: usize = 2 * FOURS;

/// `put(t, y)` gets `w · x` of token t for up to [`ROWS`] rows `w` of `cols` columns; `packed` are the panels of `tokens`.
#[target_feature(enable = "avx2,f16c,fma")]
pub(crate) fn mat_mat(
    format: Format,
    w: &[u8],
    cols: usize,
    packed: &[i32],
    tokens: usize,
    tile: &mut Tile,
    mut put: impl FnMut(usize, &[f32; ROWS]),
) {
    let row_bytes = cols / format.block_len() * format.block_bytes();
    match format {
        Format::Q8_0 => super::q8_0::unpack(w, row_bytes, tile),
        Format::Q4_K => super::q4_k::unpack(w, row_bytes, tile),
        Format::Q2_K => super::q2_k::unpack(w, row_bytes, tile),
        _ => super::iq2_xxs::unpack(w, row_bytes, tile),
    }
    let len = panel_len(cols, format.block_len());
    for (i, packed) in packed.chunks_exact(len).take(tokens.div_ceil(PANEL)).enumerate() {
        let (panel, first) = (Panel::new(packed, cols), i * PANEL);
        let mut y = [[0.0; ROWS]; PANEL];
        match tokens - first {
            1 | 2 => products::<2>(format, cols, tile, &panel, &mut y),
            3 | 4 => products::<4>(format, cols, tile, &panel, &mut y),
            _ => products::<PANEL>(format, cols, tile, &panel, &mut y),
        }
        for (t, y) in y.iter().enumerate().take(tokens - first) {
            put(first + t, y);
        }
    }
}

/// All lanes of the first `T` tokens of a panel.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn products<const T: usize>(format: Format, cols: usize, tile: &Tile, panel: &Panel<'_>, y: &mut [[f32; ROWS]; PANEL]) {
    let blocks = cols / format.block_len();
    let mut lanes = [[[[_mm256_setzero_ps(); 2]; T]; 2]; 4];
    let mut first = 0;
    for (place, lane) in LANE_ORDER.into_iter().enumerate() {
        let units = first..first + blocks.saturating_sub(lane).div_ceil(4);
        first = units.end;
        // Both halves of the tile meet the same part of the panel while it is at hand.
        for half in 0..2 {
            lanes[place][half] = match format {
                Format::Q8_0 => lane_of_32::<T>(units.clone(), tile, half, panel),
                Format::Q4_K => lane_of_256::<T, 8, 2, false>(units.clone(), tile, half, panel),
                Format::Q2_K => lane_of_256::<T, 4, 2, false>(units.clone(), tile, half, panel),
                // Nothing is added up in 16 bits: sums of 16 rows would need more registers than there are.
                _ => lane_of_256::<T, 1, 1, true>(units.clone(), tile, half, panel),
            };
        }
    }
    for t in 0..T {
        for (i, y) in y[t].as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let [a, b, c, d] = [0, 1, 2, 3].map(|place| lanes[place][i / 2][t][i % 2]);
            add_lanes(a, b, c, d, y);
        }
    }
}

/// One lane of blocks of 32 signed columns.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn lane_of_32<const T: usize>(units: Range<usize>, tile: &Tile, half: usize, panel: &Panel<'_>) -> Sums<T> {
    let mut lane = [[_mm256_setzero_ps(); 2]; T];
    let w = tile.w.as_chunks::<FOURS_IN_HALVES>().0[units.clone()].iter();
    let q = panel.q.as_chunks::<FOURS>().0[units.clone()].iter();
    let d = tile.d.as_chunks::<2>().0[units.clone()].iter().zip(&panel.d[units]);
    for ((w, q), (d, dx)) in w.zip(q).zip(d) {
        for rows in 0..2 {
            let s = signed_products::<T>(w, half, rows, q);
            let d = load_f32(part(&d[half], 8 * rows));
            for t in 0..T {
                let scale = _mm256_mul_ps(d, _mm256_set1_ps(dx[t]));
                lane[t][rows] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(s[t]), scale, lane[t][rows]);
            }
        }
    }
    lane
}

/// Products of 32 signed columns with one register of rows of half a tile.
#[inline]
#[target_feature(enable = "avx2")]
fn signed_products<const T: usize>(
    w: &[Line; FOURS_IN_HALVES],
    half: usize,
    rows: usize,
    q: &[[i32; PANEL]; FOURS],
) -> [__m256i; T] {
    let one = _mm256_set1_epi16(1);
    let mut s = [_mm256_setzero_si256(); T];
    for k in 0..FOURS {
        let w = load::<u8, 32>(part(&w[2 * k + half].0, 32 * rows));
        let magnitude = _mm256_abs_epi8(w);
        for t in 0..T {
            let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(_mm256_set1_epi32(q[k][t]), w));
            s[t] = _mm256_add_epi32(s[t], _mm256_madd_epi16(pairs, one));
        }
    }
    s
}

/// One lane of blocks of 256 columns. `RUN`: pairs that are added up in 16 bits, from as many fours of columns; after four
/// of them another multiplier follows. `R`: registers of rows at a time. `CENTRED`: the sums' multipliers undo what was
/// added to the weights, and activations' scales count in eighths (IQ2_XXS).
#[inline]
#[target_feature(enable = "avx2,fma")]
fn lane_of_256<const T: usize, const RUN: usize, const R: usize, const CENTRED: bool>(
    units: Range<usize>,
    tile: &Tile,
    half: usize,
    panel: &Panel<'_>,
) -> Sums<T> {
    let mut lane = [[_mm256_setzero_ps(); 2]; T];
    for u in units {
        for first in (0..2).step_by(R) {
            let total = products_of_256::<T, RUN, R>(u, tile, half, first, panel);
            let s = sums_of_256::<T, R>(u, tile, half, first, panel);
            for r in 0..R {
                let d = load_f32(part(&tile.d[2 * u + half], 8 * (first + r)));
                let dmin = load_f32(part(&tile.dmin[2 * u + half], 8 * (first + r)));
                for t in 0..T {
                    let (total, s, lane) = (total[t][r], s[t][r], &mut lane[t][first + r]);
                    if CENTRED {
                        let dx = _mm256_set1_ps(panel.d[u][t] * 0.125);
                        let whole = _mm256_cvtepi32_ps(_mm256_sub_epi32(total, s));
                        *lane = _mm256_fmadd_ps(whole, _mm256_mul_ps(d, dx), *lane);
                    } else {
                        let dx = _mm256_set1_ps(panel.d[u][t]);
                        *lane = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total), _mm256_mul_ps(d, dx), *lane);
                        *lane = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(s), _mm256_mul_ps(dmin, dx), *lane);
                    }
                }
            }
        }
    }
    lane
}

/// Products of block `u` with `R` registers of rows of half a tile, from number `first` on.
#[inline]
#[target_feature(enable = "avx2")]
fn products_of_256<const T: usize, const RUN: usize, const R: usize>(
    u: usize,
    tile: &Tile,
    half: usize,
    first: usize,
    panel: &Panel<'_>,
) -> [[__m256i; R]; T] {
    let w = tile.w[u * SUPER / 2..][..SUPER / 2].as_chunks::<FOURS_IN_HALVES>().0.iter();
    let q = panel.q[u * SUPER / 4..][..SUPER / 4].as_chunks::<FOURS>().0;
    let scales = &tile.scales.as_chunks::<2>().0[8 * u..8 * (u + 1)];
    let mut total = [[_mm256_setzero_si256(); R]; T];
    for ((w, q), scales) in w.zip(q).zip(scales) {
        for run in 0..FOURS / RUN {
            let mut s = [[_mm256_setzero_si256(); R]; T];
            for k in run * RUN..(run + 1) * RUN {
                let mut rows = [_mm256_setzero_si256(); R];
                for r in 0..R {
                    rows[r] = load::<u8, 32>(part(&w[2 * k + half].0, 32 * (first + r)));
                }
                for t in 0..T {
                    let q = _mm256_set1_epi32(q[k][t]);
                    for r in 0..R {
                        s[t][r] = _mm256_add_epi16(s[t][r], _mm256_maddubs_epi16(rows[r], q));
                    }
                }
            }
            for r in 0..R {
                let scales = load::<i32, 8>(part(&scales[half], 8 * (first + r)));
                let scale = if RUN == 4 { one_word(scales, run) } else { scales };
                for t in 0..T {
                    total[t][r] = _mm256_add_epi32(total[t][r], _mm256_madd_epi16(s[t][r], scale));
                }
            }
        }
    }
    total
}

/// The same of the sums of activations.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_of_256<const T: usize, const R: usize>(
    u: usize,
    tile: &Tile,
    half: usize,
    first: usize,
    panel: &Panel<'_>,
) -> [[__m256i; R]; T] {
    let mut s = [[_mm256_setzero_si256(); R]; T];
    let groups = 8 * u..8 * (u + 1);
    for (mins, sums) in tile.mins.as_chunks::<2>().0[groups.clone()].iter().zip(&panel.sums[groups]) {
        for r in 0..R {
            let mins = load::<i32, 8>(part(&mins[half], 8 * (first + r)));
            for t in 0..T {
                s[t][r] = _mm256_add_epi32(s[t][r], _mm256_madd_epi16(mins, _mm256_set1_epi32(sums[t])));
            }
        }
    }
    s
}

/// The lower or the upper word of every number, twice.
#[inline]
#[target_feature(enable = "avx2")]
fn one_word(x: __m256i, upper: usize) -> __m256i {
    if upper == 0 {
        _mm256_blend_epi16(x, _mm256_slli_epi32(x, 16), 0xAA)
    } else {
        _mm256_blend_epi16(_mm256_srli_epi32(x, 16), x, 0xAA)
    }
}
