//! Synthetic models: files with the real shapes of every layer and valid random blocks, for measuring speed and for
//! tests that need no download.
//!
//! Every payload byte is a function of the tensor's name, its place and the seed, so a file of any size is made in
//! pieces, in parallel, and comes out the same on every machine. Gains keep activations finite through all layers; what
//! such a model says is noise.
//!
//! - `model.rs`: the shapes of V4 Flash and V4 Pro
//! - `tensors.rs`: the list of tensors that follows from a shape
//! - `header.rs`: the metadata
//! - `random.rs`: the stream of random words
//! - `payload.rs`: from words to valid blocks
//! - `output.rs`: writing, on all cores

mod error;
mod header;
mod model;
mod output;
mod payload;
mod random;
mod tensors;

use std::path::Path;

use ds4_model::Shape;
use ds4_tokenizer::Vocabulary;

pub use error::Error;
pub use model::Model;
pub use payload::{Content, Tensor};
pub use tensors::{Recipe, tensors};

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whose shapes.
    pub model: Model,
    /// Formats of the routed experts.
    pub recipe: Recipe,
    /// Decoder layers, the first ones of the model: 1 to [`Model::layers`].
    pub layers: usize,
    /// Routed experts of a layer: [`Model::experts`] unless the file is to be smaller.
    pub experts: usize,
    /// Another seed gives other weights.
    pub seed: u64,
    /// Replace an existing file.
    pub overwrite: bool,
}

impl Options {
    /// Five layers with all experts: every kind of layer in a file of a few gigabytes.
    pub fn new(model: Model, recipe: Recipe) -> Self {
        Self { model, recipe, layers: 5, experts: model.experts(), seed: 1, overwrite: false }
    }

    /// Checks the numbers and gives the shape a name that says what is in the file.
    ///
    /// # Errors
    /// Layers or experts that no such model can have.
    pub fn plan(&self) -> Result<Plan, Error> {
        let limits = [
            ("layers", self.layers, 1, self.model.layers()),
            ("experts", self.experts, Model::EXPERTS_USED, Model::MOST_EXPERTS),
        ];
        for (option, found, least, most) in limits {
            if !(least..=most).contains(&found) {
                return Err(Error::Option { option, found, least, most, model: self.model });
            }
        }
        let mut shape = self.model.shape(self.layers, self.experts);
        let recipe = match self.recipe {
            Recipe::Q2 => "",
            Recipe::Q4 => "-q4",
        };
        let Options { layers, experts, seed, .. } = self;
        shape.name = format!("synthetic-v4-{}{recipe}-{layers}L-{experts}E-s{seed}", self.model.name());
        Ok(Plan { shape, recipe: self.recipe, seed: self.seed })
    }
}

/// All that a file's bytes depend on, beside the vocabulary. The shape may be any that the loader takes and whose
/// hidden and expert widths are multiples of 256, the largest block.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Sizes, constants and name.
    pub shape: Shape,
    /// Formats of the routed experts.
    pub recipe: Recipe,
    /// Another seed gives other weights.
    pub seed: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Number of tensors.
    pub tensors: usize,
    /// Size of the file.
    pub bytes: u64,
}

/// Writes the model that `options` describe to `out`, by way of `out` + `.part`. `vocabulary` must be V4's. `progress`
/// hears (bytes done, bytes in all) every few megabytes.
///
/// # Errors
/// Options out of range, a vocabulary of another size, an `out` that exists, and what the disk refuses; the unfinished
/// file is removed then.
pub fn write(
    options: &Options,
    vocabulary: &Vocabulary,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary, Error> {
    options.plan()?.write(vocabulary, out, options.overwrite, progress)
}
