//! Every family of kernels gives the bits of the scalar one: odd shapes, random blocks, extreme scales.

use ds4_cpu::Family;
use ds4_cpu::kernels::activations::{quantise, sums_of_16};
use ds4_cpu::kernels::indexer::{Keys, Query, ROWS as ROWS_SCORED, scores, unpack};
use ds4_cpu::kernels::panels::{PANEL, pack, panel_len};
use ds4_cpu::kernels::products::{
    Activation, FEW, TOKENS, float_mat_mat, float_mat_vec, has_mat_few, has_mat_mat, mat_few, mat_mat, mat_vec,
};
use ds4_cpu::kernels::tile::{ROWS, Tile};
use ds4_cpu::kernels::unpacked::SuperRow;
use ds4_gguf::{Format, blocks};
use proptest::prelude::*;

const INTEGERS: [Format; 4] = [Format::Q8_0, Format::Q4_K, Format::Q2_K, Format::IQ2_XXS];
const FLOATS: [Format; 3] = [Format::F32, Format::F16, Format::BF16];

/// How large numbers are.
#[derive(Clone, Copy, Debug)]
enum Size {
    /// About one.
    Usual,
    /// From subnormal to huge, side by side.
    Any,
}

struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 ^ self.0 >> 29
    }

    fn byte(&mut self) -> u8 {
        (self.bits() >> 40) as u8
    }

    /// A finite f16.
    fn f16(&mut self, size: Size) -> [u8; 2] {
        let bits = (self.bits() >> 32) as u16;
        let exponent = match size {
            Size::Usual => 13 + bits % 3,
            Size::Any => bits % 31,
        };
        (bits & 0x83FF | exponent << 10).to_le_bytes()
    }

    fn f32(&mut self, size: Size) -> f32 {
        let unit = (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0;
        match size {
            Size::Usual => unit,
            Size::Any => unit * 2f32.powi((self.bits() >> 50) as i32 % 60 - 40),
        }
    }

    /// Stored blocks: every bit pattern, but finite scales.
    fn blocks(&mut self, format: Format, count: usize, size: Size) -> Vec<u8> {
        let mut w: Vec<u8> = (0..count * format.block_bytes()).map(|_| self.byte()).collect();
        let scales: &[usize] = match format {
            Format::Q2_K => &[80, 82],
            Format::Q4_K => &[0, 2],
            _ => &[0],
        };
        for block in w.chunks_mut(format.block_bytes()) {
            scales.iter().for_each(|&at| block[at..at + 2].copy_from_slice(&self.f16(size)));
        }
        w
    }

    fn floats(&mut self, format: Format, count: usize, size: Size) -> Vec<u8> {
        let mut w = Vec::new();
        for _ in 0..count {
            match format {
                Format::F16 => w.extend(self.f16(size)),
                Format::BF16 => w.extend(&self.f32(size).to_le_bytes()[2..]),
                _ => w.extend(self.f32(size).to_le_bytes()),
            }
        }
        w
    }
}

/// Bits, with one for all that is not a number.
fn bits(y: &[f32]) -> Vec<u32> {
    y.iter().map(|y| if y.is_nan() { u32::MAX } else { y.to_bits() }).collect()
}

/// Activations of several tokens in 8 bits.
struct Quantised {
    cols: usize,
    block: usize,
    q: Vec<i8>,
    d: Vec<f32>,
    sums: Vec<i16>,
}

impl Quantised {
    fn new(random: &mut Random, tokens: usize, cols: usize, block: usize, size: Size) -> Self {
        let x: Vec<f32> = (0..tokens * cols).map(|_| random.f32(size)).collect();
        let (mut q, mut d, mut sums) = (vec![0; x.len()], vec![0.0; x.len() / block], vec![0; x.len() / 16]);
        quantise(&x, block, &mut q, &mut d);
        sums_of_16(&q, &mut sums);
        Self { cols, block, q, d, sums }
    }

