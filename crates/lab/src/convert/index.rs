//! `model.safetensors.index.json`: which file of a sharded checkpoint holds which tensor.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use ds4_gguf::printable;
use serde::Deserialize;

/// The index's name.
pub(super) const FILE: &str = "model.safetensors.index.json";

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// File name by tensor name. The names are those of files in the same folder, nowhere else.
///
/// # Errors
/// What is wrong, in one line.
pub fn parse_index(json: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let index: Index = serde_json::from_slice(json).map_err(|e| printable(&e.to_string()))?;
    for (tensor, file) in &index.weight_map {
        let mut parts = Path::new(file).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(name)), None) if name == file.as_str()) {
            let (tensor, file) = (printable(tensor), printable(file));
            return Err(format!("tensor {tensor}: expected the name of a file in this folder, found {file:?}"));
        }
    }
    match index.weight_map.is_empty() {
        true => Err("weight_map lists no tensors".into()),
        false => Ok(index.weight_map),
    }
}
