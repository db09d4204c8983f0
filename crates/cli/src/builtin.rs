//! The model inside the program.

use ds4_gguf::File;

/// A small model of the same architecture, so that the program answers without a download.
static BYTES: &[u8] = include_bytes!("../../../mini/v4-micro.gguf");

/// Said when it is used.
pub(crate) const NOTICE: &str = "no model file: the built-in V4-micro answers, a toy of 3.7 million parameters \
     (-m FILE, $DS4_MODEL or ./ds4flash.gguf choose a real one)";

/// The built-in model's file.
pub(crate) fn open() -> Result<File, ds4_gguf::Error> {
    File::from_static("built-in V4-micro", BYTES)
}