    fn token(&self, t: usize) -> Activation<'_> {
        let part = |n: usize| t * n..(t + 1) * n;
        Activation {
            q: &self.q[part(self.cols)],
            d: &self.d[part(self.cols / self.block)],
            sums: &self.sums[part(self.cols / 16)],
        }
    }
}

/// What docs/numerics.md says a row's score is, row by row.
fn score_of(query: &Query<'_>, row: &[u8], dim: usize) -> f32 {
    let (mut key, mut half_scales) = (vec![0; dim], vec![0.0; dim / 32]);
    unpack(row, &mut key, &mut vec![0; dim / 32], &mut half_scales);
    let mut score = 0.0f32;
    for (h, weight) in query.weights.iter().enumerate() {
        let mut s = 0.0f32;
        for (b, half_scale) in half_scales.iter().enumerate() {
            let q = &query.doubled[h * dim + 32 * b..][..32];
            let dot: i32 = q.iter().zip(&key[32 * b..]).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
            s = (dot as f32).mul_add(query.half_scales[h * dim / 32 + b] * half_scale, s);
        }
        score = weight.mul_add(if s <= 0.0 { 0.0 } else { s }, score);
    }
    score
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn integer_products_have_the_scalar_bits(
        format in prop::sample::select(&INTEGERS[..]),
        size in prop::sample::select(&[Size::Usual, Size::Any][..]),
        rows in 1usize..6,
        blocks in 1usize..40,
        seed: u64,
    ) {
        let mut random = Random(seed);
        let (block, cols) = (format.block_len(), blocks * format.block_len());
        let w = random.blocks(format, rows * blocks, size);
        let x: Vec<f32> = (0..cols).map(|_| random.f32(size)).collect();
        let (mut q, mut d, mut sums) = (vec![0; cols], vec![0.0; blocks], vec![0; cols / 16]);
        quantise(&x, block, &mut q, &mut d);
        sums_of_16(&q, &mut sums);
        let x = Activation { q: &q, d: &d, sums: &sums };
        let product = |family| {
            let mut y = vec![f32::NAN; rows];
            mat_vec(family, format, &w, x, &mut y);
            bits(&y)
        };
        for family in Family::supported() {
            prop_assert_eq!(product(family), product(Family::Baseline), "{} on {}", format.name(), family);
        }
    }

    #[test]
    fn indexer_scores_are_those_of_each_row_alone(heads in 1usize..10, blocks in 1usize..6, seed: u64) {
        let (mut random, dim) = (Random(seed), 32 * blocks);
        // Codes of all kinds; scales about one, now and then a broken block's.
        let mut row = || -> Vec<u8> {
            let scale = |random: &mut Random| if random.bits() >> 60 == 0 { 255 } else { 120 + random.byte() % 16 };
            let codes: Vec<u8> = (0..dim / 2).map(|_| random.byte()).collect();
            codes.into_iter().chain((0..blocks).map(|_| scale(&mut random))).collect()
        };
        let rows: Vec<Vec<u8>> = (0..ROWS_SCORED).map(|_| row()).collect();
        let (mut doubled, mut offsets, mut half_scales) =
            (vec![0; heads * dim], vec![0; heads * blocks], vec![0.0; heads * blocks]);
        for h in 0..heads {
            let part = h * blocks..(h + 1) * blocks;
            unpack(&row(), &mut doubled[h * dim..][..dim], &mut offsets[part.clone()], &mut half_scales[part]);
        }
        let weights: Vec<f32> = (0..heads).map(|_| random.f32(Size::Usual)).collect();
        let query =
            Query { doubled: &doubled, offsets: &offsets, half_scales: &half_scales, weights: &weights };
        let want: Vec<f32> = rows.iter().map(|row| score_of(&query, row, dim)).collect();
        for family in Family::supported() {
            let mut keys = Keys::new(dim);
            keys.fill(family, std::array::from_fn(|r| &rows[r][..]));
            prop_assert_eq!(bits(&scores(family, &query, &keys)), bits(&want), "{}", family);
        }
    }

    #[test]
    fn products_with_few_tokens_have_the_scalar_bits(
        size in prop::sample::select(&[Size::Usual, Size::Any][..]),
        rows in 1usize..150,
        blocks in 1usize..20,
        tokens in 2..=FEW,
        seed: u64,
    ) {
        // The only format that has them.
        let (mut random, format) = (Random(seed), Format::IQ2_XXS);
        let (block, cols) = (format.block_len(), blocks * format.block_len());
        let w = random.blocks(format, rows * blocks, size);
        let quantised = Quantised::new(&mut random, tokens, cols, block, size);
        let x: Vec<Activation> = (0..tokens).map(|t| quantised.token(t)).collect();
        for family in Family::supported().filter(|f| has_mat_few(*f, format)) {
            let mut y = vec![vec![f32::NAN; rows]; tokens];
            mat_few(family, format, &w, cols, &x, |t, r, part| y[t][r..][..part.len()].copy_from_slice(part));
            for (x, y) in x.iter().zip(&y) {
                let mut want = vec![f32::NAN; rows];
                mat_vec(Family::Baseline, format, &w, *x, &mut want);
                prop_assert_eq!(bits(y), bits(&want), "{} on {}", format.name(), family);
            }
        }
    }

    #[test]
    fn products_of_matrices_have_the_scalar_bits(
        format in prop::sample::select(&INTEGERS[..]),
        size in prop::sample::select(&[Size::Usual, Size::Any][..]),
        rows in 1..=ROWS,
        blocks in 1usize..20,
        tokens in 1usize..20,
        seed: u64,
    ) {
        let mut random = Random(seed);
        let (block, cols) = (format.block_len(), blocks * format.block_len());
        let w = random.blocks(format, rows * blocks, size);
        let quantised = Quantised::new(&mut random, tokens, cols, block, size);
        let x: Vec<Activation> = (0..tokens).map(|t| quantised.token(t)).collect();
        let (packed, mut tile) = (panels(&x, block), Tile::new(cols));
        for family in Family::supported().filter(|f| has_mat_mat(*f)) {
            let mut seen = 0;
            mat_mat(family, format, &w, cols, &packed, tokens, &mut tile, |t, y| {
                let mut want = vec![f32::NAN; rows];
                mat_vec(Family::Baseline, format, &w, x[t], &mut want);
                assert_eq!(bits(&y[..rows]), bits(&want), "{} on {family}, token {t}", format.name());
                seen += 1;
            });
            prop_assert_eq!(seen, tokens);
        }
    }

    #[test]
    fn float_products_have_the_scalar_bits(
        format in prop::sample::select(&FLOATS[..]),
        size in prop::sample::select(&[Size::Usual, Size::Any][..]),
        rows in 1usize..10,
        cols in 1usize..200,
        seed: u64,
    ) {
        let mut random = Random(seed);
        let w = random.floats(format, rows * cols, size);
        let x: Vec<f32> = (0..cols).map(|_| random.f32(size)).collect();
        let product = |family| {
            let mut y = vec![f32::NAN; rows];
            float_mat_vec(family, format, &w, &x, &mut y);
            bits(&y)
        };
        for family in Family::supported() {
            prop_assert_eq!(product(family), product(Family::Baseline), "{} on {}", format.name(), family);
            let tokens: [Vec<f32>; TOKENS] = std::array::from_fn(|t| x.iter().map(|x| x * (1.0 + t as f32)).collect());
            let mut y: [Vec<f32>; TOKENS] = std::array::from_fn(|_| vec![f32::NAN; rows]);
            float_mat_mat(family, format, &w, tokens.each_ref().map(|x| &x[..]), y.each_mut().map(|y| &mut y[..]));
            for (x, y) in tokens.iter().zip(&y) {
                let mut want = vec![f32::NAN; rows];
                float_mat_vec(Family::Baseline, format, &w, x, &mut want);
                prop_assert_eq!(bits(y), bits(&want), "{} of four tokens on {}", format.name(), family);
            }
        }
    }
}

