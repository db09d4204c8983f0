//! What a conversion will read and write, checked before anything is written, and cut into pieces that can be made in
//! any order.

use std::ops::Range;

use ds4_gguf::Format;
use ds4_model::Shape;

use super::decode::{Encoding, FP4_BLOCK};
use super::error::{Problems, not_encodable};
use super::names::{Entry, Family, Gather};
use super::recipe::Recipe;
use super::source::{Found, Place, Source};

/// Values of a piece, about; rows are not cut.
const PIECE: usize = 1 << 19;

/// Everything that will be written.
pub(super) struct Plan {
    pub(super) tensors: Vec<Tensor>,
    /// For each tensor the number of pieces up to and with it.
    ends: Vec<usize>,
    /// Experts that a table may name.
    pub(super) experts: usize,
}

/// One GGUF tensor.
pub(super) struct Tensor {
    entry: Entry,
    pub(super) format: Format,
    /// Equally long runs of rows.
    parts: Vec<Part>,
}

/// A run of rows in one tensor of the checkpoint.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) encoding: Encoding,
    pub(super) data: Place,
    pub(super) scales: Option<Place>,
    /// The run's first row in the tensor of the checkpoint.
    pub(super) first: usize,
}

/// Rows that are made at once.
pub(super) struct Piece<'a> {
    pub(super) tensor: &'a Tensor,
    /// The tensor's number in the file.
    pub(super) number: usize,
    part: usize,
    /// Rows of the part.
    pub(super) rows: Range<usize>,
}

impl Tensor {
    /// Length of a row.
    pub(super) fn cols(&self) -> usize {
        self.entry.dims[0]
    }

    /// Rows of a part.
    fn part_rows(&self) -> usize {
        self.entry.dims[1..].iter().product::<usize>() / self.parts.len().max(1)
    }

    fn piece_rows(&self) -> usize {
        (PIECE / self.cols().max(1)).max(1)
    }

    fn pieces(&self) -> usize {
        self.parts.len() * self.part_rows().div_ceil(self.piece_rows())
    }

    /// Name in the file.
    pub(super) fn name(&self) -> &str {
        &self.entry.name
    }

    /// Shape in the file.
    pub(super) fn dims(&self) -> Vec<u64> {
        self.entry.dims.iter().map(|d| *d as u64).collect()
    }
}

impl Piece<'_> {
    /// Where the rows come from.
    pub(super) fn part(&self) -> &Part {
        &self.tensor.parts[self.part]
    }

    /// The first row's number in the GGUF tensor.
    pub(super) fn first_row(&self) -> usize {
        self.part * self.tensor.part_rows() + self.rows.start
    }

    /// The tensor of the checkpoint, for messages.
    pub(super) fn source(&self) -> String {
        self.tensor.entry.source(self.part)
    }
}

impl Plan {
    /// Finds and checks everything that `entries` need.
    pub(super) fn new(
        shape: &Shape,
        entries: Vec<Entry>,
        recipe: &Recipe,
        source: &Source,
        problems: &mut Problems,
    ) -> Self {
        let mut plan = Self { tensors: Vec::new(), ends: Vec::new(), experts: shape.experts };
        let mut pieces = 0;
        for entry in entries {
            let format = recipe.format(entry.family);
            check_format(&entry, format, problems);
            let parts = Finder { source, table: entry.family == Family::Table, problems }.parts(&entry);
            let tensor = Tensor { entry, format, parts };
            pieces += tensor.pieces();
            plan.ends.push(pieces);
            plan.tensors.push(tensor);
            if problems.is_enough() {
                break;
            }
        }
        plan
    }

    /// How many pieces there are.
    pub(super) fn pieces(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// A piece, in file order.
    pub(super) fn piece(&self, i: usize) -> Piece<'_> {
        let number = self.ends.partition_point(|end| *end <= i);
        let tensor = &self.tensors[number];
        let i = i - number.checked_sub(1).map_or(0, |before| self.ends[before]);
        let (rows, step) = (tensor.part_rows(), tensor.piece_rows());
        let steps = rows.div_ceil(step);
        let (part, first) = (i / steps, i % steps * step);
        Piece { tensor, number, part, rows: first..rows.min(first + step) }
    }
}

/// Whether a tensor can have its format at all.
fn check_format(entry: &Entry, format: Format, problems: &mut Problems) {
    let (name, cols) = (&entry.name, entry.dims[0]);
    match format {
        Format::F32 | Format::F16 | Format::BF16 | Format::I32 => {}
        Format::Q8_0 if entry.family == Family::Small => {
            problems.add(format!("tensor {name}: must stay a float; choose F32, F16 or BF16"));
        }
        Format::Q8_0 if !cols.is_multiple_of(format.block_len()) => {
            problems.add(format!("tensor {name}: Q8_0 needs rows of whole blocks of 32, found {cols} columns"));
        }
        Format::Q8_0 => {}
        _ => problems.add(format!("tensor {name}: {}", not_encodable(format))),
    }
}

