//! How answers are steered: as the server was told, unless a request says otherwise.

use ds4_engine::{Directions, Steering, When};
use serde::Deserialize;
use std::sync::Arc;

use crate::Error;

/// Which tokens are steered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The final text of answers, not their reasoning and calls; where tools are on offer, only once one has been called.
    #[default]
    #[serde(alias = "final", alias = "tool-safe")]
    FinalAnswer,
    /// Answers.
    #[serde(alias = "decode")]
    Decoding,
    /// Prompts and answers.
    Always,
    /// None.
    #[serde(alias = "none")]
    Off,
}

/// How the server steers.
#[derive(Clone, Debug)]
pub struct SteeringConfig {
    /// The directions.
    pub directions: Arc<Directions>,
    /// Scale for the output of the experts.
    pub ffn: f32,
    /// Scale for the output of attention.
    pub attention: f32,
    /// Which tokens.
    pub policy: Policy,
}

/// How a request wants to be steered; what it does not say is as the server was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct SteeringWish {
    policy: Option<Policy>,
    ffn: Option<f32>,
    attn: Option<f32>,
}

/// Largest scale, either way.
const MAX_SCALE: f32 = 100.0;

/// What it comes to for a request whose conversation is a chat with tools on offer that have not been called
/// (`before_tools`) or not.
pub(crate) fn steering(
    config: Option<&SteeringConfig>,
    wish: Option<SteeringWish>,
    before_tools: bool,
) -> Result<Option<Steering>, Error> {
    let wish = wish.unwrap_or_default();
    let scale = |name: &str, wish: Option<f32>| match wish {
        Some(scale) if !(-MAX_SCALE..=MAX_SCALE).contains(&scale) => {
            Err(Error::Invalid(format!("steering.{name}: {scale} is not between -{MAX_SCALE} and {MAX_SCALE}")))
        }
        wish => Ok(wish),
    };
    let (ffn, attention) = (scale("ffn", wish.ffn)?, scale("attn", wish.attn)?);
    let Some(config) = config else {
        let wants = [ffn, attention].into_iter().flatten().any(|scale| scale != 0.0);
        return match wants && wish.policy != Some(Policy::Off) {
            true => {
                Err(Error::Invalid("steering: this server has no directions; start it with --dir-steering-file".into()))
            }
            false => Ok(None),
        };
    };
    let when = match wish.policy.unwrap_or(config.policy) {
        Policy::Off => return Ok(None),
        Policy::FinalAnswer if before_tools => return Ok(None),
        Policy::FinalAnswer => When::Guided,
        Policy::Decoding => When::Decoding,
        Policy::Always => When::Always,
    };
    let (ffn, attention) = (ffn.unwrap_or(config.ffn), attention.unwrap_or(config.attention));
    Ok(Steering { directions: Arc::clone(&config.directions), ffn, attention, when }.effective())
}
