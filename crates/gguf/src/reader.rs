//! Parses the part of a file before the payloads. Everything in it is taken for hostile: each count is checked against
//! the bytes that are left before anything of that size is allocated.

use std::collections::HashMap;

use crate::error::printable;
use crate::tensor::payload_len;
use crate::value::type_id;
use crate::{Array, Error, Format, Metadata, Tensor, Value};

pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
pub(crate) const VERSION: u32 = 3;
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u32 = 32;

/// Bytes of the fixed header: magic, version, two counts.
const HEADER_BYTES: usize = 24;
/// The smallest entry: the length of an empty key, a type, one byte.
const MIN_KV_BYTES: u64 = 8 + 4 + 1;
/// The smallest entry: the length of an empty name, one dimension, format, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 8 + 4 + 8;

// Far above any model, far below what could hurt.
const MAX_KV: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 20;
const MAX_NAME_BYTES: u64 = 1 << 16;
const MAX_STRING_BYTES: u64 = 64 << 20;
const MAX_ARRAY: u64 = 1 << 24;
const MAX_ARRAY_DEPTH: u32 = 4;
const MAX_ALIGNMENT: u32 = 1 << 16;

/// What comes before the payloads.
pub(crate) struct Parsed {
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<Tensor>,
    /// Position in `tensors` by name.
    pub(crate) index: HashMap<String, usize>,
}

/// Parses `bytes`, the start (or all) of a file of `size` bytes. `file` is for messages.
pub(crate) fn parse(file: &str, bytes: &[u8], size: u64) -> Result<Parsed, Error> {
    let in_header = |problem: String| Error::invalid(file, "header", problem);
    let mut cursor = Cursor { bytes, pos: 0 };
    let (n_tensors, n_kv) = header(&mut cursor).map_err(in_header)?;

    let mut metadata = Metadata::new(file);
    for i in 0..n_kv {
        let entry = || format!("metadata entry {} of {n_kv}", i + 1);
        let key = cursor.string(MAX_NAME_BYTES).map_err(|p| Error::invalid(file, entry(), format!("the key {p}")))?;
        let in_key = |problem: String| Error::invalid(file, format!("key {}", printable(&key)), problem);
        let value = cursor.value().map_err(in_key)?;
        if !metadata.push(key.clone(), value) {
            return Err(in_key("appears twice".into()));
        }
    }
    let alignment = alignment(&metadata)?;

    let mut tensors = Vec::new();
    for i in 0..n_tensors {
        let entry = || format!("tensor {} of {n_tensors}", i + 1);
        let name = cursor.string(MAX_NAME_BYTES).map_err(|p| Error::invalid(file, entry(), format!("the name {p}")))?;
        let in_tensor = |problem: String| Error::invalid(file, format!("tensor {}", printable(&name)), problem);
        tensors.push(cursor.tensor(name.clone(), alignment).map_err(in_tensor)?);
    }

    let data = (cursor.pos as u64).next_multiple_of(alignment.into());
    for tensor in &mut tensors {
        place(tensor, data, size).map_err(|problem| in_tensor(file, tensor, problem))?;
    }
    refuse_overlaps(file, &tensors)?;
    let index = index(file, &tensors)?;
    Ok(Parsed { metadata, tensors, index })
}

fn in_tensor(file: &str, tensor: &Tensor, problem: String) -> Error {
    Error::invalid(file, format!("tensor {}", printable(&tensor.name)), problem)
}

/// Reads the fixed header: the numbers of tensors and of metadata entries.
fn header(cursor: &mut Cursor) -> Result<(u64, u64), String> {
    let start = &cursor.bytes[..cursor.bytes.len().min(4)];
    if start.is_empty() {
        return Err("the file is empty".into());
    }
    if start != MAGIC {
        return Err(format!("not a GGUF file: expected it to start with \"GGUF\", found \"{}\"", start.escape_ascii()));
    }
    if cursor.bytes.len() < HEADER_BYTES {
        let len = cursor.bytes.len();
        return Err(format!("needs {HEADER_BYTES} bytes but the file ends at {len} (truncated download?)"));
    }
    cursor.take(MAGIC.len() as u64)?;
    let version = cursor.u32()?;
    if version != VERSION {
        // The byte order shows in the version: a small number read the wrong way round.
        let swapped = (1..=VERSION).contains(&version.swap_bytes());
        let order = if swapped { " (a big-endian file)" } else { "" };
        return Err(format!("expected GGUF version {VERSION}, found version {version}{order}"));
    }
    let (n_tensors, n_kv) = (cursor.u64()?, cursor.u64()?);
    for (what, n, bytes, most) in
        [("tensors", n_tensors, MIN_TENSOR_BYTES, MAX_TENSORS), ("metadata entries", n_kv, MIN_KV_BYTES, MAX_KV)]
    {
        if n > most {
            return Err(format!("claims {n} {what}; at most {most} are allowed"));
        }
        if n > cursor.remaining() / bytes {
            let left = cursor.remaining();
            return Err(format!("claims {n} {what} but only {left} bytes follow (truncated download?)"));
        }
    }
    Ok((n_tensors, n_kv))
}

