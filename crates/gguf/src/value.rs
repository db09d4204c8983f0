//! Metadata: an ordered list of keys with typed values.

use std::collections::HashMap;

use crate::error::printable;
use crate::{Error, Strings};

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are named after their types")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// An array value: all elements have one type, kept as compactly as that type allows.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are named after their element types")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Strings),
    /// Arrays of arrays, at most four deep counting the outermost.
    Array(Vec<Array>),
}

/// The type numbers of the file format.
pub(crate) mod type_id {
    pub(crate) const U8: u32 = 0;
    pub(crate) const I8: u32 = 1;
    pub(crate) const U16: u32 = 2;
    pub(crate) const I16: u32 = 3;
    pub(crate) const U32: u32 = 4;
    pub(crate) const I32: u32 = 5;
    pub(crate) const F32: u32 = 6;
    pub(crate) const BOOL: u32 = 7;
    pub(crate) const STRING: u32 = 8;
    pub(crate) const ARRAY: u32 = 9;
    pub(crate) const U64: u32 = 10;
    pub(crate) const I64: u32 = 11;
    pub(crate) const F64: u32 = 12;
}

/// How messages call type number `id`.
fn type_name(id: u32) -> &'static str {
    const NAMES: [&str; 13] =
        ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"];
    NAMES.get(id as usize).copied().unwrap_or("unknown")
}

impl Value {
    /// The type's name for messages: `u32`, `string`, `array of i32`, ...
    pub fn type_name(&self) -> String {
        match self {
            Value::Array(array) => format!("array of {}", type_name(array.type_id())),
            value => type_name(value.type_id()).to_string(),
        }
    }

    pub(crate) fn type_id(&self) -> u32 {
        match self {
            Value::U8(_) => type_id::U8,
            Value::I8(_) => type_id::I8,
            Value::U16(_) => type_id::U16,
            Value::I16(_) => type_id::I16,
            Value::U32(_) => type_id::U32,
            Value::I32(_) => type_id::I32,
            Value::U64(_) => type_id::U64,
            Value::I64(_) => type_id::I64,
            Value::F32(_) => type_id::F32,
            Value::F64(_) => type_id::F64,
            Value::Bool(_) => type_id::BOOL,
            Value::String(_) => type_id::STRING,
            Value::Array(_) => type_id::ARRAY,
        }
    }

    /// The value of any integer type.
    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }
}

impl Array {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::F64(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::String(v) => v.len(),
            Array::Array(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn type_id(&self) -> u32 {
        match self {
            Array::U8(_) => type_id::U8,
            Array::I8(_) => type_id::I8,
            Array::U16(_) => type_id::U16,
            Array::I16(_) => type_id::I16,
            Array::U32(_) => type_id::U32,
            Array::I32(_) => type_id::I32,
            Array::U64(_) => type_id::U64,
            Array::I64(_) => type_id::I64,
            Array::F32(_) => type_id::F32,
            Array::F64(_) => type_id::F64,
            Array::Bool(_) => type_id::BOOL,
            Array::String(_) => type_id::STRING,
            Array::Array(_) => type_id::ARRAY,
        }
    }

    /// Element `i` of an array of any integer type.
    fn integer(&self, i: usize) -> Option<i128> {
        Some(match self {
            Array::U8(v) => v[i].into(),
            Array::I8(v) => v[i].into(),
            Array::U16(v) => v[i].into(),
            Array::I16(v) => v[i].into(),
            Array::U32(v) => v[i].into(),
            Array::I32(v) => v[i].into(),
            Array::U64(v) => v[i].into(),
            Array::I64(v) => v[i].into(),
            _ => return None,
        })
    }
}

/// A file's metadata, in file order. Keys are unique.
///
/// The typed getters answer `Ok(None)` when the key is absent and [`Error::KeyType`] when it holds something else.
/// Integer getters take any integer type whose value fits, float getters take `f32` and `f64`.
#[derive(Clone, Debug)]
pub struct Metadata {
    file: String,
    entries: Vec<(String, Value)>,
    /// Position in `entries`.
    index: HashMap<String, usize>,
}

impl Metadata {
    pub(crate) fn new(file: &str) -> Metadata {
        Metadata { file: file.to_string(), entries: Vec::new(), index: HashMap::new() }
    }

    /// The file's path or given name, for messages.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// Appends an entry; false if the key is there already.
    pub(crate) fn push(&mut self, key: String, value: Value) -> bool {
        let new = self.index.insert(key.clone(), self.entries.len()).is_none();
        self.entries.push((key, value));
        new
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&i| &self.entries[i].1)
    }

    /// An integer from 0 to 2^32 - 1.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        self.integer(key, "u32")
    }

