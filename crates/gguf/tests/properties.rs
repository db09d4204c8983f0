//! What must hold for any input at all.

use ds4_gguf::blocks::{self, iq2_xxs, q2_k, q4_k, q8_0};
use ds4_gguf::{File, Format};
use proptest::prelude::*;

const DECODABLE: [Format; 7] =
    [Format::F32, Format::F16, Format::BF16, Format::Q8_0, Format::Q4_K, Format::Q2_K, Format::IQ2_XXS];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = File::from_bytes("any", bytes);
    }

    /// The same behind a good magic, version and small counts, where the parser has more to do.
    #[test]
    fn arbitrary_directories_never_panic(
        n_tensors in 0u64..4,
        n_kv in 0u64..4,
        rest in prop::collection::vec(prop_oneof![Just(0u8), 0u8..14, any::<u8>()], 0..400),
    ) {
        let start = [b"GGUF\x03\0\0\0".as_slice(), &n_tensors.to_le_bytes(), &n_kv.to_le_bytes(), &rest].concat();
        if let Err(e) = File::from_bytes("any", start) {
            prop_assert!(e.to_string().starts_with("any: ") && !e.to_string().contains('\n'), "{}", e);
        }
    }

    #[test]
    fn decoding_any_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..1000), len in 0usize..600) {
        for format in DECODABLE {
            let mut out = vec![0.0; len];
            let fits = format.row_bytes(len as u64) == Some(bytes.len() as u64);
            prop_assert_eq!(blocks::decode(format, &bytes, &mut out).is_ok(), fits);
            let blocks = bytes.len() / format.block_bytes();
            let mut out = vec![0.0; blocks * format.block_len()];
            blocks::decode(format, &bytes[..blocks * format.block_bytes()], &mut out).unwrap();
        }
    }

    #[test]
    fn unpacked_integers_stay_in_their_ranges(bytes in prop::collection::vec(any::<u8>(), 144)) {
        let b = q4_k::unpack(bytes.first_chunk().unwrap());
        prop_assert!(b.scales.iter().chain(&b.mins).all(|&s| s < 64) && b.quants.iter().all(|&q| q < 16));
        let b = q2_k::unpack(bytes.first_chunk().unwrap());
        prop_assert!(b.scales.iter().chain(&b.mins).all(|&s| s < 16) && b.quants.iter().all(|&q| q < 4));
        let b = iq2_xxs::unpack(bytes.first_chunk().unwrap());
        prop_assert!(b.scales.iter().all(|&s| s < 16) && b.quants.iter().all(|q| matches!(q.abs(), 8 | 25 | 43)));
    }

    /// Half a step from rounding the quants; 127 times the rounding of the scale to f16 (2^-11 of it, or half of the
    /// least subnormal, 2^-25).
    #[test]
    fn q8_0_errors_are_bounded(x in prop::collection::vec(-1e6f32..1e6, 64), exponent in -30i32..2) {
        let x: Vec<f32> = x.iter().map(|x| x * 2f32.powi(exponent)).collect();
        let mut bytes = Vec::new();
        blocks::encode(Format::Q8_0, &x, &mut bytes).unwrap();
        prop_assert_eq!(bytes.len(), 2 * q8_0::BLOCK_BYTES);
        let mut back = vec![0.0; 64];
        blocks::decode(Format::Q8_0, &bytes, &mut back).unwrap();
        for (x, back) in x.chunks(32).zip(back.chunks(32)) {
            let d = x.iter().fold(0f32, |m, x| m.max(x.abs())) / 127.0;
            let bound = 0.5 * d + 127.0 * (d / 2048.0).max(2f32.powi(-25));
            for (x, back) in x.iter().zip(back) {
                prop_assert!((x - back).abs() <= bound * 1.0001, "{} became {}, bound {}", x, back, bound);
            }
        }
    }

    #[test]
    fn float_errors_are_bounded(x in prop::collection::vec(-6e4f32..6e4, 1..100)) {
        let half_steps = [
            (Format::F32, 0.0, 0.0),
            (Format::F16, 2f32.powi(-11), 2f32.powi(-25)),
            (Format::BF16, 2f32.powi(-8), 0.0),
        ];
        for (format, relative, absolute) in half_steps {
            let mut bytes = Vec::new();
            blocks::encode(format, &x, &mut bytes).unwrap();
            let mut back = vec![0.0; x.len()];
            blocks::decode(format, &bytes, &mut back).unwrap();
            for (x, back) in x.iter().zip(back) {
                let bound = (x.abs() * relative).max(absolute);
                prop_assert!((x - back).abs() <= bound, "{}: {} became {}", format, x, back);
            }
        }
    }
}
