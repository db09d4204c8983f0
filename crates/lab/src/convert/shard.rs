//! One safetensors file: eight bytes of length, a JSON header, the data.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ds4_gguf::printable;
use safetensors::tensor::{Dtype, Metadata};

/// Longest header that is read, bytes. The published shards' are below one megabyte.
const LONGEST_HEADER: u64 = 32 << 20;

/// Where a tensor lies in its file, as the header says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// First byte, from the start of the data.
    pub start: u64,
}

/// The tensors that a header (without its length) lists, by name, and the bytes of data that they take together. They lie one
/// after the other, each as long as its shape and type say.
///
/// # Errors
/// What is wrong, in one line.
pub fn parse_header(header: &[u8]) -> Result<(Vec<Stored>, u64), String> {
    let metadata: Metadata = serde_json::from_slice(header).map_err(|e| printable(&e.to_string()))?;
    let stored = |(name, info): (String, &safetensors::tensor::TensorInfo)| Stored {
        name,
        dtype: info.dtype,
        shape: info.shape.clone(),
        start: info.data_offsets.0 as u64,
    };
    let mut tensors: Vec<Stored> = metadata.tensors().into_iter().map(stored).collect();
    tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok((tensors, metadata.data_len() as u64))
}

/// Opens a shard: the file, its tensors, and where its data begins.
pub(super) fn open(path: &Path) -> Result<(File, Vec<Stored>, u64), String> {
    let said = |e: std::io::Error| e.to_string();
    // Before opening: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(said)?.is_file() {
        return Err("not a file".into());
    }
    let file = File::open(path).map_err(said)?;
    let size = file.metadata().map_err(said)?.len();
    let mut length = [0; 8];
    file.read_exact_at(&mut length, 0).map_err(|_| format!("no safetensors header in {size} bytes"))?;
    let length = u64::from_le_bytes(length);
    if length > LONGEST_HEADER || length > size.saturating_sub(8) {
        return Err(format!(
            "header of {length} bytes in a file of {size}: not a safetensors file, or cut off (a header has at most \
             {LONGEST_HEADER} bytes)"
        ));
    }
    let mut header = vec![0; length as usize];
    file.read_exact_at(&mut header, 8).map_err(said)?;
    let (tensors, data) = parse_header(&header)?;
    let (found, expected) = (size, data.saturating_add(8 + length));
    if found != expected {
        let why = if found < expected { "cut-off download?" } else { "more than its tensors take" };
        return Err(format!("expected {expected} bytes, found {found} ({why})"));
    }
    Ok((file, tensors, 8 + length))
}