/// The alignment of the payloads.
pub(crate) fn alignment(metadata: &Metadata) -> Result<u32, Error> {
    let alignment = metadata.u32(ALIGNMENT_KEY)?.unwrap_or(DEFAULT_ALIGNMENT);
    if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT {
        return Ok(alignment);
    }
    let problem = format!("expected a power of two from 1 to {MAX_ALIGNMENT}, found {alignment}");
    Err(Error::invalid(metadata.file(), format!("key {ALIGNMENT_KEY}"), problem))
}

/// Makes the offset absolute and checks that the payload lies inside the file.
fn place(tensor: &mut Tensor, data: u64, size: u64) -> Result<(), String> {
    let offset = tensor.offset;
    let start = data.checked_add(offset).ok_or_else(|| format!("offset {offset} is too large"))?;
    let end = start.checked_add(tensor.len).ok_or_else(|| format!("offset {offset} is too large"))?;
    if end > size {
        return Err(format!("needs bytes {start}..{end} but the file ends at {size} (truncated download?)"));
    }
    tensor.offset = start;
    Ok(())
}

fn refuse_overlaps(file: &str, tensors: &[Tensor]) -> Result<(), Error> {
    let mut by_offset: Vec<&Tensor> = tensors.iter().collect();
    by_offset.sort_by_key(|tensor| tensor.offset);
    for pair in by_offset.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let end = a.offset + a.len;
        if b.offset < end {
            let (start, name) = (a.offset, printable(&a.name));
            let problem = format!("starts at byte {} inside tensor {name} (bytes {start}..{end})", b.offset);
            return Err(in_tensor(file, b, problem));
        }
    }
    Ok(())
}

fn index(file: &str, tensors: &[Tensor]) -> Result<HashMap<String, usize>, Error> {
    let mut index = HashMap::new();
    for (i, tensor) in tensors.iter().enumerate() {
        if index.insert(tensor.name.clone(), i).is_some() {
            return Err(in_tensor(file, tensor, "appears twice".into()));
        }
    }
    Ok(index)
}

