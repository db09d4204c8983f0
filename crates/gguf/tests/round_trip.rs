//! What the writer writes, the reader reads; and the bytes in between.

use ds4_gguf::{Array, Error, File, Format, Header, Value, Writer};

/// A small file spelled out byte by byte.
#[test]
fn golden_bytes() {
    let mut header = Header::new();
    header.str("general.architecture", "deepseek4");
    header.i32s("ratios", vec![0, -4]);
    header.bool("norm", true);
    header.tensor("a", &[2, 3], Format::F16).tensor("bias", &[1], Format::F32);
    let mut writer = Writer::begin("golden.gguf", Vec::new(), &header).unwrap();
    writer.tensor("a", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]).unwrap();
    writer.tensor("bias", &1f32.to_le_bytes()).unwrap();
    let bytes = writer.finish().unwrap();

    let golden: &[&[u8]] = &[
        b"GGUF\x03\0\0\0",
        b"\x02\0\0\0\0\0\0\0", // two tensors
        b"\x03\0\0\0\0\0\0\0", // three metadata entries
        b"\x14\0\0\0\0\0\0\0general.architecture\x08\0\0\0\x09\0\0\0\0\0\0\0deepseek4",
        b"\x06\0\0\0\0\0\0\0ratios\x09\0\0\0\x05\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\xfc\xff\xff\xff",
        b"\x04\0\0\0\0\0\0\0norm\x07\0\0\0\x01",
        b"\x01\0\0\0\0\0\0\0a\x02\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0",
        b"\x04\0\0\0\0\0\0\0bias\x01\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\0",
        &[0; 19], // the header is 205 bytes long, the data section starts at 224
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
        &[0; 20],
        &[0, 0, 0x80, 0x3f],
        &[0; 28], // the last payload is padded too
    ];
    assert_eq!(bytes, golden.concat());
    assert_eq!(bytes.len(), 224 + 64);
}

#[test]
fn every_metadata_type_survives() {
    let nested = Array::Array(vec![
        Array::Array(vec![Array::Array(vec![Array::U8(vec![1]), Array::U8(vec![])])]),
        Array::String(["x"].iter().collect()),
    ]);
    let values = [
        Value::U8(u8::MAX),
        Value::I8(i8::MIN),
        Value::U16(u16::MAX),
        Value::I16(i16::MIN),
        Value::U32(u32::MAX),
        Value::I32(i32::MIN),
        Value::U64(u64::MAX),
        Value::I64(i64::MIN),
        Value::F32(1e-6),
        Value::F64(-0.1),
        Value::Bool(true),
        Value::Bool(false),
        Value::String("｜User｜ \0\n".into()),
        Value::String(String::new()),
        Value::Array(Array::U8(vec![1, 2])),
        Value::Array(Array::I8(vec![-1])),
        Value::Array(Array::U16(vec![1 << 15])),
        Value::Array(Array::I16(vec![-2])),
        Value::Array(Array::U32(vec![1 << 31])),
        Value::Array(Array::I32(vec![0, 0, 4, 128])),
        Value::Array(Array::U64(vec![1 << 63])),
        Value::Array(Array::I64(vec![-3])),
        Value::Array(Array::F32(vec![10.0; 43])),
        Value::Array(Array::F64(vec![0.5])),
        Value::Array(Array::Bool(vec![true, false])),
        Value::Array(Array::String(["Ġa b", ""].iter().collect())),
        Value::Array(Array::U32(vec![])),
        Value::Array(nested),
    ];
    let mut header = Header::new();
    for (i, value) in values.iter().enumerate() {
        header.value(&format!("key.{i}"), value.clone());
    }
    let bytes = Writer::begin("m.gguf", Vec::new(), &header).unwrap().finish().unwrap();
    let file = File::from_bytes("m.gguf", bytes).unwrap();
    assert_eq!(file.metadata().len(), values.len());
    for (i, ((key, found), value)) in file.metadata().iter().zip(&values).enumerate() {
        assert_eq!((key, found), (format!("key.{i}").as_str(), value));
        assert_eq!(file.metadata().get(key), Some(value));
    }
    assert!(file.tensors().is_empty());
}

#[test]
fn typed_helpers_and_getters_are_each_others_mirror() {
    let mut header = Header::new();
    header.u32("u32", 43).u64("u64", 1 << 50).f32("f32", 1.5).bool("bool", true).str("str", "yarn");
    header.u32s("u32s", vec![1, 2]).i32s("i32s", vec![-1]).f32s("f32s", vec![10.0]).strs("strs", ["a b"]);
    let bytes = Writer::begin("m.gguf", Vec::new(), &header).unwrap().finish().unwrap();
    let file = File::from_bytes("m.gguf", bytes).unwrap();
    let m = file.metadata();
    assert_eq!(m.u32("u32").unwrap(), Some(43));
    assert_eq!(m.u64("u64").unwrap(), Some(1 << 50));
    assert_eq!(m.f32("f32").unwrap(), Some(1.5));
    assert_eq!(m.bool("bool").unwrap(), Some(true));
    assert_eq!(m.str("str").unwrap(), Some("yarn"));
    assert_eq!(m.u32s("u32s").unwrap(), Some(vec![1, 2]));
    assert_eq!(m.i32s("i32s").unwrap(), Some(vec![-1]));
    assert_eq!(m.f32s("f32s").unwrap(), Some(vec![10.0]));
    assert_eq!(m.strs("strs").unwrap(), Some(&["a b"].iter().collect()));
}

