//! The flags of directional steering.

use std::path::PathBuf;
use std::sync::Arc;

use ds4_engine::{Directions, Model, Steering, When};

use crate::failure::Failure;

/// Where the directions are, and how much of them is taken out.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Directional steering")]
pub(crate) struct SteeringFlags {
    /// Directions that answers are steered along: one for each layer, little-endian f32 without a header
    #[arg(long, value_name = "FILE")]
    dir_steering_file: Option<PathBuf>,

    /// Scale for the output of the experts, -100 to 100: above 0 takes the direction out, below 0 amplifies it [default: 1
    /// if there is a file and no other scale]
    #[arg(long, value_name = "F", value_parser = scale, allow_negative_numbers = true)]
    dir_steering_ffn: Option<f32>,

    /// Scale for the output of attention [default: 0]
    #[arg(long, value_name = "F", value_parser = scale, allow_negative_numbers = true)]
    dir_steering_attn: Option<f32>,
}

fn scale(text: &str) -> Result<f32, String> {
    crate::args::float(text, -100.0, 100.0)
}

impl SteeringFlags {
    /// Steering of every token with a file's directions, checked against the model; none without a file.
    pub(crate) fn open(&self, model: &Model) -> Result<Option<Steering>, Failure> {
        let scales = (self.dir_steering_ffn, self.dir_steering_attn);
        let Some(file) = &self.dir_steering_file else {
            let wanted = [scales.0, scales.1].into_iter().flatten().any(|scale| scale != 0.0);
            return if wanted {
                Err("directional steering needs --dir-steering-file".to_owned().into())
            } else {
                Ok(None)
            };
        };
        let (ffn, attention) = match scales {
            (None, None) => (1.0, 0.0),
            (ffn, attention) => (ffn.unwrap_or(0.0), attention.unwrap_or(0.0)),
        };
        let directions = Arc::new(Directions::open(file, &model.weights.shape)?);
        Ok(Some(Steering { directions, ffn, attention, when: When::Always }))
    }
}
