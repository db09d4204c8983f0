//! One tensor of a synthetic model, and its bytes: random words made into valid blocks.

use ds4_gguf::Format;

use super::random::Stream;

/// A tensor and what is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Name in the file.
    pub name: String,
    /// `dims[0]` is the row length.
    pub dims: Vec<u64>,
    /// How elements are stored.
    pub format: Format,
    /// What the elements are.
    pub content: Content,
}

/// What the elements of a tensor are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content {
    /// Random blocks (Q8_0, Q2_K, Q4_K, IQ2_XXS) whose scale is uniform in 0.75 `d` to 1.25 `d`.
    Blocks {
        /// Mean of the blocks' scales.
        d: f64,
    },
    /// Uniform floats (F16, F32).
    Floats {
        /// Their mean.
        mean: f64,
        /// Root mean square of the difference to the mean.
        rms: f64,
    },
    /// Rows of expert numbers (I32), distinct within a row when `experts` is that of a published model.
    Table {
        /// Experts to choose from, at least one.
        experts: u64,
    },
}

impl Tensor {
    /// Bytes of the payload.
    pub fn bytes(&self) -> u64 {
        let rows: u64 = self.dims[1..].iter().product();
        self.format.row_bytes(self.dims[0]).map_or(0, |row| row * rows)
    }

    /// Offsets that [`Tensor::fill`] takes are multiples of this: where a block (of the table a row) and a random word
    /// begin together.
    pub fn unit(&self) -> u64 {
        match self.content {
            Content::Table { .. } => 4 * self.dims[0],
            Content::Blocks { .. } | Content::Floats { .. } => 8 * self.format.block_bytes() as u64,
        }
    }

    /// Makes the payload's bytes from `offset`, a multiple of [`Tensor::unit`], on. `out` ends with a block or row.
    ///
    /// # Panics
    /// If the format does not go with the content.
    pub fn fill(&self, seed: u64, offset: u64, out: &mut [u8]) {
        let stream = Stream::new(&self.name, seed);
        if let Content::Table { experts } = self.content {
            return table(&stream, experts, self.dims[0] as usize, offset / self.unit(), out);
        }
        stream.fill(offset / 8, out);
        match (self.content, self.format) {
            (Content::Blocks { d }, Format::Q8_0) => each(out, |block| q8_0(block, d)),
            (Content::Blocks { d }, Format::IQ2_XXS) => each(out, |block: &mut [u8; 66]| scale(block, 0, d)),
            (Content::Blocks { d }, Format::Q2_K) => each(out, |block: &mut [u8; 84]| {
                scale(block, 80, d);
                scale(block, 82, Q2_K_MIN * d);
            }),
            (Content::Blocks { d }, Format::Q4_K) => each(out, |block: &mut [u8; 144]| {
                scale(block, 0, d);
                scale(block, 2, Q4_K_MIN * d);
            }),
            (Content::Floats { mean, rms }, Format::F16) => each(out, |x| f16(x, mean, rms)),
            (Content::Floats { mean, rms }, Format::F32) => each(out, |x| f32(x, mean, rms)),
            (content, format) => unreachable!("the list of tensors has no {content:?} in {format}"),
        }
    }
}

/// `dmin` in units of `d` that brings the mean of a block to zero: mean scale times mean quant over mean minimum.
const Q2_K_MIN: f64 = 1.5;
/// The same with scales and minimums of six bits and quants of four.
const Q4_K_MIN: f64 = 7.5;

fn each<const N: usize>(bytes: &mut [u8], change: impl Fn(&mut [u8; N])) {
    bytes.as_chunks_mut().0.iter_mut().for_each(change);
}

/// Makes the two random bytes at `at` an f16 of 0.75 to 1.25 times `d`.
#[inline]
fn scale<const N: usize>(block: &mut [u8; N], at: usize, d: f64) {
    let r = u16::from_le_bytes([block[at], block[at + 1]]) & 0x7fff;
    let value = d as f32 * (0.75 + f32::from(r) / 65536.0);
    block[at..at + 2].copy_from_slice(&half::f16::from_f32(value).to_le_bytes());
}

#[inline]
fn q8_0(block: &mut [u8; 34], d: f64) {
    scale(block, 0, d);
    for q in &mut block[2..] {
        // No encoder makes -128, and kernels that take |q| may rely on it.
        *q = if *q == 0x80 { 0x81 } else { *q };
    }
}

/// A uniform distribution of standard deviation 1 reaches from -√3 to √3.
const SQRT_3: f64 = 1.732_050_807_568_877_2;

