//! Making and measuring models.

pub mod bench;
pub mod convert;
pub mod inspect;
pub mod synth;
