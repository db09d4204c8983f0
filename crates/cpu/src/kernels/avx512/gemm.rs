//! Integer products of matrices with matrices: a tile of rows, unpacked once, meets panels of tokens.

use std::arch::x86_64::*;

use ds4_gguf::Format;

use super::{add_lanes, load, load_f32};
use crate::kernels::panels::{LANE_ORDER, PANEL, Panel, panel_len};
use crate::kernels::products::SUPER;
use crate::kernels::tile::{Line, ROWS, Tile};

/// Sums of a panel: for each token two registers of 16 rows.
type Sums<const T: usize> = [[__m512; 2]; T];

/// `put(t, y)` gets `w · x` of token t for up to [`ROWS`] rows `w` of `cols` columns; `packed` are the panels of `tokens`.
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni,f16c,fma")]
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
    if format == Format::Q8_0 && tokens <= super::q8_0::FEW {
        let panels = std::array::from_fn(|i| {
            let len = panel_len(cols, format.block_len());
            Panel::new(packed.get(i * len..(i + 1) * len).unwrap_or(&packed[..len]), cols)
        });
        return super::q8_0::mat_few(w, row_bytes, &panels, tokens, put);
    }
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
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
fn products<const T: usize>(format: Format, cols: usize, tile: &Tile, panel: &Panel<'_>, y: &mut [[f32; ROWS]; PANEL]) {
    let blocks = cols / format.block_len();
    let mut lanes = [[[_mm512_setzero_ps(); 2]; T]; 4];
    let mut first = 0;
    for (place, lane) in LANE_ORDER.into_iter().enumerate() {
        let units = first..first + blocks.saturating_sub(lane).div_ceil(4);
        first = units.end;
        lanes[place] = match format {
            Format::Q8_0 => lane_of_32::<T>(units, tile, panel),
            Format::Q4_K => lane_of_256::<T, true, false, true>(units, tile, panel),
            Format::Q2_K => lane_of_256::<T, false, false, true>(units, tile, panel),
            _ => lane_of_256::<T, true, true, false>(units, tile, panel),
        };
    }
    for t in 0..T {
        for half in 0..2 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|place| lanes[place][t][half]);
            add_lanes(a, b, c, d, &mut y[t].as_chunks_mut().0[half]);
        }
    }
}

/// One lane of blocks of 32 signed columns, stored with 128 added.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
fn lane_of_32<const T: usize>(units: std::ops::Range<usize>, tile: &Tile, panel: &Panel<'_>) -> Sums<T> {
    let mut lane = [[_mm512_setzero_ps(); 2]; T];
    let w = tile.w.as_chunks::<16>().0[units.clone()].iter();
    let q = panel.q.as_chunks::<8>().0[units.clone()].iter();
    let d = tile.d.as_chunks::<2>().0[units.clone()].iter();
    let x = panel.offsets[units.clone()].iter().zip(&panel.d[units]);
    for (((w, q), d), (offsets, dx)) in w.zip(q).zip(d).zip(x) {
        let mut s = broadcast::<T>(offsets);
        multiply(w, q, &mut s);
        for half in 0..2 {
            let d = load_f32(&d[half]);
            for t in 0..T {
                let scale = _mm512_mul_ps(d, _mm512_set1_ps(dx[t]));
                lane[t][half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(s[t][half]), scale, lane[t][half]);
            }
        }
    }
    lane
}

/// One lane of blocks of 256 columns. `SCALED`: each 32 columns have a multiplier; `SIGNED`: 128 was added to the
/// columns, and activations' scales count in eighths (IQ2_XXS); `MINS`: the activations' sums are taken off.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
fn lane_of_256<const T: usize, const SCALED: bool, const SIGNED: bool, const MINS: bool>(
    units: std::ops::Range<usize>,
    tile: &Tile,
    panel: &Panel<'_>,
) -> Sums<T> {
    let zero = _mm512_setzero_si512();
    let mut lane = [[_mm512_setzero_ps(); 2]; T];
    for u in units {
        let w = tile.w[u * SUPER / 2..][..SUPER / 2].as_chunks::<16>().0;
        let q = panel.q[u * SUPER / 4..][..SUPER / 4].as_chunks::<8>().0;
        let groups = 8 * u..8 * (u + 1);
        let mut total = [[zero; 2]; T];
        for (j, (w, q)) in w.iter().zip(q).enumerate() {
            if !SCALED {
                multiply(w, q, &mut total);
                continue;
            }
            let mut s = if SIGNED { broadcast(&panel.offsets[8 * u + j]) } else { [[zero; 2]; T] };
            multiply(w, q, &mut s);
            for half in 0..2 {
                let scale = load(&tile.scales[2 * (8 * u + j) + half]);
                for t in 0..T {
                    total[t][half] = _mm512_add_epi32(total[t][half], _mm512_mullo_epi32(s[t][half], scale));
                }
            }
        }
        let unit = _mm512_set1_ps(if SIGNED { 0.125 } else { 1.0 });
        for half in 0..2 {
            let d = load_f32(&tile.d[2 * u + half]);
            for t in 0..T {
                let scale = _mm512_mul_ps(d, _mm512_mul_ps(_mm512_set1_ps(panel.d[u][t]), unit));
                lane[t][half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total[t][half]), scale, lane[t][half]);
            }
        }
        if MINS {
            let mut s = [[zero; 2]; T];
            for (mins, sums) in
                tile.mins[2 * groups.start..2 * groups.end].as_chunks::<2>().0.iter().zip(&panel.sums[groups])
            {
                for half in 0..2 {
                    for t in 0..T {
                        s[t][half] = _mm512_dpwssd_epi32(s[t][half], load(&mins[half]), _mm512_set1_epi32(sums[t]));
                    }
                }
            }
            for half in 0..2 {
                let dmin = load_f32(&tile.dmin[2 * u + half]);
                for t in 0..T {
                    let scale = _mm512_mul_ps(dmin, _mm512_set1_ps(panel.d[u][t]));
                    lane[t][half] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(s[t][half]), scale, lane[t][half]);
                }
            }
        }
    }
    lane
}

/// The same start for all rows of a token.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl")]
fn broadcast<const T: usize>(x: &[i32; PANEL]) -> [[__m512i; 2]; T] {
    let mut s = [[_mm512_setzero_si512(); 2]; T];
    for t in 0..T {
        s[t] = [_mm512_set1_epi32(x[t]); 2];
    }
    s
}

/// Adds the products of 32 columns.
#[inline]
#[target_feature(enable = "avx512bw,avx512vl,avx512vnni")]
fn multiply<const T: usize>(w: &[Line; 16], q: &[[i32; PANEL]; 8], s: &mut [[__m512i; 2]; T]) {
    for k in 0..8 {
        let (upper, lower) = (load(&w[2 * k].0), load(&w[2 * k + 1].0));
        for t in 0..T {
            let q = _mm512_set1_epi32(q[k][t]);
            s[t][0] = _mm512_dpbusd_epi32(s[t][0], upper, q);
            s[t][1] = _mm512_dpbusd_epi32(s[t][1], lower, q);
        }
    }
}
