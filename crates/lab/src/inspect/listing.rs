//! Every tensor, every metadata key.

use ds4_gguf::{Array, File, Value};

use super::text;

/// Elements of an array that are shown.
const SHOWN: usize = 8;
/// Characters of a string that are shown, alone and in an array.
const CHARS: usize = 100;
const CHARS_IN_ARRAY: usize = 24;

/// One line for each tensor in file order: name, shape (row length first), format, bytes, offset in the file.
pub fn tensors(file: &File) -> String {
    let mut rows = vec![["tensor", "shape", "format", "bytes", "offset"].map(String::from).to_vec()];
    for tensor in file.tensors() {
        let shape: Vec<String> = tensor.dims.iter().map(u64::to_string).collect();
        rows.push(vec![
            text::printable(&tensor.name, CHARS),
            shape.join(" x "),
            tensor.format.to_string(),
            text::grouped(tensor.len),
            text::grouped(tensor.offset),
        ]);
    }
    text::columns(&rows, &[3, 4])
}

/// One line for each metadata key in file order: key, type, value; long arrays and strings are cut.
pub fn metadata(file: &File) -> String {
    let mut rows = vec![["key", "type", "value"].map(String::from).to_vec()];
    for (key, value) in file.metadata().iter() {
        rows.push(vec![text::printable(key, CHARS), value.type_name(), shown(value)]);
    }
    text::columns(&rows, &[])
}

fn shown(value: &Value) -> String {
    match value {
        Value::U8(v) => v.to_string(),
        Value::I8(v) => v.to_string(),
        Value::U16(v) => v.to_string(),
        Value::I16(v) => v.to_string(),
        Value::U32(v) => v.to_string(),
        Value::I32(v) => v.to_string(),
        Value::U64(v) => v.to_string(),
        Value::I64(v) => v.to_string(),
        Value::F32(v) => format!("{v:?}"),
        Value::F64(v) => format!("{v:?}"),
        Value::Bool(v) => v.to_string(),
        Value::String(v) => text::printable(v, CHARS),
        Value::Array(v) => shown_array(v),
    }
}

fn shown_array(array: &Array) -> String {
    fn list<T>(values: &[T], show: impl Fn(&T) -> String) -> Vec<String> {
        values.iter().take(SHOWN).map(show).collect()
    }
    let mut first = match array {
        Array::U8(v) => list(v, u8::to_string),
        Array::I8(v) => list(v, i8::to_string),
        Array::U16(v) => list(v, u16::to_string),
        Array::I16(v) => list(v, i16::to_string),
        Array::U32(v) => list(v, u32::to_string),
        Array::I32(v) => list(v, i32::to_string),
        Array::U64(v) => list(v, u64::to_string),
        Array::I64(v) => list(v, i64::to_string),
        Array::F32(v) => list(v, |x| format!("{x:?}")),
        Array::F64(v) => list(v, |x| format!("{x:?}")),
        Array::Bool(v) => list(v, bool::to_string),
        Array::String(v) => v.iter().take(SHOWN).map(quoted).collect(),
        Array::Array(v) => list(v, shown_array), // at most four deep
    };
    if array.len() > SHOWN {
        first.push(format!("… {} in all", text::grouped(array.len() as u64)));
    }
    format!("[{}]", first.join(", "))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text::printable(text, CHARS_IN_ARRAY).replace('"', "\\\""))
}
