//! Hugging Face checkpoint to GGUF.
//!
//! A folder with `config.json` and `*.safetensors` (F32, F16 or BF16; the names of transformers or of the official
//! code) and a `tokenizer.json` becomes one file. Rows are read, converted and written a few at a time.

mod config;
mod error;
mod metadata;
mod names;
mod recipe;
mod source;

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use ds4_gguf::{Header, Writer, blocks};
use ds4_model::{Mtp, Shape, Weights};
use ds4_tokenizer::Vocabulary;

pub use config::shape_from_config;
pub use error::Error;
use names::{Entry, Gather};
pub use names::{Family, Scheme};
pub use recipe::Recipe;
use source::Source;

/// What to convert.
pub struct Options<'a> {
    /// Folder with `config.json` and the tensors.
    pub checkpoint: &'a Path,
    /// Vocabulary of the result; none for a file without a tokenizer (tests).
    pub vocabulary: Option<&'a Vocabulary>,
    /// Model name in the metadata.
    pub name: &'a str,
    /// Element format of each tensor family.
    pub recipe: Recipe,
    /// Convert the drafting block (`mtp.0.*`) to a file of its own instead of the model.
    pub mtp: bool,
    /// Replace an existing file.
    pub overwrite: bool,
}

/// Values that are converted at a time.
const CHUNK: usize = 1 << 20;

/// Converts a checkpoint to `out`, by way of `out` + `.part`. `progress` is called with (done, total) tensors.
pub fn convert(options: &Options<'_>, out: &Path, mut progress: impl FnMut(usize, usize)) -> Result<(), Error> {
    if out.exists() && !options.overwrite {
        return Err(Error::Exists(out.into()));
    }
    let config = options.checkpoint.join("config.json");
    let shape = shape_from_config(&config, options.name)?;
    metadata::check(&shape, &config)?;
    let source = Source::open(options.checkpoint)?;
    let entries = match options.mtp {
        true => names::mtp(&shape),
        false => names::model(&shape, Scheme::of(&source)?),
    };
    let header = header(options, &shape, &source, &entries)?;

    let part = PathBuf::from(format!("{}.part", out.display()));
    let file = File::create(&part).map_err(|e| Error::Io(part.clone(), e))?;
    let mut writer = Writer::begin(&part.to_string_lossy(), BufWriter::new(file), &header)?;
    for (i, entry) in entries.iter().enumerate() {
        progress(i, entries.len());
        writer.start(&entry.name)?;
        write_tensor(&source, entry, &options.recipe, &mut writer)?;
    }
    progress(entries.len(), entries.len());
    let file = writer.finish()?.into_inner().map_err(|e| Error::Io(part.clone(), e.into_error()))?;
    file.sync_all().map_err(|e| Error::Io(part.clone(), e))?;
    check(&part, &shape, options.mtp)?;
    fs::rename(&part, out).map_err(|e| Error::Io(out.into(), e))
}

/// The result must load like any other file.
fn check(path: &Path, shape: &Shape, mtp: bool) -> Result<(), Error> {
    let file = ds4_gguf::File::open(path)?;
    match mtp {
        true => Mtp::load(shape, &file).map(drop)?,
        false => Weights::load(&file).map(drop)?,
    }
    Ok(())
}

fn header(options: &Options<'_>, shape: &Shape, source: &Source, entries: &[Entry]) -> Result<Header, Error> {
    let mut header = metadata::header(shape, options.recipe.file_type());
    if let Some(vocabulary) = options.vocabulary {
        if vocabulary.tokens.len() != shape.vocab {
            return Err(Error::Vocabulary { tokens: vocabulary.tokens.len(), vocab: shape.vocab });
        }
        metadata::add_vocabulary(&mut header, vocabulary);
    }
    for entry in entries {
        let dims: Vec<u64> = entry.dims(source)?.into_iter().map(|d| d as u64).collect();
        header.tensor(&entry.name, &dims, options.recipe.format(entry.family));
    }
    Ok(header)
}

/// Reads, encodes and writes the rows of one tensor.
fn write_tensor(
    source: &Source,
    entry: &Entry,
    recipe: &Recipe,
    writer: &mut Writer<BufWriter<File>>,
) -> Result<(), Error> {
    let mut bytes = Vec::new();
    for (name, rows) in entry.parts(source)? {
        let cols = source.tensor(&name)?.cols();
        let step = (CHUNK / cols.max(1)).max(1);
        for first in rows.clone().step_by(step) {
            let rows = first..rows.end.min(first + step);
            bytes.clear();
            if entry.family == Family::Table {
                source.integers(&name, rows)?.iter().for_each(|i| bytes.extend(i.to_le_bytes()));
            } else {
                let values = source.floats(&name, rows)?;
                let format = recipe.format(entry.family);
                blocks::encode(format, &values, &mut bytes).map_err(|e| Error::Tensor(name.clone(), e.to_string()))?;
            }
            writer.write(&bytes)?;
        }
    }
    Ok(())
}

impl Entry {
    /// Shape in the file: row length first.
    fn dims(&self, source: &Source) -> Result<Vec<usize>, Error> {
        let shape = match &self.gather {
            Gather::One(name) => source.tensor(name)?.shape.clone(),
            Gather::Half(name, _) => {
                let mut shape = source.tensor(name)?.shape.clone();
                if let [_, rows, _] = shape.as_mut_slice() {
                    *rows /= 2;
                }
                shape
            }
            Gather::Stack(names) => {
                let first = source.tensor(&names[0])?.shape.clone();
                [vec![names.len()], first].concat()
            }
        };
        Ok(shape.into_iter().rev().collect())
    }

    /// The source rows in order.
    fn parts(&self, source: &Source) -> Result<Vec<(String, std::ops::Range<usize>)>, Error> {
        match &self.gather {
            Gather::One(name) => Ok(vec![(name.clone(), 0..source.tensor(name)?.rows())]),
            Gather::Stack(names) => {
                let first = &source.tensor(&names[0])?.shape;
                for name in names {
                    let shape = &source.tensor(name)?.shape;
                    if shape != first {
                        return Err(Error::Tensor(name.clone(), format!("shape {shape:?}, expected {first:?}")));
                    }
                }
                names.iter().map(|name| Ok((name.clone(), 0..source.tensor(name)?.rows()))).collect()
            }
            Gather::Half(name, upper) => {
                let shape = &source.tensor(name)?.shape;
                let &[experts, rows, _] = shape.as_slice() else {
                    return Err(Error::Tensor(name.clone(), format!("shape {shape:?}, expected [experts, 2·F, D]")));
                };
                let half = rows / 2;
                let first = |e: usize| e * rows + if *upper { half } else { 0 };
                Ok((0..experts).map(|e| (name.clone(), first(e)..first(e) + half)).collect())
            }
        }
    }
}