#[test]
fn integer_products_are_the_decoded_products() {
    let mut random = Random(7);
    for format in INTEGERS {
        let (block, cols) = (format.block_len(), 1280);
        let w = random.blocks(format, cols / block, Size::Usual);
        let (q, d) = (quants(&mut random, cols), vec![0.25; cols / block]);
        let mut sums = vec![0; cols / 16];
        sums_of_16(&q, &mut sums);
        let mut got = [0.0];
        mat_vec(Family::Baseline, format, &w, Activation { q: &q, d: &d, sums: &sums }, &mut got);

        let mut wide = vec![0.0; cols];
        blocks::decode(format, &w, &mut wide).unwrap();
        let terms: Vec<f64> = wide.iter().zip(&q).map(|(w, q)| *w as f64 * *q as f64 * 0.25).collect();
        let (want, size) = (terms.iter().sum::<f64>(), terms.iter().map(|t| t.abs()).sum::<f64>());
        assert!((got[0] as f64 - want).abs() <= 1e-6 * size, "{}: {} instead of {want}", format.name(), got[0]);
    }
}

#[test]
fn a_row_unpacked_for_many_tokens_gives_the_same_products() {
    let mut random = Random(8);
    for format in [Format::Q4_K, Format::Q2_K, Format::IQ2_XXS] {
        let cols = 7 * 256;
        let w = random.blocks(format, 7, Size::Any);
        let mut row = SuperRow::default();
        row.unpack(format, &w);
        let (q, d) = (quants(&mut random, cols), vec![0.5; 7]);
        let mut sums = vec![0; cols / 16];
        sums_of_16(&q, &mut sums);
        let x = Activation { q: &q, d: &d, sums: &sums };
        let mut y = [0.0];
        mat_vec(Family::Baseline, format, &w, x, &mut y);
        assert_eq!(bits(&[row.dot(x)]), bits(&y), "{}", format.name());
    }
}

