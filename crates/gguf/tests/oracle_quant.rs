//! Block formats against vectors made by the independent NumPy code of the PyPI package `gguf`, and the 8-bit floats
//! against PyTorch's. Bit for bit.

use ds4_gguf::Format;
use ds4_gguf::blocks::{self, float, iq2_xxs, q2_k, q4_k};
use safetensors::SafeTensors;

/// The fixture's file, or None after a line that says why.
fn vectors() -> Option<Vec<u8>> {
    let dir = ds4_testkit::oracle("quant")?;
    Some(std::fs::read(dir.join("quant.safetensors")).expect("the fixture is whole"))
}

fn bytes<'a>(vectors: &'a SafeTensors, key: &str) -> &'a [u8] {
    vectors.tensor(key).expect("the fixture has every key").data()
}

fn floats(vectors: &SafeTensors, key: &str) -> Vec<f32> {
    bytes(vectors, key).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Equal bits; all NaNs are equal.
fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(), "{what}[{i}]: {a:e}, expected {b:e}");
    }
}

#[test]
fn oracle_decoding_is_bit_equal() {
    let Some(file) = vectors() else { return };
    let vectors = SafeTensors::deserialize(&file).unwrap();
    for format in [Format::Q8_0, Format::Q4_K, Format::Q2_K, Format::IQ2_XXS] {
        let expected = floats(&vectors, &format!("{format}.f32"));
        let mut out = vec![0.0; expected.len()];
        blocks::decode(format, bytes(&vectors, &format!("{format}.bytes")), &mut out).unwrap();
        assert_same(&out, &expected, &format.name());
    }
}

/// The formulas in the documentation of the `Unpacked` structs, evaluated as written.
#[test]
fn oracle_unpacked_integers_mean_what_they_say() {
    let Some(file) = vectors() else { return };
    let vectors = SafeTensors::deserialize(&file).unwrap();
    let mut out = Vec::new();
    for b in bytes(&vectors, "Q4_K.bytes").as_chunks().0.iter().map(q4_k::unpack) {
        out.extend((0..256).map(|i| {
            let (scale, min) = (f32::from(b.scales[i / 32]), f32::from(b.mins[i / 32]));
            b.d * scale * f32::from(b.quants[i]) - b.dmin * min
        }));
    }
    assert_same(&out, &floats(&vectors, "Q4_K.f32"), "Q4_K");

    out.clear();
    for b in bytes(&vectors, "Q2_K.bytes").as_chunks().0.iter().map(q2_k::unpack) {
        out.extend((0..256).map(|i| {
            let (scale, min) = (f32::from(b.scales[i / 16]), f32::from(b.mins[i / 16]));
            b.d * scale * f32::from(b.quants[i]) - b.dmin * min
        }));
    }
    assert_same(&out, &floats(&vectors, "Q2_K.f32"), "Q2_K");

    out.clear();
    for b in bytes(&vectors, "IQ2_XXS.bytes").as_chunks().0.iter().map(iq2_xxs::unpack) {
        out.extend((0..256).map(|i| b.d * (0.5 + f32::from(b.scales[i / 32])) * 0.25 * f32::from(b.quants[i])));
    }
    assert_same(&out, &floats(&vectors, "IQ2_XXS.f32"), "IQ2_XXS");
}

/// Every product is exact, so other orders of the factors and fused multiply-adds give the same bits: kernels may
/// choose.
#[test]
fn oracle_decoding_does_not_depend_on_the_order() {
    let Some(file) = vectors() else { return };
    let vectors = SafeTensors::deserialize(&file).unwrap();
    let mut out = Vec::new();
    for b in bytes(&vectors, "Q4_K.bytes").as_chunks().0.iter().map(q4_k::unpack) {
        out.extend((0..256).map(|i| {
            let product = f32::from(u16::from(b.scales[i / 32]) * u16::from(b.quants[i]));
            b.d.mul_add(product, -f32::from(b.mins[i / 32]) * b.dmin)
        }));
    }
    assert_same(&out, &floats(&vectors, "Q4_K.f32"), "Q4_K");

    out.clear();
    for b in bytes(&vectors, "IQ2_XXS.bytes").as_chunks().0.iter().map(iq2_xxs::unpack) {
        out.extend((0..256).map(|i| {
            let odd = 2 * i32::from(b.scales[i / 32]) + 1; // 2 (0.5 + k)
            b.d * 0.125 * (odd * i32::from(b.quants[i])) as f32
        }));
    }
    assert_same(&out, &floats(&vectors, "IQ2_XXS.f32"), "IQ2_XXS");
}

#[test]
fn oracle_q8_0_encoding_is_byte_equal() {
    let Some(file) = vectors() else { return };
    let vectors = SafeTensors::deserialize(&file).unwrap();
    let mut out = Vec::new();
    blocks::encode(Format::Q8_0, &floats(&vectors, "Q8_0.quant.x"), &mut out).unwrap();
    assert_eq!(out, bytes(&vectors, "Q8_0.quant.bytes"));
}

#[test]
fn oracle_tables_are_equal() {
    let Some(file) = vectors() else { return };
    let vectors = SafeTensors::deserialize(&file).unwrap();
    let grid: Vec<f32> = iq2_xxs::GRID.iter().flat_map(|line| line.to_le_bytes()).map(f32::from).collect();
    assert_same(&grid, &floats(&vectors, "IQ2_XXS.grid"), "grid");
    assert_same(&float::E4M3FN, &floats(&vectors, "e4m3fn.table"), "e4m3fn");
    let e8m0: Vec<f32> = (0..=255).map(float::e8m0_to_f32).collect();
    assert_same(&e8m0, &floats(&vectors, "e8m0.table"), "e8m0");
}