/// In f32, as the values are rounded to 16 bits anyway.
#[inline]
fn f16(x: &mut [u8; 2], mean: f64, rms: f64) {
    let u = f32::from(u16::from_le_bytes(*x)) / 65536.0;
    let value = mean as f32 + (2.0 * u - 1.0) * (SQRT_3 * rms) as f32;
    *x = half::f16::from_f32(value).to_le_bytes();
}

#[inline]
fn f32(x: &mut [u8; 4], mean: f64, rms: f64) {
    let u = f64::from(u32::from_le_bytes(*x)) / 4_294_967_296.0;
    let value = mean + (2.0 * u - 1.0) * (SQRT_3 * rms);
    *x = (value as f32).to_le_bytes();
}

/// Rows of `used` experts from row `first` on: an arithmetic progression modulo `experts` whose odd step and start come
/// from the row's word.
fn table(stream: &Stream, experts: u64, used: usize, first: u64, out: &mut [u8]) {
    for (row, line) in (first..).zip(out.chunks_exact_mut(4 * used)) {
        let word = stream.word(row);
        let start = word % experts;
        let step = (word >> 32) % (experts / 2).max(1) * 2 + 1;
        for (k, entry) in (0..).zip(line.as_chunks_mut().0) {
            *entry = (((start + k * step) % experts) as i32).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ds4_gguf::blocks;

    fn tensor(format: Format, content: Content) -> Tensor {
        Tensor { name: "blk.0.t.weight".into(), dims: vec![1024, 256], format, content }
    }

    fn payload(t: &Tensor) -> Vec<u8> {
        let mut bytes = vec![0; t.bytes() as usize];
        t.fill(1, 0, &mut bytes);
        bytes
    }

    /// Mean and root mean square of the decoded elements.
    fn moments(t: &Tensor) -> (f64, f64) {
        let mut x = vec![0.0; 1024 * 256];
        blocks::decode(t.format, &payload(t), &mut x).unwrap();
        let n = x.len() as f64;
        let sum = |f: fn(f64) -> f64| x.iter().map(|&x| f(f64::from(x))).sum::<f64>() / n;
        (sum(|x| x), sum(|x| x * x).sqrt())
    }

    #[test]
    fn values_have_the_mean_and_size_asked_for() {
        for (format, content, mean, rms) in [
            (Format::Q8_0, Content::Blocks { d: 1.0 / 73.6 }, 0.0, 1.0),
            (Format::IQ2_XXS, Content::Blocks { d: 1.0 / 53.9 }, 0.0, 1.0),
            (Format::Q2_K, Content::Blocks { d: 1.0 / 13.9 }, 0.0, 1.0),
            (Format::Q4_K, Content::Blocks { d: 1.0 / 258.3 }, 0.0, 1.0),
            (Format::F16, Content::Floats { mean: 0.0, rms: 1.0 }, 0.0, 1.0),
            (Format::F32, Content::Floats { mean: 3.0, rms: 4.0 }, 3.0, 5.0),
        ] {
            let found = moments(&tensor(format, content));
            assert!((found.0 - mean).abs() < 0.05, "{format}: mean {}", found.0);
            assert!((found.1 / rms - 1.0).abs() < 0.05, "{format}: rms {}", found.1);
        }
    }

    #[test]
    fn pieces_join() {
        for (format, content) in [
            (Format::Q8_0, Content::Blocks { d: 1.0 }),
            (Format::IQ2_XXS, Content::Blocks { d: 1.0 }),
            (Format::F16, Content::Floats { mean: 0.0, rms: 1.0 }),
            (Format::I32, Content::Table { experts: 4096 }),
        ] {
            let t = tensor(format, content);
            let whole = payload(&t);
            let cut = 5 * t.unit() as usize;
            let mut parts = vec![0; whole.len()];
            let (a, b) = parts.split_at_mut(cut);
            t.fill(1, 0, a);
            t.fill(1, cut as u64, b);
            assert!(parts == whole, "{format}");
        }
    }

    #[test]
    fn no_q8_0_quant_is_minus_128() {
        let bytes = payload(&tensor(Format::Q8_0, Content::Blocks { d: 1.0 }));
        assert!(bytes.as_chunks::<34>().0.iter().all(|block| !block[2..].contains(&0x80)));
    }

    #[test]
    fn a_row_of_the_table_names_an_expert_once() {
        for experts in [256, 384] {
            let dims = vec![6, 2000];
            let t = Tensor { dims, ..tensor(Format::I32, Content::Table { experts }) };
            for row in payload(&t).chunks_exact(24) {
                let mut row: Vec<i32> = row.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect();
                row.sort_unstable();
                row.dedup();
                assert!(row.len() == 6 && row[0] >= 0 && row[5] < experts as i32, "{row:?}");
            }
        }
    }
}