    /// A non-negative integer.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.integer(key, "u64")
    }

    /// An integer from -2^31 to 2^31 - 1.
    pub fn i32(&self, key: &str) -> Result<Option<i32>, Error> {
        self.integer(key, "i32")
    }

    /// A float; `f64` is rounded to `f32`.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.typed(key, "f32", |value| match *value {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        })
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "bool", |value| if let Value::Bool(v) = value { Some(*v) } else { None })
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "string", |value| if let Value::String(v) = value { Some(v.as_str()) } else { None })
    }

    /// An array of integers from 0 to 2^32 - 1.
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>, Error> {
        self.integers(key, "array of u32")
    }

    /// An array of integers from -2^31 to 2^31 - 1.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, Error> {
        self.integers(key, "array of i32")
    }

    /// An array of floats; `f64` is rounded to `f32`.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>, Error> {
        self.typed(key, "array of f32", |value| match value {
            Value::Array(Array::F32(v)) => Some(v.clone()),
            Value::Array(Array::F64(v)) => Some(v.iter().map(|&x| x as f32).collect()),
            _ => None,
        })
    }

    /// An array of strings.
    pub fn strs(&self, key: &str) -> Result<Option<&Strings>, Error> {
        self.typed(key, "array of string", |value| match value {
            Value::Array(Array::String(v)) => Some(v),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        view: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        view(value).map(Some).ok_or_else(|| self.key_type(key, expected, value.type_name()))
    }

    fn integer<T: TryFrom<i128>>(&self, key: &str, expected: &'static str) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let found = match value.integer() {
            Some(v) => match T::try_from(v) {
                Ok(v) => return Ok(Some(v)),
                Err(_) => format!("{} {v}", value.type_name()),
            },
            None => value.type_name(),
        };
        Err(self.key_type(key, expected, found))
    }

    fn integers<T: TryFrom<i128>>(&self, key: &str, expected: &'static str) -> Result<Option<Vec<T>>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = |found| self.key_type(key, expected, found);
        let Value::Array(array) = value else { return Err(wrong(value.type_name())) };
        let element = |i| {
            let v = array.integer(i).ok_or_else(|| wrong(value.type_name()))?;
            T::try_from(v).map_err(|_| wrong(format!("{} with element {i} = {v}", value.type_name())))
        };
        (0..array.len()).map(element).collect::<Result<_, _>>().map(Some)
    }

    fn key_type(&self, key: &str, expected: &'static str, found: String) -> Error {
        Error::KeyType { file: printable(&self.file), key: printable(key), expected, found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        let mut m = Metadata::new("model.gguf");
        for (key, value) in [
            ("small", Value::U8(7)),
            ("large", Value::U64(1 << 40)),
            ("negative", Value::I32(-1)),
            ("half", Value::F64(0.5)),
            ("name", Value::String("Flash".into())),
            ("ratios", Value::Array(Array::I32(vec![0, 4, 128]))),
            ("signed", Value::Array(Array::I64(vec![0, -4]))),
            ("clamp", Value::Array(Array::F64(vec![10.0]))),
        ] {
            assert!(m.push(key.into(), value));
        }
        m
    }

    #[test]
    fn numbers_are_converted_when_they_fit() {
        let m = metadata();
        assert_eq!(m.u32("small").unwrap(), Some(7));
        assert_eq!(m.u64("large").unwrap(), Some(1 << 40));
        assert_eq!(m.i32("negative").unwrap(), Some(-1));
        assert_eq!(m.f32("half").unwrap(), Some(0.5));
        assert_eq!(m.u32s("ratios").unwrap(), Some(vec![0, 4, 128]));
        assert_eq!(m.i32s("signed").unwrap(), Some(vec![0, -4]));
        assert_eq!(m.f32s("clamp").unwrap(), Some(vec![10.0]));
        assert_eq!(m.u32("absent").unwrap(), None);
        assert_eq!(m.strs("absent").unwrap(), None);
    }

    #[test]
    fn other_types_are_named() {
        let m = metadata();
        let message = |e: Error| e.to_string();
        for (error, text) in [
            (m.u32("name").map(drop), "key name: expected u32, found string"),
            (m.u32("negative").map(drop), "key negative: expected u32, found i32 -1"),
            (m.u32("large").map(drop), "key large: expected u32, found u64 1099511627776"),
            (m.u32("half").map(drop), "key half: expected u32, found f64"),
            (m.f32("small").map(drop), "key small: expected f32, found u8"),
            (m.bool("small").map(drop), "key small: expected bool, found u8"),
            (m.str("ratios").map(drop), "key ratios: expected string, found array of i32"),
            (m.strs("ratios").map(drop), "key ratios: expected array of string, found array of i32"),
            (m.f32s("ratios").map(drop), "key ratios: expected array of f32, found array of i32"),
            (m.u32s("clamp").map(drop), "key clamp: expected array of u32, found array of f64"),
            (m.u32s("signed").map(drop), "key signed: expected array of u32, found array of i64 with element 1 = -4"),
            (m.u32s("small").map(drop), "key small: expected array of u32, found u8"),
        ] {
            assert_eq!(message(error.unwrap_err()), format!("model.gguf: {text}"));
        }
    }

    #[test]
    fn order_is_kept_and_keys_are_unique() {
        let mut m = metadata();
        let keys: Vec<&str> = m.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["small", "large", "negative", "half", "name", "ratios", "signed", "clamp"]);
        assert!(!m.push("small".into(), Value::Bool(true)));
    }
}