/// The panels of tokens.
fn panels(x: &[Activation<'_>], block: usize) -> Vec<i32> {
    let len = panel_len(x[0].q.len(), block);
    let mut packed = vec![0; x.len().div_ceil(PANEL) * len];
    for (x, packed) in x.chunks(PANEL).zip(packed.chunks_mut(len)) {
        pack(x.iter().copied(), block, packed);
    }
    packed
}

/// Eight-bit activations.
fn quants(random: &mut Random, cols: usize) -> Vec<i8> {
    (0..cols).map(|_| (random.byte() as i8).max(-127)).collect()
}

/// The largest integers that a block can give, of either sign.
#[test]
fn extreme_quants_do_not_overflow() {
    for format in INTEGERS {
        for byte in [0x00, 0x7F, 0x80, 0xFF] {
            let cols = 2 * 16 * format.block_len();
            let mut w = vec![byte; 32 * format.block_bytes()];
            for block in w.chunks_mut(format.block_bytes()) {
                let at = if format == Format::Q2_K { 80 } else { 0 };
                let scales = if matches!(format, Format::Q2_K | Format::Q4_K) { 4 } else { 2 };
                block[at..at + scales].copy_from_slice(&[0, 0x3C, 0, 0x3C][..scales]);
            }
            for q in [127, -127] {
                let (q, d) = (vec![q; cols], vec![1.0; 32]);
                let mut sums = vec![0; cols / 16];
                sums_of_16(&q, &mut sums);
                let x = Activation { q: &q, d: &d, sums: &sums };
                let product = |family| {
                    let mut y = [f32::NAN];
                    mat_vec(family, format, &w, x, &mut y);
                    y[0]
                };
                let want = product(Family::Baseline);
                for family in Family::supported() {
                    assert_eq!(product(family), want, "{} of {byte} on {family}", format.name());
                }
                let (packed, mut tile) = (panels(&[x], format.block_len()), Tile::new(cols));
                for family in Family::supported().filter(|f| has_mat_mat(*f)) {
                    mat_mat(family, format, &w, cols, &packed, 1, &mut tile, |_, y| {
                        assert_eq!(y[0], want, "{} of {byte} on {family}, as a matrix", format.name());
                    });
                }
            }
        }
    }
}