/// A position in the file. Its errors are the problem only; the caller knows what was being read.
struct Cursor<'a> {
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    fn remaining(&self) -> u64 {
        (self.bytes.len() - self.pos) as u64
    }

    fn take(&mut self, n: u64) -> Result<&'a [u8], String> {
        if n > self.remaining() {
            let (pos, len) = (self.pos, self.bytes.len());
            return Err(format!("needs {n} bytes at {pos} but the file ends at {len} (truncated download?)"));
        }
        let start = self.pos;
        self.pos += n as usize;
        Ok(&self.bytes[start..self.pos])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N as u64)?;
        Ok(bytes.try_into().expect("take gives the bytes asked for"))
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn string(&mut self, most: u64) -> Result<String, String> {
        self.text(most).map(str::to_string)
    }

    fn text(&mut self, most: u64) -> Result<&'a str, String> {
        let len = self.u64()?;
        if len > most {
            return Err(format!("claims a string of {len} bytes; at most {most} are allowed"));
        }
        let start = self.pos;
        let bytes = self.take(len)?;
        let utf8 = |e: std::str::Utf8Error| format!("is not UTF-8 (at byte {})", start + e.valid_up_to());
        std::str::from_utf8(bytes).map_err(utf8)
    }

    fn value(&mut self) -> Result<Value, String> {
        Ok(match self.u32()? {
            type_id::U8 => Value::U8(u8::from_le_bytes(self.array()?)),
            type_id::I8 => Value::I8(i8::from_le_bytes(self.array()?)),
            type_id::U16 => Value::U16(u16::from_le_bytes(self.array()?)),
            type_id::I16 => Value::I16(i16::from_le_bytes(self.array()?)),
            type_id::U32 => Value::U32(self.u32()?),
            type_id::I32 => Value::I32(i32::from_le_bytes(self.array()?)),
            type_id::U64 => Value::U64(self.u64()?),
            type_id::I64 => Value::I64(i64::from_le_bytes(self.array()?)),
            type_id::F32 => Value::F32(f32::from_le_bytes(self.array()?)),
            type_id::F64 => Value::F64(f64::from_le_bytes(self.array()?)),
            type_id::BOOL => Value::Bool(boolean(self.array::<1>()?[0])?),
            type_id::STRING => Value::String(self.string(MAX_STRING_BYTES)?),
            type_id::ARRAY => Value::Array(self.array_value(1)?),
            id => return Err(format!("expected a value type from 0 to 12, found {id}")),
        })
    }

    /// An array, `depth` arrays deep counting itself.
    fn array_value(&mut self, depth: u32) -> Result<Array, String> {
        if depth > MAX_ARRAY_DEPTH {
            return Err(format!("holds arrays more than {MAX_ARRAY_DEPTH} deep"));
        }
        let element = self.u32()?;
        let len = self.u64()?;
        let least: u64 = match element {
            type_id::U8 | type_id::I8 | type_id::BOOL => 1,
            type_id::U16 | type_id::I16 => 2,
            type_id::U32 | type_id::I32 | type_id::F32 => 4,
            type_id::U64 | type_id::I64 | type_id::F64 | type_id::STRING => 8,
            type_id::ARRAY => 12,
            id => return Err(format!("expected an array element type from 0 to 12, found {id}")),
        };
        if len > MAX_ARRAY {
            return Err(format!("claims {len} array elements; at most {MAX_ARRAY} are allowed"));
        }
        if len > self.remaining() / least {
            let left = self.remaining();
            return Err(format!("claims {len} array elements but only {left} bytes follow (truncated download?)"));
        }
        match element {
            type_id::STRING => self.elements(len, |c| c.text(MAX_STRING_BYTES)).map(Array::String),
            type_id::ARRAY => self.elements(len, |c| c.array_value(depth + 1)).map(Array::Array),
            type_id::BOOL => self.elements(len, |c| boolean(c.array::<1>()?[0])).map(Array::Bool),
            _ => Ok(numbers(element, self.take(len * least)?)),
        }
    }

    fn elements<T, C>(&mut self, len: u64, read: impl Fn(&mut Self) -> Result<T, String>) -> Result<C, String>
    where
        C: FromIterator<T>,
    {
        (0..len).map(|i| read(self).map_err(|problem| format!("element {i}: {problem}"))).collect()
    }

    /// A directory entry. Its offset still counts from the start of the data section.
    fn tensor(&mut self, name: String, alignment: u32) -> Result<Tensor, String> {
        let n_dims = self.u32()?;
        if !(1..=4).contains(&n_dims) {
            return Err(format!("expected 1 to 4 dimensions, found {n_dims}"));
        }
        let dims = (0..n_dims).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        let format = Format::from_id(self.u32()?);
        let offset = self.u64()?;
        let len = payload_len(&dims, format)?;
        if !offset.is_multiple_of(alignment.into()) {
            return Err(format!("offset {offset} is not a multiple of the alignment {alignment}"));
        }
        Ok(Tensor { name, dims, format, offset, len })
    }
}

fn boolean(byte: u8) -> Result<bool, String> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("expected a bool of 0 or 1, found {other}")),
    }
}

/// The elements of an array of the number type `element`.
fn numbers(element: u32, bytes: &[u8]) -> Array {
    fn each<const N: usize, T>(bytes: &[u8], from: fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks().0.iter().map(|chunk| from(*chunk)).collect()
    }
    match element {
        type_id::U8 => Array::U8(bytes.to_vec()),
        type_id::I8 => Array::I8(each(bytes, i8::from_le_bytes)),
        type_id::U16 => Array::U16(each(bytes, u16::from_le_bytes)),
        type_id::I16 => Array::I16(each(bytes, i16::from_le_bytes)),
        type_id::U32 => Array::U32(each(bytes, u32::from_le_bytes)),
        type_id::I32 => Array::I32(each(bytes, i32::from_le_bytes)),
        type_id::F32 => Array::F32(each(bytes, f32::from_le_bytes)),
        type_id::U64 => Array::U64(each(bytes, u64::from_le_bytes)),
        type_id::I64 => Array::I64(each(bytes, i64::from_le_bytes)),
        type_id::F64 => Array::F64(each(bytes, f64::from_le_bytes)),
        other => unreachable!("type {other} is not a number"),
    }
}
