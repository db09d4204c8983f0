//! JSON as Python prints it: `json.dumps(json.loads(text), ensure_ascii=False)`; and, for clients, without spaces.
//!
//! Tool schemas and arguments were printed by Python when V4 was trained, with a space after every comma and colon and
//! with Python's idea of a float. Numbers are rewritten as text, so that integers of any size stay what they are.

use serde_json::value::RawValue;

/// Appends `json` to `out`.
///
/// Works on the text, without recursion, so that deep nesting does no harm. Unlike Python it prints both of two equal
/// keys, and a string that is not Unicode (a lone surrogate) as it was written.
pub(crate) fn print(json: &RawValue, out: &mut String) {
    let mut rest = json.get();
    while let Some(first) = rest.bytes().next() {
        let len = match first {
            b'"' => string_len(rest),
            b'-' | b'0'..=b'9' => {
                rest.find(|c| !matches!(c, '+' | '-' | '.' | 'e' | 'E' | '0'..='9')).unwrap_or(rest.len())
            }
            _ => 1,
        };
        let (part, after) = rest.split_at(len);
        match first {
            b'"' => print_string(part, out),
            b'-' | b'0'..=b'9' => out.push_str(&number(part)),
            b',' => out.push_str(", "),
            b':' => out.push_str(": "),
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => out.push_str(part),
        }
        rest = after;
    }
}

/// `json` without the spaces between its parts; `json` is valid.
pub(crate) fn compact(json: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(json.len()), json);
    while let Some(first) = rest.chars().next() {
        let len = if first == '"' { string_len(rest) } else { first.len_utf8() };
        if !first.is_ascii_whitespace() {
            out.push_str(&rest[..len]);
        }
        rest = &rest[len..];
    }
    out
}

/// A text as a JSON string.
pub(crate) fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    text.chars().for_each(|c| escape(c, &mut out));
    out.push('"');
    out
}

/// Appends a character as it stands inside a JSON string.
pub(crate) fn escape(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        c => out.push(c),
    }
}

/// Length of the string literal at the start of `text`, quotes included.
fn string_len(text: &str) -> usize {
    let mut escaped = true; // the opening quote does not close
    let end = text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    end.map_or(text.len(), |end| end + 1)
}

/// `serde_json` escapes what Python escapes: quotes, backslashes, and control characters below U+0020.
fn print_string(literal: &str, out: &mut String) {
    let printed = serde_json::from_str(literal).and_then(|text: String| serde_json::to_string(&text));
    out.push_str(printed.as_deref().unwrap_or(literal));
}

fn number(literal: &str) -> String {
    match literal {
        "-0" => "0".into(),
        integer if !integer.contains(['.', 'e', 'E']) => integer.into(),
        float => float.parse().map_or_else(|_| float.into(), python_float),
    }
}

/// The shortest digits that read back as `value`, as Python's `repr` lays them out: with a point always, with an
/// exponent below 1e-4 and from 1e16 on.
fn python_float(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let shortest = format!("{value:e}");
    let (digits, exponent) = parts(&shortest);
    let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    // Of two shortest forms equally near, Rust takes the upper and Python the even one. Rounding to as many digits also
    // takes the even one; next to a power of two that may be a neighbour, and then the shortest form is the only one.
    let even = |rounded: String, shortest: String| if rounded.parse() == Ok(value) { rounded } else { shortest };
    if value == 0.0 || (1e-4..1e16).contains(&value.abs()) {
        let decimals = decimals.saturating_add_signed(-exponent).max(1);
        return even(format!("{value:.decimals$}"), format!("{value:?}"));
    }
    let scientific = even(format!("{value:.decimals$e}"), shortest);
    let (digits, exponent) = parts(&scientific);
    format!("{digits}e{exponent:+03}")
}

/// Digits and exponent of a number that Rust printed with `e`.
fn parts(scientific: &str) -> (&str, isize) {
    let (digits, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    (digits, exponent.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_prints(json: &str, expected: &str) {
        let mut out = String::new();
        print(&RawValue::from_string(json.into()).unwrap(), &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn separators_have_a_space_and_keys_keep_their_order() {
        assert_prints(" {\"b\" :\n[1,true , null],\"a\":{}} ", r#"{"b": [1, true, null], "a": {}}"#);
        assert_prints("[ ]", "[]");
    }

    #[test]
    fn strings_are_escaped_only_where_json_needs_it() {
        assert_prints(r#""\u0142\/\u00e9<b>,: \"\\""#, r#""ł/é<b>,: \"\\""#);
        assert_prints(r#""\b\f\n\r\t\u001F\u007f""#, "\"\\b\\f\\n\\r\\t\\u001f\u{7f}\"");
        assert_prints(r#""\ud83d\ude42""#, "\"🙂\"");
        assert_prints(r#""\\""#, r#""\\""#);
        assert_prints(r#"["\ud800"]"#, r#"["\ud800"]"#);
    }

    #[test]
    fn integers_of_any_size_stay() {
        for integer in ["0", "-7", "18446744073709551616", "-123456789012345678901234567890"] {
            assert_prints(integer, integer);
        }
        assert_prints("-0", "0");
    }

    #[test]
    fn floats_are_laid_out_as_python_does() {
        for (json, expected) in [
            ("1.0", "1.0"),
            ("-0.0", "-0.0"),
            ("1.50", "1.5"),
            ("100e0", "100.0"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("1e-7", "1e-07"),
            ("-1.25E-10", "-1.25e-10"),
            ("123456789012345.6", "123456789012345.6"),
            ("1e15", "1000000000000000.0"),
            ("9999999999999998.0", "9999999999999998.0"),
            ("1e16", "1e+16"),
            ("1.5e300", "1.5e+300"),
            ("5e-324", "5e-324"),
            ("0.1", "0.1"),
            ("0.30000000000000004", "0.30000000000000004"),
            ("1436277742672256.25", "1436277742672256.2"),
            ("5.684341886080802e-14", "5.684341886080802e-14"),
            ("9007199254740993.0", "9007199254740992.0"),
            ("1e999", "Infinity"),
            ("-1e999", "-Infinity"),
        ] {
            assert_prints(json, expected);
        }
    }

    #[test]
    fn for_clients_there_are_no_spaces_and_strings_stay_as_they_are() {
        assert_eq!(
            compact("{ \"a b\\\"\" :\n[1.50 , true], \"é\":\"\\u00e9 \"}"),
            "{\"a b\\\"\":[1.50,true],\"é\":\"\\u00e9 \"}"
        );
        let text = "a\"b\\ \u{1}\n\r\té🙂";
        assert_eq!(serde_json::from_str::<String>(&string(text)).unwrap(), text);
    }

    #[test]
    fn deep_nesting_is_no_problem() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_prints(&deep, &deep);
    }
}
