//! The shapes of the published models.

use std::fmt;

use ds4_model::{Shape, Yarn};

/// Whose shapes a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// DeepSeek V4 Flash: 43 layers, 284 billion parameters.
    Flash,
    /// DeepSeek V4 Pro: 61 layers, 1.6 trillion parameters.
    Pro,
}

impl Model {
    /// Routed experts that a token uses, so the least a layer can have.
    pub(super) const EXPERTS_USED: usize = 6;
    /// The most that the loader takes.
    pub(super) const MOST_EXPERTS: usize = 1 << 16;

    /// Decoder layers.
    pub fn layers(self) -> usize {
        match self {
            Self::Flash => 43,
            Self::Pro => 61,
        }
    }

    /// Routed experts of a layer.
    pub fn experts(self) -> usize {
        match self {
            Self::Flash => 256,
            Self::Pro => 384,
        }
    }

    /// As file names have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Flash => "flash",
            Self::Pro => "pro",
        }
    }

    /// Sizes and constants with the first `layers` layers and `experts` routed experts in each, as the models'
    /// `config.json` has them.
    pub fn shape(self, layers: usize, experts: usize) -> Shape {
        let flash = matches!(self, Self::Flash);
        let size = |of_flash, of_pro| if flash { of_flash } else { of_pro };
        Shape {
            name: format!("DeepSeek V4 {self}"),
            context_length: 1 << 20,
            hidden: size(4096, 7168),
            vocab: 129_280,
            heads: size(64, 128),
            head_dim: 512,
            rope_dim: 64,
            q_rank: size(1024, 1536),
            out_groups: size(8, 16),
            out_rank: 1024,
            window: 128,
            ratios: (0..layers).map(|i| self.ratio(i)).collect(),
            index_heads: 64,
            index_dim: 128,
            index_top_k: size(512, 1024),
            experts,
            experts_used: Self::EXPERTS_USED,
            expert_ff: size(2048, 3072),
            hash_layers: layers.min(3),
            expert_scale: if flash { 1.5 } else { 2.5 },
            swiglu_clamp: vec![10.0; layers],
            sinkhorn_iterations: 20,
            hc_eps: 1e-6,
            rms_eps: 1e-6,
            rope_base: 10_000.0,
            compress_rope_base: 160_000.0,
            yarn: Yarn { factor: 16.0, original_context: 65_536, beta_fast: 32.0, beta_slow: 1.0 },
            mtp_blocks: 0,
        }
    }

    /// Compression ratio of layer `i`: even 4, odd 128, except that the first two see only their window (Flash) or are
    /// both 128 (Pro).
    fn ratio(self, i: usize) -> usize {
        match (self, i) {
            (Self::Flash, 0 | 1) => 0,
            (Self::Pro, 0) => 128,
            _ if i.is_multiple_of(2) => 4,
            _ => 128,
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flash => "Flash",
            Self::Pro => "Pro",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_each_kind_are_those_published() {
        let count = |model: Model, ratio| {
            let ratios = model.shape(model.layers(), 256).ratios;
            ratios.iter().filter(|&&r| r == ratio).count()
        };
        assert_eq!([0, 4, 128].map(|r| count(Model::Flash, r)), [2, 21, 20]);
        assert_eq!([0, 4, 128].map(|r| count(Model::Pro, r)), [0, 30, 31]);
        assert_eq!(Model::Pro.shape(5, 384).ratios, [128, 128, 4, 128, 4]);
    }
}
