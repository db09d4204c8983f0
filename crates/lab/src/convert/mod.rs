//! Hugging Face checkpoint to GGUF.
//!
//! A folder with `config.json`, `*.safetensors` (the names of transformers or of the official code; F32, F16, BF16, and
//! FP8 and FP4 with scales) and a `tokenizer.json` becomes one file. Everything is checked first; then pieces of a few
//! hundred rows are read, decoded, encoded and written by all threads, each at its own place. An interrupted conversion
//! continues where it was.
//!
//! - `config.rs`, `metadata.rs`: `config.json` to shape, shape to metadata
//! - `index.rs`, `shard.rs`, `source.rs`: what the folder holds
//! - `names.rs`, `recipe.rs`: which tensor becomes which, in which format
//! - `plan.rs`: all of it checked, and cut into pieces
//! - `decode.rs`, `encode.rs`: rows of numbers
//! - `output.rs`, `journal.rs`: threads, the unfinished file, and how to continue it

mod config;
mod decode;
mod encode;
mod error;
mod index;
mod journal;
mod metadata;
mod names;
mod output;
mod plan;
mod recipe;
mod shard;
mod source;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use ds4_gguf::Header;
use ds4_model::{Mtp, Shape, Weights};
use ds4_tokenizer::Vocabulary;

pub use config::shape_from_config;
pub use error::{Error, Problems};
pub use index::parse_index;
pub use names::{Family, Scheme};
use output::{Job, Part};
use plan::Plan;
pub use recipe::Recipe;
pub use shard::{Stored, parse_header};
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
    /// Replace an existing file, and begin anew where an unfinished one cannot be continued.
    pub overwrite: bool,
    /// Threads that read, convert and write.
    pub threads: usize,
}

/// How far a conversion is, in bytes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of payload that are there.
    pub done: u64,
    /// Bytes of payload in all.
    pub total: u64,
}

/// Converts a checkpoint to `out`, by way of `out` + `.part`, which the next call with the same options continues if
/// this one ends early. `progress` hears where the work begins, and of every piece.
///
/// # Errors
/// Everything that is wrong with the checkpoint, before anything is written; [`Error::Interrupted`] once `stop` is set;
/// what the disk refuses.
pub fn convert(
    options: &Options<'_>,
    out: &Path,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Error> {
    if out.is_dir() || out.file_name().is_none() {
        return Err(Error::NotAFile(out.into()));
    }
    if out.exists() && !options.overwrite {
        return Err(Error::Exists(out.into()));
    }
    let config = options.checkpoint.join("config.json");
    let shape = shape_from_config(&config, options.name)?;
    metadata::check(&shape, &config)?;
    let (source, plan) = plan(options, &shape)?;
    let layout = header(options, &shape, &plan)?.layout(&out.to_string_lossy())?;

    let job = Job { source: &source, plan: &plan, layout: &layout, threads: options.threads, stop };
    let mut part = Part::open(&job, out, options.overwrite)?;
    part.fill(&job, progress)?;
    check(part.path(), &shape, options.mtp)?;
    part.finish(out)
}

/// Finds everything; the error lists all that is missing or does not fit.
fn plan(options: &Options<'_>, shape: &Shape) -> Result<(Source, Plan), Error> {
    let mut problems = Problems::default();
    let source = Source::open(options.checkpoint, &mut problems)?;
    if source.is_empty() {
        std::mem::take(&mut problems).finish()?;
    }
    let entries = match (options.mtp, Scheme::of(&source)) {
        (true, _) => names::mtp(shape),
        (false, Some(scheme)) => names::model(shape, scheme),
        (false, None) => {
            if problems.is_empty() {
                let folder = options.checkpoint.display();
                problems.add(format!("{folder}: neither model.embed_tokens.weight nor embed.weight: not a V4 model"));
            }
            Vec::new()
        }
    };
    let plan = Plan::new(shape, entries, &options.recipe, &source, &mut problems);
    problems.finish()?;
    Ok((source, plan))
}

fn header(options: &Options<'_>, shape: &Shape, plan: &Plan) -> Result<Header, Error> {
    let mut header = metadata::header(shape, options.recipe.file_type());
    if let Some(vocabulary) = options.vocabulary {
        if vocabulary.tokens.len() != shape.vocab {
            return Err(Error::Vocabulary { tokens: vocabulary.tokens.len(), vocab: shape.vocab });
        }
        metadata::add_vocabulary(&mut header, vocabulary);
    }
    for tensor in &plan.tensors {
        header.tensor(tensor.name(), &tensor.dims(), tensor.format);
    }
    Ok(header)
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