impl Entry {
    /// The checkpoint's tensor that part `part` comes from.
    fn source(&self, part: usize) -> String {
        match &self.gather {
            Gather::One(name) | Gather::Half(name, _) => name.clone(),
            Gather::Stack(before, after) => format!("{before}{part}{after}"),
        }
    }
}

/// Looks tensors up and says what does not fit.
struct Finder<'a> {
    source: &'a Source,
    /// Integers are wanted.
    table: bool,
    problems: &'a mut Problems,
}

impl Finder<'_> {
    fn parts(&mut self, entry: &Entry) -> Vec<Part> {
        let outermost_first: Vec<usize> = entry.dims.iter().rev().copied().collect();
        match (&entry.gather, outermost_first.as_slice()) {
            (Gather::Stack(..), [count, matrix @ ..]) => {
                let mut parts = Vec::new();
                for i in 0..*count {
                    parts.extend(self.find(&entry.source(i), matrix));
                    if self.problems.is_enough() {
                        break;
                    }
                }
                parts
            }
            (Gather::Half(name, upper), &[count, rows, cols]) => {
                let Some(stack) = self.find(name, &[count, 2 * rows, cols]) else { return Vec::new() };
                let first = |i| 2 * rows * i + if *upper { rows } else { 0 };
                (0..count).map(|i| Part { first: first(i), ..stack }).collect()
            }
            (_, shape) => self.find(&entry.source(0), shape).into_iter().collect(),
        }
    }

    /// A tensor with these dimensions, outermost first.
    fn find(&mut self, name: &str, shape: &[usize]) -> Option<Part> {
        let Some(found) = self.source.get(name) else {
            if !self.source.is_named(name) {
                self.problem(name, format!("no such tensor; expected shape {shape:?}"));
            }
            return None;
        };
        let encoding = Encoding::of(found.dtype).filter(|e| e.is_integer() == self.table);
        let Some(encoding) = encoding else {
            let expected = if self.table { "I32 or I64" } else { "F32, F16, BF16, F8_E4M3 or I8 (FP4)" };
            self.problem(name, format!("type {}, expected {expected}", found.dtype));
            return None;
        };
        let part = Part { encoding, data: found.place, scales: None, first: 0 };
        match (encoding, shape) {
            (Encoding::Fp8 | Encoding::Fp4, &[rows, cols]) => self.scaled(name, part, found, rows, cols),
            (Encoding::Fp8 | Encoding::Fp4, _) => {
                self.problem(name, format!("type {} in {} dimensions, expected a matrix", found.dtype, shape.len()));
                None
            }
            _ => self.has_shape(name, found, shape).then_some(part),
        }
    }

    /// A matrix with scales beside it.
    fn scaled(&mut self, name: &str, part: Part, found: &Found, rows: usize, cols: usize) -> Option<Part> {
        if part.encoding == Encoding::Fp4 && !cols.is_multiple_of(FP4_BLOCK) {
            self.problem(name, format!("FP4 needs rows of whole blocks of {FP4_BLOCK}, found {cols} columns"));
            return None;
        }
        let fits = self.has_shape(name, found, &[rows, part.encoding.row_bytes(cols)]);
        let scale_name = format!("{}.scale", name.strip_suffix(".weight").unwrap_or(name));
        let shape = [part.encoding.scale_row(rows - 1) + 1, part.encoding.scales_in_row(cols)];
        let Some(scales) = self.source.get(&scale_name) else {
            if !self.source.is_named(&scale_name) {
                self.problem(&scale_name, format!("no such tensor; {} without scales", found.dtype));
            }
            return None;
        };
        if scales.dtype != safetensors::Dtype::F8_E8M0 {
            self.problem(&scale_name, format!("type {}, expected F8_E8M0", scales.dtype));
            return None;
        }
        let scales_fit = self.has_shape(&scale_name, scales, &shape);
        (fits && scales_fit).then_some(Part { scales: Some(scales.place), ..part })
    }

    fn has_shape(&mut self, name: &str, found: &Found, expected: &[usize]) -> bool {
        let fits = found.shape == expected;
        if !fits {
            self.problem(name, format!("shape {:?}, expected {expected:?} for this config.json", found.shape));
        }
        fits
    }

    fn problem(&mut self, name: &str, what: String) {
        self.problems.add(format!("{}: tensor {name}: {what}", self.source.folder.display()));
    }
}
