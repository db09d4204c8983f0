//! Rounding, rotation and mixing against vectors made with the official code, bit for bit.

use ds4_cpu::kernels::norm::{Turn, rotate};
use ds4_cpu::kernels::{hyper, indexer, rows};
use ds4_model::RowLayout;
use ds4_model::rope::sin_cos;
use ds4_testkit::{Tensors, oracle};

fn vectors() -> Option<Tensors> {
    Some(Tensors::read(&oracle("qat")?.join("ops.safetensors")))
}

fn bits(x: &[f32]) -> Vec<u32> {
    // The official rounding keeps the sign of zero; so do stored codes.
    x.iter().map(|x| x.to_bits()).collect()
}

/// Stores every row of `<name>.x` and compares what is read back with `<name>.y`.
fn rounds_like(ops: &Tensors, name: &str, layout: impl Fn(usize) -> RowLayout) {
    let width = ops.shape(&format!("{name}.x"))[1];
    let layout = layout(width);
    let (x, want) = (ops.f32s(&format!("{name}.x")), ops.f32s(&format!("{name}.y")));
    let mut stored = vec![0; layout.bytes()];
    let mut got = vec![0.0; width];
    for (i, (x, want)) in x.chunks(width).zip(want.chunks(width)).enumerate() {
        rows::encode(layout, x, &mut stored);
        rows::decode(layout, &stored, &mut got);
        assert_eq!(bits(&got), bits(want), "{name} row {i}");
    }
}

#[test]
fn oracle_fp8_rows_are_bit_equal() {
    let Some(ops) = vectors() else { return };
    let layout = |nope| RowLayout::Fp8 { nope, block: 64, rope: 0 };
    rounds_like(&ops, "fp8", layout);
    rounds_like(&ops, "fp8tie", layout);
}

#[test]
fn oracle_fp4_rows_are_bit_equal() {
    let Some(ops) = vectors() else { return };
    rounds_like(&ops, "fp4", |width| RowLayout::Fp4 { width });
    rounds_like(&ops, "fp4tie", |width| RowLayout::Fp4 { width });
}

#[test]
fn oracle_hadamard_is_bit_equal() {
    let Some(ops) = vectors() else { return };
    let width = ops.shape("hadamard.x")[1];
    let mut x = ops.f32s("hadamard.x");
    x.chunks_mut(width).for_each(indexer::hadamard);
    assert_eq!(bits(&x), bits(&ops.f32s("hadamard.y")));
}

#[test]
fn oracle_rotation_is_bit_equal() {
    let Some(ops) = vectors() else { return };
    let width = ops.shape("rope.x")[1];
    for table in ["main", "compress"] {
        let frequencies = ops.f32s(&format!("rope.{table}.inv_freq"));
        for (turn, name) in [(Turn::Forward, "fwd"), (Turn::Back, "inv")] {
            let mut x = ops.f32s("rope.x");
            for (x, position) in x.chunks_mut(width).zip(ops.i32s("rope.pos")) {
                let angles: Vec<_> = frequencies.iter().map(|f| sin_cos(position as u32, *f)).collect();
                rotate(x, &angles, turn);
            }
            assert_eq!(bits(&x), bits(&ops.f32s(&format!("rope.{table}.{name}"))), "{table} {name}");
        }
    }
}

#[test]
fn oracle_mixing_coefficients_are_bit_equal() {
    let Some(ops) = vectors() else { return };
    let (scale, base) = (ops.f32s("sinkhorn.scale"), ops.f32s("sinkhorn.base"));
    let (pre, post, comb) = (ops.f32s("sinkhorn.pre"), ops.f32s("sinkhorn.post"), ops.f32s("sinkhorn.comb"));
    for (i, m) in ops.f32s("sinkhorn.mix").chunks(24).enumerate() {
        let mix = hyper::coefficients(m, &scale, &base, 1e-6, 20);
        assert_eq!(bits(&mix.pre), bits(&pre[4 * i..][..4]), "pre of row {i}");
        assert_eq!(bits(&mix.post), bits(&post[4 * i..][..4]), "post of row {i}");
        assert_eq!(bits(mix.comb.as_flattened()), bits(&comb[16 * i..][..16]), "mixing matrix of row {i}");
    }
}
