//! GGUF files, version 3: the memory-mapped reader, the streaming writer, metadata, the tensor directory, and the
//! block formats that tensors are stored in. This crate knows nothing about models.
//!
//! ```
//! use ds4_gguf::{File, Format, Header, Writer};
//!
//! let mut header = Header::new();
//! header.str("general.architecture", "deepseek4").u32("deepseek4.block_count", 2);
//! header.tensor("output_norm.weight", &[4], Format::F32);
//! let mut writer = Writer::begin("small.gguf", Vec::new(), &header)?;
//! writer.tensor("output_norm.weight", &[0; 16])?;
//! let file = File::from_bytes("small.gguf", writer.finish()?)?;
//!
//! assert_eq!(file.metadata().u32("deepseek4.block_count")?, Some(2));
//! let norm = file.tensor("output_norm.weight").expect("just written");
//! assert_eq!((norm.dims.as_slice(), norm.format), ([4].as_slice(), Format::F32));
//! assert_eq!(*file.bytes(norm), [0; 16]);
//! # Ok::<(), ds4_gguf::Error>(())
//! ```
//!
//! A file's layout, all numbers little endian:
//!
//! ```text
//! "GGUF"  version u32 = 3  n_tensors u64  n_kv u64
//! n_kv      x  key string, type u32, value
//! n_tensors x  name string, n_dims u32, dims u64[n_dims], format u32, offset u64 (from the data section's start)
//! zeros up to the alignment (general.alignment, 32 by default)
//! the payloads, each followed by zeros up to the alignment
//! ```
//!
//! A string is its length in bytes (u64) and its UTF-8 bytes. Rows are `dims[0]` elements long and lie one after the
//! other; the last dimension is the outermost.
//!
//! What holds everywhere: a file that opens has tensors that lie inside it, on the alignment, without overlap, in whole
//! blocks, under names that differ; no input can panic, and none makes the reader allocate more than a small multiple
//! of the bytes that are there.

pub mod blocks;
mod error;
mod file;
mod format;
mod reader;
mod strings;
mod tensor;
mod value;
mod writer;

pub use error::{Error, printable};
pub use file::{Bytes, File};
pub use format::Format;
pub use strings::Strings;
pub use tensor::Tensor;
pub use value::{Array, Metadata, Value};
pub use writer::{Header, Layout, Writer};
