//! Safetensors files, read by rows.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ds4_gguf::blocks::f16_to_f32;
use ds4_gguf::blocks::float::bf16_to_f32;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::Error;

/// Longest safetensors header that is read, bytes.
const HEADER: u64 = 100 << 20;

/// The tensors of a folder.
pub(super) struct Source {
    folder: PathBuf,
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, TensorInfo>,
}

/// Where a tensor lies.
pub(super) struct TensorInfo {
    file: usize,
    /// Absolute, bytes.
    offset: u64,
    dtype: Dtype,
    /// Outermost first.
    pub(super) shape: Vec<usize>,
}

impl TensorInfo {
    /// Length of a row.
    pub(super) fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows, over all outer dimensions.
    pub(super) fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }
}

impl Source {
    /// Reads the headers of all `*.safetensors` in `folder`.
    pub(super) fn open(folder: &Path) -> Result<Self, Error> {
        let io = |e| Error::Io(folder.into(), e);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.extension().is_some_and(|e| e == "safetensors") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut source = Self { folder: folder.into(), files: Vec::new(), tensors: BTreeMap::new() };
        for path in paths {
            source.add(path)?;
        }
        match source.files.is_empty() {
            true => Err(source.error("no *.safetensors file in this folder")),
            false => Ok(source),
        }
    }

    fn add(&mut self, path: PathBuf) -> Result<(), Error> {
        let io = |e| Error::Io(path.clone(), e);
        let bad = |why: String| Error::Source(path.clone(), why);
        let file = File::open(&path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut length = [0; 8];
        file.read_exact_at(&mut length, 0).map_err(|e| bad(format!("no safetensors header: {e}")))?;
        let length = u64::from_le_bytes(length);
        if length > HEADER || length + 8 > size {
            return Err(bad(format!(
                "header of {length} bytes in a file of {size}: not a safetensors file, or cut off"
            )));
        }
        let mut header = vec![0; length as usize];
        file.read_exact_at(&mut header, 8).map_err(io)?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| bad(e.to_string()))?;
        for (name, info) in metadata.tensors() {
            let offset = 8 + length + info.data_offsets.0 as u64;
            if info.data_offsets.1 as u64 > size - 8 - length {
                return Err(bad(format!("tensor {name} ends beyond the file (cut-off download?)")));
            }
            let info = TensorInfo { file: self.files.len(), offset, dtype: info.dtype, shape: info.shape.clone() };
            if self.tensors.insert(name.clone(), info).is_some() {
                return Err(bad(format!("tensor {name} is in another file too")));
            }
        }
        self.files.push((path, file));
        Ok(())
    }

    /// A tensor's place.
    pub(super) fn tensor(&self, name: &str) -> Result<&TensorInfo, Error> {
        self.tensors.get(name).ok_or_else(|| Error::Tensor(name.into(), format!("not in {}", self.folder.display())))
    }

    /// An error that names the folder.
    pub(super) fn error(&self, why: &str) -> Error {
        Error::Source(self.folder.clone(), why.into())
    }

    /// Some rows of a float tensor.
    pub(super) fn floats(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>, Error> {
        let tensor = self.tensor(name)?;
        match tensor.dtype {
            Dtype::F32 => self.read(tensor, rows, f32::from_le_bytes),
            Dtype::BF16 => self.read(tensor, rows, |b| bf16_to_f32(u16::from_le_bytes(b))),
            Dtype::F16 => self.read(tensor, rows, |b| f16_to_f32(u16::from_le_bytes(b))),
            other => Err(Error::Tensor(name.into(), format!("type {other:?}; expected F32, F16 or BF16"))),
        }
    }

    /// Some rows of an integer tensor.
    pub(super) fn integers(&self, name: &str, rows: Range<usize>) -> Result<Vec<i32>, Error> {
        let tensor = self.tensor(name)?;
        match tensor.dtype {
            Dtype::I32 => self.read(tensor, rows, i32::from_le_bytes),
            // An expert number that does not fit becomes one that no model has; the loader names it.
            Dtype::I64 => self.read(tensor, rows, |b| i64::from_le_bytes(b).try_into().unwrap_or(-1)),
            other => Err(Error::Tensor(name.into(), format!("type {other:?}; expected I32 or I64"))),
        }
    }

    fn read<T, const N: usize>(
        &self,
        tensor: &TensorInfo,
        rows: Range<usize>,
        parse: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Error> {
        let (path, file) = &self.files[tensor.file];
        let row = tensor.cols() * N;
        let mut bytes = vec![0; rows.len() * row];
        let offset = tensor.offset + (rows.start * row) as u64;
        file.read_exact_at(&mut bytes, offset).map_err(|e| Error::Io(path.clone(), e))?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|b| parse(*b)).collect())
    }
}
