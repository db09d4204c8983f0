//! Rows of floats to rows of the file, refusing values that a format cannot hold.

use ds4_gguf::{Format, blocks};

/// A value that a format cannot hold.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) column: usize,
    pub(super) value: f32,
    pub(super) why: String,
}

/// Appends a row. `row` is whole blocks of a format that [`blocks::encode`] knows.
pub(super) fn encode(format: Format, row: &[f32], out: &mut Vec<u8>) -> Result<(), Misfit> {
    let limit = limit(format);
    if !row.iter().fold(true, |fits, x| fits & (x.abs() < limit)) {
        return Err(misfit(format, limit, row));
    }
    // The plan checked format and length, the line above the values.
    blocks::encode(format, row, out).map_err(|e| Misfit { column: 0, value: row[0], why: e.to_string() })
}

fn misfit(format: Format, limit: f32, row: &[f32]) -> Misfit {
    let fits = |x: &f32| x.abs() < limit;
    let (column, value) = row.iter().copied().enumerate().find(|(_, x)| !fits(x)).unwrap_or((0, f32::NAN));
    let why = match value.is_finite() {
        true => format!("too large for {format}; choose another format for it"),
        false => "not a weight; the checkpoint is damaged".to_string(),
    };
    Misfit { column, value, why }
}

/// The least magnitude that a format would round to infinity.
fn limit(format: Format) -> f32 {
    match format {
        Format::F16 => 65520.0,
        Format::BF16 => f32::from_bits(0x7f7f_8000),
        // A block's scale is an f16: its largest magnitude divided by 127.
        Format::Q8_0 => 65519.0 * 127.0,
        _ => f32::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [Format; 4] = [Format::F32, Format::F16, Format::BF16, Format::Q8_0];

    #[test]
    fn what_is_below_the_limit_stays_finite_and_what_is_not_is_named() {
        for format in FORMATS {
            let mut row = [0.0; 64];
            row[40] = -limit(format).next_down();
            let (mut bytes, mut back) = (Vec::new(), [0.0; 64]);
            encode(format, &row, &mut bytes).unwrap();
            blocks::decode(format, &bytes, &mut back).unwrap();
            assert!(back[40].is_finite(), "{format}");

            for bad in [limit(format), f32::NAN, f32::NEG_INFINITY] {
                row[40] = bad;
                let misfit = encode(format, &row, &mut bytes).unwrap_err();
                assert_eq!((misfit.column, misfit.value.to_bits()), (40, bad.to_bits()), "{format}");
            }
        }
    }

    #[test]
    fn the_float_limits_are_the_least() {
        for format in [Format::F16, Format::BF16] {
            let (mut bytes, mut back) = (Vec::new(), [0.0]);
            blocks::encode(format, &[limit(format)], &mut bytes).unwrap();
            blocks::decode(format, &bytes, &mut back).unwrap();
            assert!(back[0].is_infinite(), "{format}");
        }
    }
}
