//! Writes files: first everything that is in the header, then the payloads in order, straight to the output.

use std::io::Write;

use crate::error::printable;
use crate::reader::{self, ALIGNMENT_KEY, MAGIC, VERSION};
use crate::tensor::payload_len;
use crate::{Array, Error, Format, Metadata, Tensor, Value};

/// What comes before the payloads: metadata and tensor directory, in the order in which they are declared.
///
/// Nothing is checked here; [`Writer::begin`] checks the whole.
#[derive(Clone, Debug, Default)]
pub struct Header {
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<u64>, Format)>,
}

impl Header {
    /// No metadata, no tensors.
    pub fn new() -> Header {
        Header::default()
    }

    /// Declares metadata of any type. The key `general.alignment` sets the alignment of the payloads (32 without it).
    pub fn value(&mut self, key: &str, value: Value) -> &mut Header {
        self.metadata.push((key.to_string(), value));
        self
    }

    /// Declares a u32.
    pub fn u32(&mut self, key: &str, value: u32) -> &mut Header {
        self.value(key, Value::U32(value))
    }

    /// Declares a u64.
    pub fn u64(&mut self, key: &str, value: u64) -> &mut Header {
        self.value(key, Value::U64(value))
    }

    /// Declares an f32.
    pub fn f32(&mut self, key: &str, value: f32) -> &mut Header {
        self.value(key, Value::F32(value))
    }

    /// Declares a boolean.
    pub fn bool(&mut self, key: &str, value: bool) -> &mut Header {
        self.value(key, Value::Bool(value))
    }

    /// Declares a string.
    pub fn str(&mut self, key: &str, value: &str) -> &mut Header {
        self.value(key, Value::String(value.to_string()))
    }

    /// Declares an array of u32.
    pub fn u32s(&mut self, key: &str, values: Vec<u32>) -> &mut Header {
        self.value(key, Value::Array(Array::U32(values)))
    }

    /// Declares an array of i32.
    pub fn i32s(&mut self, key: &str, values: Vec<i32>) -> &mut Header {
        self.value(key, Value::Array(Array::I32(values)))
    }

    /// Declares an array of f32.
    pub fn f32s(&mut self, key: &str, values: Vec<f32>) -> &mut Header {
        self.value(key, Value::Array(Array::F32(values)))
    }

    /// Declares an array of strings.
    pub fn strs(&mut self, key: &str, values: impl IntoIterator<Item = impl AsRef<str>>) -> &mut Header {
        self.value(key, Value::Array(Array::String(values.into_iter().collect())))
    }

    /// Declares a tensor; `dims[0]` is the row length.
    pub fn tensor(&mut self, name: &str, dims: &[u64], format: Format) -> &mut Header {
        self.tensors.push((name.to_string(), dims.to_vec(), format));
        self
    }

    /// The header's bytes and where each payload goes, for those who write payloads in another order than [`Writer`].
    ///
    /// # Errors
    /// Whatever [`crate::File`] would refuse to read.
    pub fn layout(&self, file: &str) -> Result<Layout, Error> {
        let (header, size) = self.encode(file)?;
        // The reader's checks are the writer's: what we write, we can read.
        let tensors = reader::parse(file, &header, size)?.tensors;
        Ok(Layout { header, tensors, size })
    }

    /// The header's bytes and the size of the whole file.
    fn encode(&self, file: &str) -> Result<(Vec<u8>, u64), Error> {
        let alignment = self.alignment(file)?;
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_string(&mut out, key);
            out.extend(value.type_id().to_le_bytes());
            put_value(&mut out, value);
        }
        let mut offset = 0u64;
        for (name, dims, format) in &self.tensors {
            let wrong = |problem| Error::invalid(file, format!("tensor {}", printable(name)), problem);
            let len = payload_len(dims, *format).map_err(wrong)?;
            put_string(&mut out, name);
            out.extend((dims.len() as u32).to_le_bytes());
            out.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
            out.extend(format.id().to_le_bytes());
            out.extend(offset.to_le_bytes());
            let end = offset.checked_add(len).and_then(|end| end.checked_next_multiple_of(alignment));
            offset = end.ok_or_else(|| wrong("the file is too large".into()))?;
        }
        out.resize(out.len().next_multiple_of(alignment as usize), 0);
        let size = (out.len() as u64).saturating_add(offset);
        Ok((out, size))
    }

    fn alignment(&self, file: &str) -> Result<u64, Error> {
        let mut metadata = Metadata::new(file);
        if let Some((key, value)) = self.metadata.iter().find(|(key, _)| key == ALIGNMENT_KEY) {
            metadata.push(key.clone(), value.clone());
        }
        reader::alignment(&metadata).map(u64::from)
    }
}

/// A file before its payloads: everything that [`Header::layout`] fixes. Bytes between payloads are zero.
#[derive(Clone, Debug)]
pub struct Layout {
    /// What the file begins with.
    pub header: Vec<u8>,
    /// The tensors with their places in the file.
    pub tensors: Vec<Tensor>,
    /// Size of the whole file.
    pub size: u64,
}

