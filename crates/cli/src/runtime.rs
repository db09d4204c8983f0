//! The flags that say which model runs and how: the same for every way to run it.

use std::path::PathBuf;

use crate::args::{margin, positive, threads};
use crate::failure::Failure;

/// Model and runtime flags.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Model and runtime")]
pub(crate) struct Runtime {
    /// GGUF model file, a name of ds4 models, or mini, the small model built into this program. Without it: $DS4_MODEL,
    /// ./ds4flash.gguf, what ds4 pull has linked, or mini
    #[arg(short, long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,

    /// Drafting (MTP) weights; they are checked, but drafting is not built yet, so the answer is that of the model alone
    #[arg(long, value_name = "FILE")]
    pub(crate) mtp: Option<PathBuf>,

    /// Tokens to draft per step, at most 16
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    pub(crate) mtp_draft: usize,

    /// Logit margin for accepting a draft, 0 to 1000
    #[arg(long, value_name = "F", default_value_t = 3.0, value_parser = margin)]
    pub(crate) mtp_margin: f32,

    /// Context: tokens that a conversation can hold
    #[arg(short, long, value_name = "N", default_value_t = 32768, value_parser = positive)]
    pub(crate) ctx: usize,

    /// Threads that compute [default: $DS4_THREADS, or all processors]
    #[arg(short, long, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,

    /// Exact products with f32 activations instead of fast 8-bit ones
    #[arg(long)]
    pub(crate) quality: bool,

    /// Read the whole model into memory before the first token
    #[arg(long)]
    pub(crate) warm_weights: bool,

    /// Run a model that is larger than memory, reading weights from the disk again and again
    #[arg(long)]
    pub(crate) allow_oversubscribe: bool,

    /// Where to compute; this build has only the CPU
    #[arg(long, value_name = "NAME", value_parser = ["cpu", "metal", "cuda"])]
    backend: Option<String>,
    /// Same as --backend cpu
    #[arg(long)]
    cpu: bool,
    /// Same as --backend metal
    #[arg(long)]
    metal: bool,
    /// Same as --backend cuda
    #[arg(long)]
    cuda: bool,
}

impl Runtime {
    /// Refuses backends that this build does not have.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let gpu = match self.backend.as_deref() {
            Some(name @ ("metal" | "cuda")) => Some(name),
            _ if self.metal => Some("metal"),
            _ if self.cuda => Some("cuda"),
            _ => None,
        };
        match gpu {
            Some(name) => {
                let message =
                    format!("this build has no {name} backend, only the CPU; drop --{name} or --backend {name}");
                Err(Failure::usage(message))
            }
            None => Ok(()),
        }
    }
}
