//! Which tensor family gets which element format.

use ds4_gguf::Format;

use super::names::Family;

/// Element format per family; vectors are F32 and tables I32 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Token embedding.
    pub embedding: Format,
    /// Output matrix.
    pub output: Format,
    /// Query, key/value and output projections.
    pub attention: Format,
    /// Compressor and indexer.
    pub compressor: Format,
    /// Shared experts.
    pub shared: Format,
    /// Routed experts.
    pub experts: Format,
    /// Router, hyper-connections, position biases: F32, F16 or BF16.
    pub small: Format,
}

impl Recipe {
    /// As the published Flash files, with Q8_0 experts.
    pub const Q8_0: Self = Self {
        embedding: Format::F16,
        output: Format::Q8_0,
        attention: Format::Q8_0,
        compressor: Format::F16,
        shared: Format::Q8_0,
        experts: Format::Q8_0,
        small: Format::F16,
    };

    /// One format for everything that may have it; families that stay floats get F16 beside a quantised format.
    pub fn uniform(format: Format) -> Self {
        if format == Format::Q8_0 {
            return Self::Q8_0;
        }
        let [embedding, output, attention, compressor, shared, experts, small] = [format; 7];
        Self { embedding, output, attention, compressor, shared, experts, small }
    }

    /// The format of a family.
    pub fn format(&self, family: Family) -> Format {
        match family {
            Family::Embedding => self.embedding,
            Family::Output => self.output,
            Family::Attention => self.attention,
            Family::Compressor => self.compressor,
            Family::Shared => self.shared,
            Family::Experts => self.experts,
            Family::Small => self.small,
            Family::Vector => Format::F32,
            Family::Table => Format::I32,
        }
    }

    /// `general.file_type`: what most weights are (ggml's numbering).
    pub fn file_type(&self) -> u32 {
        match self.experts {
            Format::F32 => 0,
            Format::F16 => 1,
            Format::BF16 => 32,
            _ => 7,
        }
    }
}