/// Tensors of many formats and shapes, under every alignment.
#[test]
fn tensors_survive_at_any_alignment() {
    let tensors: [(&str, &[u64], Format); 6] = [
        ("experts", &[256, 3, 2], Format::IQ2_XXS),
        ("odd", &[3], Format::F16),
        ("q8", &[64, 5], Format::Q8_0),
        ("one", &[1, 1, 1, 1], Format::F32),
        ("foreign", &[256], Format::Other(14)),
        ("tid2eid", &[6, 7], Format::I32),
    ];
    for alignment in [1, 2, 8, 32, 64, 4096, 65536] {
        let mut header = Header::new();
        header.u32("general.alignment", alignment);
        for (name, dims, format) in tensors {
            header.tensor(name, dims, format);
        }
        let mut writer = Writer::begin("t.gguf", Vec::new(), &header).unwrap();
        let directory = writer.tensors().to_vec();
        for (i, tensor) in directory.iter().enumerate() {
            writer.start(&tensor.name).unwrap();
            let payload = vec![i as u8 + 1; tensor.len as usize];
            payload.chunks(7).for_each(|piece| writer.write(piece).unwrap());
        }
        let bytes = writer.finish().unwrap();
        assert!(bytes.len().is_multiple_of(alignment as usize));

        let file = File::from_bytes("t.gguf", bytes).unwrap();
        assert_eq!(file.tensors(), directory);
        for (i, (tensor, (name, dims, format))) in file.tensors().iter().zip(tensors).enumerate() {
            assert_eq!((tensor.name.as_str(), tensor.dims.as_slice(), tensor.format), (name, dims, format));
            assert_eq!(tensor.len, format.row_bytes(tensor.cols()).unwrap() * tensor.rows());
            assert_eq!(tensor.offset % u64::from(alignment), 0);
            assert_eq!(file.tensor(name), Some(tensor));
            assert_eq!(*file.bytes(tensor), vec![i as u8 + 1; tensor.len as usize]);
        }
        assert_eq!(file.tensor("absent"), None);
    }
}

/// The writer refuses what the reader would refuse, in the same words, before it writes anything.
#[test]
fn bad_headers_are_refused() {
    let check = |header: &Header, text: &str| {
        let mut out = Vec::new();
        let error = Writer::begin("x.gguf", &mut out, header).err().expect("refused");
        assert_eq!(error.to_string(), format!("x.gguf: {text}"));
        assert!(out.is_empty());
    };
    let header = Header::new;
    check(header().u32("k", 1).u32("k", 2), "key k: appears twice");
    let text = "key general.alignment: expected a power of two from 1 to 65536, found 24";
    check(header().u32("general.alignment", 24), text);
    check(header().str("general.alignment", "32"), "key general.alignment: expected u32, found string");
    let deep = (0..4).fold(Array::U8(vec![]), |inner, _| Array::Array(vec![inner]));
    let text = "key k: element 0: element 0: element 0: element 0: holds arrays more than 4 deep";
    check(header().value("k", Value::Array(deep)), text);

    check(header().tensor("t", &[4], Format::F32).tensor("t", &[4], Format::F32), "tensor t: appears twice");
    let text = "tensor t: row length 100 is not a multiple of 256, the block of Q2_K";
    check(header().tensor("t", &[100], Format::Q2_K), text);
    let text = "tensor t: type 5 is not a tensor format that this program knows";
    check(header().tensor("t", &[1], Format::Other(5)), text);
    check(header().tensor("t", &[], Format::F32), "tensor t: expected 1 to 4 dimensions, found 0");
}

#[test]
fn bad_payloads_are_refused() {
    let mut header = Header::new();
    header.tensor("a", &[2], Format::F32).tensor("b", &[1], Format::F32);
    let begin = || Writer::begin("x.gguf", Vec::new(), &header).unwrap();
    let check = |result: Result<(), Error>, text: &str| {
        assert_eq!(result.unwrap_err().to_string(), format!("x.gguf: {text}"));
    };

    check(begin().write(&[0]), "payload: no tensor was started");
    check(begin().start("b"), "tensor b: expected tensor a next");
    check(begin().tensor("a", &[0; 9]), "tensor a: 9 more bytes, expected at most 8 of 8");
    check(begin().tensor("a", &[0; 7]), "tensor a: expected 8 bytes, found 7");
    check(begin().finish().map(drop), "tensor a: declared but not written");

    let mut writer = begin();
    writer.start("a").unwrap();
    writer.write(&[0; 5]).unwrap();
    check(writer.write(&[0; 4]), "tensor a: 4 more bytes, expected at most 3 of 8");
    check(writer.start("b"), "tensor a: expected 8 bytes, found 5");
    writer.write(&[0; 3]).unwrap();
    writer.tensor("b", &[0; 4]).unwrap();
    check(writer.start("c"), "tensor c: all declared tensors are written");

    let mut writer = begin();
    writer.tensor("a", &[0; 8]).unwrap();
    check(writer.finish().map(drop), "tensor b: declared but not written");
}