/// A file being written: the header is out, the payloads follow in the order of the directory.
///
/// ```
/// # use ds4_gguf::{Format, Header, Writer};
/// let mut header = Header::new();
/// header.tensor("a", &[2, 3], Format::F16).tensor("b", &[1], Format::F32);
/// let mut writer = Writer::begin("out.gguf", Vec::new(), &header)?;
/// writer.start("a")?; // in pieces
/// for row in 0..3 {
///     writer.write(&[row; 4])?;
/// }
/// writer.tensor("b", &[0; 4])?; // at once
/// let bytes = writer.finish()?;
/// assert_eq!(bytes.len() % 32, 0);
/// # Ok::<(), ds4_gguf::Error>(())
/// ```
pub struct Writer<W: Write> {
    out: W,
    file: String,
    tensors: Vec<Tensor>,
    alignment: u64,
    /// How many tensors were started; the last of them may be incomplete.
    started: usize,
    /// Bytes written.
    position: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header. `file` is the output's name, for messages.
    ///
    /// # Errors
    /// Whatever [`crate::File`] would refuse to read, and what the output refuses.
    pub fn begin(file: &str, out: W, header: &Header) -> Result<Writer<W>, Error> {
        let layout = header.layout(file)?;
        let alignment = header.alignment(file)?;
        let mut writer =
            Writer { out, file: file.to_string(), tensors: layout.tensors, alignment, started: 0, position: 0 };
        writer.put(&layout.header)?;
        Ok(writer)
    }

    /// The tensors with their final places in the file.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Begins the payload of `tensor`, which must be the next in the directory.
    ///
    /// # Errors
    /// Another tensor's turn, or the previous payload is not complete.
    pub fn start(&mut self, tensor: &str) -> Result<(), Error> {
        self.check_complete()?;
        match self.tensors.get(self.started) {
            Some(next) if next.name == tensor => {}
            Some(next) => return Err(self.wrong(tensor, format!("expected tensor {} next", printable(&next.name)))),
            None => return Err(self.wrong(tensor, "all declared tensors are written".into())),
        }
        self.pad()?;
        self.started += 1;
        Ok(())
    }

    /// Writes the next piece of the payload begun last.
    ///
    /// # Errors
    /// More bytes than the tensor has, no tensor begun, or the output refuses.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        let Some(tensor) = self.current() else {
            return Err(Error::invalid(&self.file, "payload", "no tensor was started"));
        };
        let left = tensor.offset + tensor.len - self.position;
        if piece.len() as u64 > left {
            let problem = format!("{} more bytes, expected at most {left} of {}", piece.len(), tensor.len);
            return Err(self.wrong(&tensor.name, problem));
        }
        self.put(piece)
    }

    /// Writes the whole payload of `tensor`, which must be the next in the directory.
    ///
    /// # Errors
    /// As [`Writer::start`] and [`Writer::write`], and a payload of another length.
    pub fn tensor(&mut self, tensor: &str, payload: &[u8]) -> Result<(), Error> {
        self.start(tensor)?;
        self.write(payload)?;
        self.check_complete()
    }

    /// Pads the last payload, flushes and gives the output back.
    ///
    /// # Errors
    /// A tensor that is missing or incomplete, or the output refuses.
    pub fn finish(mut self) -> Result<W, Error> {
        self.check_complete()?;
        if let Some(tensor) = self.tensors.get(self.started) {
            return Err(self.wrong(&tensor.name, "declared but not written".into()));
        }
        self.pad()?;
        self.out.flush().map_err(|e| Error::io(&self.file, "write", e))?;
        Ok(self.out)
    }

    /// The tensor begun last.
    fn current(&self) -> Option<&Tensor> {
        self.started.checked_sub(1).map(|i| &self.tensors[i])
    }

    fn check_complete(&self) -> Result<(), Error> {
        match self.current() {
            Some(t) if self.position < t.offset + t.len => {
                let problem = format!("expected {} bytes, found {}", t.len, self.position - t.offset);
                Err(self.wrong(&t.name, problem))
            }
            _ => Ok(()),
        }
    }

    fn pad(&mut self) -> Result<(), Error> {
        let zeros = self.position.next_multiple_of(self.alignment) - self.position;
        self.put(&vec![0; zeros as usize])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes).map_err(|e| Error::io(&self.file, "write", e))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn wrong(&self, tensor: &str, problem: String) -> Error {
        Error::invalid(&self.file, format!("tensor {}", printable(tensor)), problem)
    }
}

fn put_string(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => out.extend(v.to_le_bytes()),
        Value::I8(v) => out.extend(v.to_le_bytes()),
        Value::U16(v) => out.extend(v.to_le_bytes()),
        Value::I16(v) => out.extend(v.to_le_bytes()),
        Value::U32(v) => out.extend(v.to_le_bytes()),
        Value::I32(v) => out.extend(v.to_le_bytes()),
        Value::U64(v) => out.extend(v.to_le_bytes()),
        Value::I64(v) => out.extend(v.to_le_bytes()),
        Value::F32(v) => out.extend(v.to_le_bytes()),
        Value::F64(v) => out.extend(v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::String(v) => put_string(out, v),
        Value::Array(v) => put_array(out, v),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    out.extend(array.type_id().to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => out.extend(v),
        Array::I8(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::U16(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::I16(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::U32(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::I32(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::U64(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::I64(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::F32(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::F64(v) => out.extend(v.iter().flat_map(|v| v.to_le_bytes())),
        Array::Bool(v) => out.extend(v.iter().map(|&v| u8::from(v))),
        Array::String(v) => v.iter().for_each(|v| put_string(out, v)),
        Array::Array(v) => v.iter().for_each(|v| put_array(out, v)),
    }
}
