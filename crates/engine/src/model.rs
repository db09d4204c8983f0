//! A model file, opened: weights, tokenizer, and what it says about itself.

use std::path::Path;

use ds4_gguf::{File, Metadata};
use ds4_kv::{Key, Segment};
use ds4_model::{Mtp, NUMERICS_ID, Numerics, Weights};
use ds4_tokenizer::{TokenType, Tokenizer, Vocabulary};

use crate::Error;

/// Everything that a file holds, checked.
pub struct Model {
    /// Path or name, for messages.
    pub name: String,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bound weights.
    pub weights: Weights,
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// `general.name` and what else names the checkpoint's release, for chat.
    pub release: String,
    /// Names the file's contents, as far as can be told without reading all of it.
    pub fingerprint: Key,
}

/// Tensors whose beginning the fingerprint reads, and how many bytes of each: one page of the file.
const SAMPLES: usize = 64;
const SAMPLE_BYTES: usize = 4096;

impl Model {
    /// Opens the file at `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::from_file(File::open(path)?)
    }

    /// Binds an opened file. Its metadata, vocabulary lists included, is dropped with it.
    pub fn from_file(file: File) -> Result<Self, Error> {
        let weights = Weights::load(&file)?;
        let tokenizer = load_tokenizer(&file)?;
        if tokenizer.len() != weights.shape.vocab {
            let problem = format!(
                "key tokenizer.ggml.tokens: expected deepseek4.vocab_size {} tokens, found {}",
                weights.shape.vocab,
                tokenizer.len()
            );
            return Err(Error::Tokenizer { file: file.name().into(), problem });
        }
        let text = |key| file.metadata().str(key).ok().flatten().unwrap_or_default();
        let release = ["general.name", "general.version", "general.finetune", "general.basename"].map(text).join(" ");
        Ok(Self {
            name: file.name().into(),
            file_bytes: file.size(),
            weights,
            tokenizer,
            release,
            fingerprint: fingerprint(&file),
        })
    }

    /// The key of an empty sequence: what shapes the values besides tokens.
    pub(crate) fn root_key(&self, numerics: Numerics) -> Key {
        let modes = [numerics.activations as u8, numerics.rows as u8];
        Key::root(&[self.fingerprint.bytes(), &NUMERICS_ID.to_le_bytes(), &Segment::VERSION.to_le_bytes(), &modes])
    }

    /// Binds a drafting block from a file of its own.
    pub fn add_mtp(&mut self, path: &Path) -> Result<(), Error> {
        let file = File::open(path)?;
        self.weights.mtp = Some(Mtp::load(&self.weights.shape, &file)?);
        Ok(())
    }

    /// Whether the checkpoint is the one of 31 July, which was told other words about effort.
    pub fn is_july_release(&self) -> bool {
        self.release.contains("0731")
    }
}

/// A hash of all metadata, all names and sizes, and the beginnings of some tensors: two files of one model that were
/// quantised otherwise differ there.
fn fingerprint(file: &File) -> Key {
    let tensors = file.tensors();
    let samples: Vec<_> =
        tensors.iter().step_by(tensors.len().div_ceil(SAMPLES).max(1)).map(|t| file.bytes(t)).collect();
    let size = file.size().to_le_bytes();
    let mut parts = vec![file.header(), &size];
    parts.extend(samples.iter().map(|bytes| &bytes[..bytes.len().min(SAMPLE_BYTES)]));
    Key::root(&parts)
}

/// The tokenizer in a file's metadata.
pub fn load_tokenizer(file: &File) -> Result<Tokenizer, Error> {
    let broken = |problem: String| Error::Tokenizer { file: file.name().into(), problem };
    let vocabulary = vocabulary(file.metadata()).map_err(broken)?;
    Tokenizer::new(vocabulary).map_err(|e| broken(e.to_string()))
}

/// The lists under `tokenizer.ggml.*`.
fn vocabulary(metadata: &Metadata) -> Result<Vocabulary, String> {
    let expect = |key: &str, want: &str| match metadata.str(key) {
        Ok(Some(found)) if found == want => Ok(()),
        Ok(Some(found)) => Err(format!("key {key}: expected {want:?}, found {found:?}")),
        Ok(None) => Err(format!("key {key}: expected {want:?}, found nothing")),
        Err(error) => Err(error.to_string()),
    };
    expect("tokenizer.ggml.model", "gpt2")?;
    expect("tokenizer.ggml.pre", "joyai-llm")?;
    let strings = |key: &str| match metadata.strs(key) {
        Ok(Some(list)) => Ok(list.iter().map(String::from).collect()),
        Ok(None) => Err(format!("key {key}: expected a list of strings, found nothing")),
        Err(error) => Err(error.to_string()),
    };
    let types = metadata.i32s("tokenizer.ggml.token_type").map_err(|e| e.to_string())?;
    let types = types.ok_or("key tokenizer.ggml.token_type: expected a list of integers, found nothing")?;
    let typed = types.into_iter().enumerate().map(|(i, t)| {
        let unknown = || format!("key tokenizer.ggml.token_type: expected 1 to 6, found {t} at index {i}");
        TokenType::from_gguf(t.into()).ok_or_else(unknown)
    });
    let id = |key: &str| metadata.u32(key).map_err(|e| e.to_string());
    Ok(Vocabulary {
        tokens: strings("tokenizer.ggml.tokens")?,
        types: typed.collect::<Result<_, _>>()?,
        merges: strings("tokenizer.ggml.merges")?,
        bos: id("tokenizer.ggml.bos_token_id")?.unwrap_or(0),
        eos: id("tokenizer.ggml.eos_token_id")?.unwrap_or(1),
        pad: id("tokenizer.ggml.padding_token_id")?,
    })
}
