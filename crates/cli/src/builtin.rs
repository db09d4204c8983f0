//! The model inside the program.

use ds4_gguf::File;

/// A small model of the same architecture, so that the program answers without a download.
static BYTES: &[u8] = include_bytes!("../../../mini/v4-mini.gguf");

/// What it is called where a file could be named.
pub(crate) const NAME: &str = "mini";

/// Said when it is used.
pub(crate) const NOTICE: &str = "no model file: the built-in V4-mini answers, a toy of 9 million parameters. The real V4 Flash \
     is a file of 87 GB for machines with 96 GB; ds4 pull downloads it, ds4 -m FILE answers with it";

/// The built-in model's file.
pub(crate) fn open() -> Result<File, ds4_gguf::Error> {
    File::from_static("built-in V4-mini", BYTES)
}
