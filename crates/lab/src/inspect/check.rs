//! Looks at every scale of every block and at every plain float. One that is not finite makes everything after it NaN,
//! so a damaged download or conversion shows here before it shows as nonsense.

use std::fmt;

use ds4_gguf::{File, Format, Tensor, blocks};

use super::text;

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checked {
    /// Tensors that were read.
    pub tensors: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Tensors with a scale or value that is not finite, in file order.
    pub damaged: Vec<NonFinite>,
    /// Names of the tensors that hold integers or a format without a decoder, so that nothing is known of them.
    pub skipped: Vec<String>,
}

/// The first scale or value of a tensor that is not finite.
#[derive(Clone, Debug, PartialEq)]
pub struct NonFinite {
    /// The tensor's name.
    pub tensor: String,
    /// The expert, in a stack of matrices.
    pub expert: Option<u64>,
    /// Row, counted within the expert.
    pub row: u64,
    /// Block of the row; of plain floats the column.
    pub block: u64,
    /// "d", "dmin" or "value".
    pub part: &'static str,
    /// An infinity or NaN.
    pub value: f32,
    /// How many blocks (values, of plain floats) of the tensor are damaged.
    pub count: u64,
}

impl Checked {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty()
    }
}

/// One line of what was read, and one for each damaged tensor.
impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tensors, bytes) = (text::count(self.tensors, "tensor"), text::bytes(self.bytes as f64));
        write!(f, "checked {tensors}, {bytes}: ")?;
        match self.damaged.len() {
            0 => write!(f, "every scale and value is finite")?,
            n => write!(f, "{} damaged", text::count(n, "tensor"))?,
        }
        if !self.skipped.is_empty() {
            write!(f, "; not checked: {} of integers or unknown formats", text::count(self.skipped.len(), "tensor"))?;
        }
        self.damaged.iter().try_for_each(|damage| write!(f, "\n{damage}"))
    }
}

/// `tensor blk.3.attn_kv.weight: row 5 block 2: d is NaN; 3 in all`.
impl fmt::Display for NonFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor {}: ", text::printable(&self.tensor, 200))?;
        if let Some(expert) = self.expert {
            write!(f, "expert {expert} ")?;
        }
        let block = if self.part == "value" { "column" } else { "block" };
        write!(f, "row {} {block} {}: {} is {}", self.row, self.block, self.part, self.value)?;
        if self.count > 1 {
            write!(f, "; {} in all", text::grouped(self.count))?;
        }
        Ok(())
    }
}

/// Reads the whole file through its mapping, a tensor at a time. `progress` hears (bytes done, bytes in all) every
/// few megabytes.
pub fn check(file: &File, progress: &mut dyn FnMut(u64, u64)) -> Checked {
    let mut checked = Checked::default();
    let floats = |tensor: &&Tensor| tensor.format.is_decodable();
    checked.skipped = file.tensors().iter().filter(|t| !floats(t)).map(|t| t.name.clone()).collect();
    let total = file.tensors().iter().filter(floats).map(|t| t.len).sum();
    for tensor in file.tensors().iter().filter(floats) {
        let before = checked.bytes;
        let damage = check_tensor(file, tensor, &mut |done| progress(before + done, total));
        checked.damaged.extend(damage);
        checked.tensors += 1;
        checked.bytes += tensor.len;
    }
    checked
}

fn check_tensor(file: &File, tensor: &Tensor, progress: &mut dyn FnMut(u64)) -> Option<NonFinite> {
    /// Blocks between two calls of `progress`.
    const STEP: usize = 1 << 18;
    let size = tensor.format.block_bytes();
    let bytes = file.bytes(tensor);
    let (mut found, mut done) = (None::<NonFinite>, 0);
    for piece in bytes.chunks(STEP * size) {
        each_damaged(tensor.format, piece, |i| {
            let first = || describe(tensor, done / size as u64 + i as u64, &piece[i * size..]);
            found.get_or_insert_with(first).count += 1;
        });
        done += piece.len() as u64;
        progress(done);
    }
    found
}

/// Calls `hit` with the position of each block that holds a number that is not finite.
fn each_damaged(format: Format, bytes: &[u8], hit: impl FnMut(usize)) {
    let half = |block: &[u8], at: usize| u16::from_le_bytes([block[at], block[at + 1]]) & 0x7c00 != 0x7c00;
    match format {
        Format::F32 => scan::<4>(bytes, |x| f32::from_le_bytes(*x).is_finite(), hit),
        Format::BF16 => scan::<2>(bytes, |x| u16::from_le_bytes(*x) & 0x7f80 != 0x7f80, hit),
        Format::F16 => scan::<2>(bytes, |x| half(x, 0), hit),
        Format::Q8_0 => scan::<34>(bytes, |b| half(b, 0), hit),
        Format::IQ2_XXS => scan::<66>(bytes, |b| half(b, 0), hit),
        Format::Q4_K => scan::<144>(bytes, |b| half(b, 0) & half(b, 2), hit),
        Format::Q2_K => scan::<84>(bytes, |b| half(b, 80) & half(b, 82), hit),
        Format::I32 | Format::Other(_) => {}
    }
}

fn scan<const N: usize>(bytes: &[u8], sound: impl Fn(&[u8; N]) -> bool, mut hit: impl FnMut(usize)) {
    const GROUP: usize = 512;
    for (g, group) in bytes.as_chunks().0.chunks(GROUP).enumerate() {
        // No early exit: so the compiler can compare many at a time. Nearly all groups are sound.
        if !group.iter().fold(true, |all, block| all & sound(block)) {
            (0..group.len()).filter(|&i| !sound(&group[i])).for_each(|i| hit(g * GROUP + i));
        }
    }
}

/// Says where block `index` of `tensor` is and what is wrong with it. `bytes` begin with the block.
fn describe(tensor: &Tensor, index: u64, bytes: &[u8]) -> NonFinite {
    let half = |at: usize| blocks::f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let two = |d: f32, dmin: f32| if d.is_finite() { ("dmin", dmin) } else { ("d", d) };
    let (part, value) = match tensor.format {
        Format::F32 => ("value", f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
        Format::BF16 => ("value", blocks::float::bf16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]))),
        Format::F16 => ("value", half(0)),
        Format::Q4_K => two(half(0), half(2)),
        Format::Q2_K => two(half(80), half(82)),
        _ => ("d", half(0)),
    };
    let blocks = (tensor.cols() / tensor.format.block_len() as u64).max(1);
    let (row, block) = (index / blocks, index % blocks);
    // A stack has one matrix for each expert.
    let rows = tensor.dims.get(1).filter(|_| tensor.dims.len() > 2);
    let expert = rows.map(|rows| row / rows);
    let row = rows.map_or(row, |rows| row % rows);
    NonFinite { tensor: tensor.name.clone(), expert, row, block, part, value, count: 0 }
}
