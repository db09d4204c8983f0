//! Numbers and names as people read them.

/// Three digits and a decimal unit: `3.51 KB`.
pub(super) fn bytes(n: f64) -> String {
    scaled(n, &["B", "KB", "MB", "GB", "TB"])
}

/// Three digits and a letter: `284B` for billion.
pub(super) fn parameters(n: u128) -> String {
    scaled(n as f64, &["", "K", "M", "B", "T"]).replace(' ', "")
}

fn scaled(mut n: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // 999.5 would print as 1000.
    while n >= 999.5 && unit + 1 < units.len() {
        n /= 1000.0;
        unit += 1;
    }
    let decimals = match n {
        _ if unit == 0 => 0,
        n if n < 9.995 => 2,
        n if n < 99.95 => 1,
        _ => 0,
    };
    format!("{n:.decimals$} {}", units[unit])
}

/// `1,048,576`.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 layer`, `5 layers`.
pub(super) fn count(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(n as u64), if n == 1 { "" } else { "s" })
}

/// Text from a file on one line of a terminal: control characters escaped, after `most` characters cut.
pub(super) fn printable(text: &str, most: usize) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == most {
            out.push('…');
            break;
        }
        match c {
            '\u{2028}' | '\u{2029}' => out.extend(c.escape_default()),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// Lines whose cells stand in columns, two spaces apart. Cells of `right` columns end together, others begin together.
pub(super) fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| match right.contains(&i) {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases =
            [(0.0, "0 B"), (583.0, "583 B"), (3508.8, "3.51 KB"), (999_499.0, "999 KB"), (999_500.0, "1.00 MB")];
        for (n, text) in cases {
            assert_eq!(bytes(n), text);
        }
        assert_eq!(bytes(11_501_625_632.0), "11.5 GB");
        assert_eq!((parameters(284_334_567_890), parameters(512)), ("284B".into(), "512".into()));
    }

    #[test]
    fn numbers_and_nouns() {
        assert_eq!([0, 999, 1000, 1_048_576].map(grouped), ["0", "999", "1,000", "1,048,576"]);
        assert_eq!((count(1, "layer"), count(0, "layer")), ("1 layer".into(), "0 layers".into()));
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "10".into(), "x".into()], vec!["bc".into(), "9".into()]];
        assert_eq!(columns(&rows, &[1]), "a   10  x\nbc   9\n");
    }

    #[test]
    fn names_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2J\nb", 80), "a\\u{1b}[2J\\nb");
        assert_eq!(printable("abc", 2), "ab…");
    }
}
