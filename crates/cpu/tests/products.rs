//! Matrix products of every format, at odd shapes: right, and the same bits for any batch and any number of threads.

use ds4_cpu::{Buf, Cpu, Limits};
use ds4_gguf::{File, Format, Header, Writer, blocks};
use ds4_model::{Activations, Matrix, Numerics, Ops, Shape, StoredRows, Yarn};
use proptest::prelude::*;

const FORMATS: [Format; 7] =
    [Format::F32, Format::F16, Format::BF16, Format::Q8_0, Format::Q4_K, Format::Q2_K, Format::IQ2_XXS];

/// A model so small that only the buffers matter.
fn shape(width: usize) -> Shape {
    Shape {
        name: "products".into(),
        context_length: 64,
        hidden: width,
        vocab: 1,
        heads: 1,
        head_dim: width,
        rope_dim: 2,
        q_rank: 1,
        out_groups: 1,
        out_rank: 1,
        window: 1,
        ratios: vec![0],
        index_heads: 0,
        index_dim: 0,
        index_top_k: 0,
        experts: 1,
        experts_used: 1,
        expert_ff: width,
        hash_layers: 0,
        expert_scale: 1.0,
        swiglu_clamp: vec![10.0],
        sinkhorn_iterations: 1,
        hc_eps: 1e-6,
        rms_eps: 1e-6,
        rope_base: 10000.0,
        compress_rope_base: 10000.0,
        yarn: Yarn { factor: 1.0, original_context: 64, beta_fast: 32.0, beta_slow: 1.0 },
        mtp_blocks: 0,
    }
}

/// Random bits as numbers in ±1.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// A matrix of random blocks with finite scales.
fn matrix(format: Format, rows: usize, cols: usize, seed: u64) -> Matrix {
    let mut bytes = Vec::new();
    if matches!(format, Format::Q4_K | Format::Q2_K | Format::IQ2_XXS) {
        let len = rows * cols / format.block_len() * format.block_bytes();
        bytes = noise(seed, len).iter().map(|x| (x * 127.0) as i8 as u8).collect();
        let scale = half::f16::from_f32(0.02).to_le_bytes();
        let places: &[usize] = match format {
            Format::Q2_K => &[80, 82],
            Format::Q4_K => &[0, 2],
            _ => &[0],
        };
        for block in bytes.chunks_mut(format.block_bytes()) {
            places.iter().for_each(|&at| block[at..at + 2].copy_from_slice(&scale));
        }
    } else {
        blocks::encode(format, &noise(seed, rows * cols), &mut bytes).unwrap();
    }
    let mut header = Header::new();
    header.tensor("w", &[cols as u64, rows as u64], format);
    let mut writer = Writer::begin("w", Vec::new(), &header).unwrap();
    writer.tensor("w", &bytes).unwrap();
    let file = File::from_bytes("w", writer.finish().unwrap()).unwrap();
    let bytes = file.bytes(file.tensor("w").unwrap());
    Matrix { name: "w".into(), format, cols, rows, count: 1, bytes }
}

/// `W x` for every token, computed together on `threads` threads.
fn product(w: &Matrix, x: &[f32], activations: Activations, threads: usize) -> Vec<f32> {
    let tokens = x.len() / w.cols;
    let numerics = Numerics { activations, rows: StoredRows::Trained };
    let mut cpu = Cpu::new(&shape(w.cols), numerics, Limits { threads, tokens, context: 64 });
    let (mut input, mut out): (Buf, Buf) = (cpu.buffer(tokens, w.cols), cpu.buffer(tokens, w.rows));
    cpu.write(&mut input, x);
    cpu.project(&input, &mut [(w, &mut out)]);
    cpu.read(&out)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_are_right_and_depend_on_nothing_else(
        format in prop::sample::select(&FORMATS[..]),
        rows in 1usize..70,
        units in 1usize..6,
        odd in 0usize..31,
        tokens in 1usize..7,
        threads in 1usize..6,
        integers: bool,
        seed: u64,
    ) {
        let float = matches!(format, Format::F32 | Format::F16 | Format::BF16);
        let cols = if float { 32 * units + odd } else { 256 * units };
        let w = matrix(format, rows, cols, seed);
        let x = noise(!seed, tokens * cols);
        let activations = if integers { Activations::Int8 } else { Activations::F32 };
        let y = product(&w, &x, activations, threads);

        let mut wide = vec![0.0; rows * cols];
        blocks::decode(format, &w.bytes, &mut wide).unwrap();
        // Eight bits lose up to a part in 254 of each block's largest value, here at most 1.
        let (relative, absolute) = if integers && !float { (0.0, 0.5 / 127.0) } else { (1e-6, 0.0) };
        for (t, x) in x.chunks(cols).enumerate() {
            for (r, w) in wide.chunks(cols).enumerate() {
                let terms = || w.iter().zip(x).map(|(w, x)| *w as f64 * *x as f64);
                let size: f64 = w.iter().map(|w| w.abs() as f64).sum();
                let bound = relative * terms().map(f64::abs).sum::<f64>() + absolute * size + 1e-5 * size;
                let (got, want) = (y[t * rows + r] as f64, terms().sum::<f64>());
                prop_assert!((got - want).abs() <= bound, "{} row {r}: {got}, not {want}", format.name());
            }
            let alone = product(&w, x, activations, 1);
            let same = alone.iter().zip(&y[t * rows..]).all(|(a, b)| a.to_bits() == b.to_bits());
            prop_assert!(same, "{}: token {t} of {tokens} differs from itself alone", format.name());
        }
    }
}
