//! Making and measuring models.

pub mod convert;
pub mod inspect;
pub mod synth;
