//! How fast one core multiplies stored weights, by format: `cargo run --release -p ds4-cpu --example kernels`.
//!
//! Weights a second with one token, from the cache and from memory, and products a second with many tokens, for the
//! family of kernels in use (`DS4_CPU`), beside what the core reads and multiplies at most.

use std::time::Instant;

use ds4_cpu::kernels::activations::{quantise, sums_of_16};
use ds4_cpu::kernels::panels::{PANEL, pack, panel_len};
use ds4_cpu::kernels::products::{Activation, FEW, float_mat_vec, has_mat_few, has_mat_mat, mat_few, mat_mat, mat_vec};
use ds4_cpu::kernels::tile::{ROWS, Tile};
use ds4_cpu::{Family, MachineLimits, large_pages};
use ds4_gguf::Format;

/// Format and columns of a row as the model has them.
const MATRICES: [(Format, usize); 5] =
    [(Format::Q8_0, 4096), (Format::Q8_0, 8192), (Format::IQ2_XXS, 4096), (Format::Q2_K, 2048), (Format::Q4_K, 4096)];
const TOKENS: [usize; 8] = [2, 3, 6, 8, 12, 32, 48, 510];
/// More than any cache holds.
const MEMORY: usize = 1 << 29;
/// Less than the second cache holds.
const CACHED: usize = 1 << 18;
const ROUNDS: usize = 7;

fn main() {
    let family = Family::current();
    let limits = MachineLimits::measure(1).expect("half a gigabyte of memory");
    let (read, peak) = (limits.read / 1e9, limits.products / 1e9);
    println!("{family}, one core: reads {read:.1} GB/s, multiplies {peak:.0} G bytes/s");
    println!("format, columns: 1 token cached; from memory; then tokens: products");
    let mut memory = large_pages(MEMORY).expect("half a gigabyte of memory");
    memory.iter_mut().enumerate().for_each(|(i, x)| *x = (i.wrapping_mul(2654435761) >> 13) as u8 & 0x3F);
    for (format, cols) in MATRICES {
        let cached = vectors(family, format, cols, &memory[..CACHED]);
        let streamed = vectors(family, format, cols, &memory);
        let bits = 8.0 * format.block_bytes() as f64 / format.block_len() as f64;
        let bytes = streamed * bits / 8.0;
        print!("{:8} {cols}: {cached:5.1} G/s; {streamed:5.1} G/s = {bytes:4.1} GB/s;", format.name());
        if has_mat_mat(family) {
            for tokens in TOKENS {
                let rate = matrices(family, format, cols, &memory, tokens);
                print!("  {tokens}: {rate:.0} G/s ({:.0} %)", 100.0 * rate / peak);
            }
        }
        println!();
    }
    let x = vec![1.0; 4096];
    let rows = MEMORY / 4 / (2 * x.len());
    let w = &memory[..rows * 2 * x.len()];
    let mut y = vec![0.0; rows];
    let rate = best(|| {
        float_mat_vec(family, Format::F16, w, &x, &mut y);
        w.len()
    });
    println!("F16 4096: from memory {rate:.1} GB/s");
}

/// G weights a second with one token.
fn vectors(family: Family, format: Format, cols: usize, memory: &[u8]) -> f64 {
    let row_bytes = cols / format.block_len() * format.block_bytes();
    let rows = memory.len() / row_bytes;
    let w = &memory[..rows * row_bytes];
    let x = Tokens::new(1, cols, format.block_len());
    let mut y = vec![0.0; rows];
    let repeat = (MEMORY / 4 / w.len()).max(1);
    best(|| {
        for _ in 0..repeat {
            mat_vec(family, format, w, x.token(0), &mut y);
        }
        repeat * rows * cols
    })
}

/// G products a second with several tokens; weights come from memory.
fn matrices(family: Family, format: Format, cols: usize, memory: &[u8], tokens: usize) -> f64 {
    if tokens <= FEW && has_mat_few(family, format) {
        return few(family, format, cols, memory, tokens);
    }
    let row_bytes = cols / format.block_len() * format.block_bytes();
    let x = Tokens::new(tokens, cols, format.block_len());
    let len = panel_len(cols, format.block_len());
    let mut packed = vec![0; tokens.div_ceil(PANEL) * len];
    for (first, packed) in (0..tokens).step_by(PANEL).zip(packed.chunks_mut(len)) {
        pack((first..tokens.min(first + PANEL)).map(|t| x.token(t)), format.block_len(), packed);
    }
    let mut tile = Tile::new(cols);
    let mut y = vec![0.0; ROWS * tokens];
    let tiles = (MEMORY / (ROWS * row_bytes)).min(60_000 / tokens);
    best(|| {
        for w in memory.chunks_exact(ROWS * row_bytes).take(tiles) {
            mat_mat(family, format, w, cols, &packed, tokens, &mut tile, |t, part| {
                y[t * ROWS..][..ROWS].copy_from_slice(part);
            });
        }
        tiles * ROWS * cols * tokens
    })
}

/// [`matrices`] for kernels of few tokens.
fn few(family: Family, format: Format, cols: usize, memory: &[u8], tokens: usize) -> f64 {
    let x = Tokens::new(tokens, cols, format.block_len());
    let x: Vec<Activation<'_>> = (0..tokens).map(|t| x.token(t)).collect();
    let task = 8 * ROWS * (cols / format.block_len() * format.block_bytes());
    let mut y = vec![0.0; 8 * ROWS];
    best(|| {
        for w in memory.chunks_exact(task) {
            mat_few(family, format, w, cols, &x, |_, r, part| y[r..][..part.len()].copy_from_slice(part));
        }
        memory.len() / task * 8 * ROWS * cols * tokens
    })
}

/// Units of work a second, in billions, of the best round.
fn best(mut work: impl FnMut() -> usize) -> f64 {
    let rate = |_| {
        let start = Instant::now();
        work() as f64 / start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(rate).fold(0.0, f64::max) / 1e9
}

/// Quantised activations.
struct Tokens {
    cols: usize,
    block: usize,
    q: Vec<i8>,
    d: Vec<f32>,
    sums: Vec<i16>,
}

impl Tokens {
    fn new(tokens: usize, cols: usize, block: usize) -> Self {
        let x: Vec<f32> = (0..tokens * cols).map(|i| (i as f32 * 0.37).sin()).collect();
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
