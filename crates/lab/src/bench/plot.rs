//! A picture of the table: panels side by side, as SVG that needs nothing else.

use std::fmt::Write;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 440.0;
/// The frame of a panel.
const TOP: f64 = 120.0;
const BOTTOM: f64 = 376.0;
const FRAME: f64 = 380.0;
/// Where the frames begin.
const LEFT: [f64; 2] = [72.0, 552.0];
/// Least distance between labels along the horizontal axis.
const LABEL: f64 = 52.0;
/// A limit this many times the best value would flatten the curve: it is named at the upper edge instead.
const FAR: f64 = 4.0;

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:12px;fill:#5b6472}\
.title{font-size:18px;font-weight:600;fill:#1b2330}.panel{font-size:14px;font-weight:600}\
.value{fill:#1b2330;paint-order:stroke;stroke:#fff;stroke-width:3px}\
.grid{stroke:#e4e7ec}.axis{stroke:#8a93a1}.limit{stroke:#6b7484;stroke-width:1.5;stroke-dasharray:6 4;fill:none}\
.line{fill:none;stroke-width:2.5;stroke-linejoin:round;stroke-linecap:round}";

/// One curve with its limit, in a frame of its own.
pub(super) struct Panel<'a> {
    pub(super) title: &'a str,
    pub(super) colour: &'a str,
    /// Tokens of context and tokens per second, ascending.
    pub(super) points: Vec<(f64, f64)>,
    /// The same for what is possible; may be empty.
    pub(super) limit: Vec<(f64, f64)>,
    pub(super) limit_name: &'a str,
}

/// From values to places.
struct Scale {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let place = |x: f64| if self.logarithmic { x.ln() } else { x };
        let part = (place(value) - place(self.least)) / (place(self.most) - place(self.least));
        self.from + part * (self.to - self.from)
    }
}

/// Draws two panels. Contexts lie at even steps of their logarithm if `logarithmic`.
pub(super) fn svg(title: &str, about: &str, panels: &[Panel<'_>; 2], logarithmic: bool) -> String {
    let mut out = String::new();
    draw(&mut out, title, about, panels, logarithmic).expect("a string can be written to");
    out
}

fn draw(out: &mut String, title: &str, about: &str, panels: &[Panel<'_>; 2], logarithmic: bool) -> std::fmt::Result {
    let (title, about) = (escape(title), escape(about));
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">"#
    )?;
    writeln!(out, "<title>{title}: tokens per second by context</title>\n<style>{STYLE}</style>")?;
    writeln!(out, r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>"##)?;
    writeln!(out, r#"<text class="title" x="24" y="38">{title}</text>"#)?;
    writeln!(out, r#"<text x="24" y="60">{about}</text>"#)?;
    for (panel, left) in panels.iter().zip(LEFT) {
        panel.draw(out, left, logarithmic)?;
    }
    writeln!(out, "</svg>")
}

impl Panel<'_> {
    fn draw(&self, out: &mut String, left: f64, logarithmic: bool) -> std::fmt::Result {
        let (contexts, values) = self.scales(left, logarithmic);
        let Self { title, colour, points, .. } = self;
        writeln!(
            out,
            r#"<g><text class="panel" x="{left}" y="100" fill="{colour}" style="fill:{colour}">{title}, tokens per second</text>"#
        )?;
        let right = left + FRAME;
        for value in ticks(values.most) {
            let y = values.at(value);
            writeln!(out, r#"<line class="grid" x1="{left}" y1="{y:.1}" x2="{right}" y2="{y:.1}"/>"#)?;
            text(out, left - 8.0, y + 4.0, "end", &number(value))?;
        }
        writeln!(out, r#"<line class="axis" x1="{left}" y1="{BOTTOM}" x2="{right}" y2="{BOTTOM}"/>"#)?;
        let labelled = labelled(points, &contexts);
        for &(context, _) in &labelled {
            let x = contexts.at(context);
            writeln!(out, r#"<line class="axis" x1="{x:.1}" y1="{BOTTOM}" x2="{x:.1}" y2="{}"/>"#, BOTTOM + 5.0)?;
            text(out, x, BOTTOM + 20.0, "middle", &number(context))?;
        }
        text(out, left + FRAME / 2.0, BOTTOM + 44.0, "middle", "tokens of context")?;
        self.draw_limit(out, &contexts, &values)?;
        writeln!(out, r#"<polyline class="line" stroke="{colour}" points="{}"/>"#, places(points, &contexts, &values))?;
        for &(context, value) in points {
            let (x, y) = (contexts.at(context), values.at(value));
            writeln!(out, r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{colour}"/>"#)?;
        }
        for (context, value) in labelled {
            let (x, y) = (contexts.at(context), values.at(value));
            // In a valley the curve runs where the words would stand.
            let below = self.is_valley(context) && y + 24.0 < BOTTOM;
            let y = if below { y + 18.0 } else { y - 10.0 };
            let value = number(value);
            writeln!(out, r#"<text class="value" x="{x:.1}" y="{y:.1}" text-anchor="middle">{value}</text>"#)?;
        }
        writeln!(out, "</g>")
    }

    /// Where contexts and values lie.
    fn scales(&self, left: f64, logarithmic: bool) -> (Scale, Scale) {
        let (first, last) = (self.points.first().map_or(1.0, |p| p.0), self.points.last().map_or(1.0, |p| p.0));
        let logarithmic = logarithmic && first < last;
        let least = if logarithmic { first } else { 0.0 };
        let from = left + if logarithmic { 20.0 } else { 0.0 };
        let contexts = Scale { least, most: last, from, to: left + FRAME - 20.0, logarithmic };
        let best = highest(&self.points).max(f64::MIN_POSITIVE);
        let shown = if self.is_far() { best } else { best.max(highest(&self.limit)) };
        let values = Scale { least: 0.0, most: 1.15 * shown, from: BOTTOM, to: TOP, logarithmic: false };
        (contexts, values)
    }

    /// Whether the value at this context is lower than those beside it.
    fn is_valley(&self, context: f64) -> bool {
        self.points.windows(3).any(|p| p[1].0 == context && p[1].1 < p[0].1 && p[1].1 < p[2].1)
    }

    fn is_far(&self) -> bool {
        highest(&self.limit) > FAR * highest(&self.points)
    }

    fn draw_limit(&self, out: &mut String, contexts: &Scale, values: &Scale) -> std::fmt::Result {
        let (Some(&(_, first)), Some(&(_, last))) = (self.limit.first(), self.limit.last()) else { return Ok(()) };
        let (name, end) = (self.limit_name, contexts.to);
        if self.is_far() {
            return text(out, end, TOP - 2.0, "end", &format!("{name} is {}, far above", number(last)));
        }
        let mut line = self.limit.clone();
        if !contexts.logarithmic {
            line.insert(0, (contexts.least, first));
        }
        writeln!(out, r#"<polyline class="limit" points="{}"/>"#, places(&line, contexts, values))?;
        text(out, end, values.at(last) - 8.0, "end", &format!("{name}: {}", number(last)))
    }
}

/// The points that get words: as many as fit, the last one always.
fn labelled(points: &[(f64, f64)], contexts: &Scale) -> Vec<(f64, f64)> {
    let mut chosen: Vec<(f64, f64)> = Vec::new();
    for &point in points.iter().rev() {
        if chosen.last().is_none_or(|p| contexts.at(p.0) - contexts.at(point.0) >= LABEL) {
            chosen.push(point);
        }
    }
    chosen
}

fn places(points: &[(f64, f64)], contexts: &Scale, values: &Scale) -> String {
    let places: Vec<String> = points.iter().map(|p| format!("{:.1},{:.1}", contexts.at(p.0), values.at(p.1))).collect();
    places.join(" ")
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) -> std::fmt::Result {
    writeln!(out, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#, escape(words))
}

fn highest(points: &[(f64, f64)]) -> f64 {
    points.iter().map(|p| p.1).fold(0.0, f64::max)
}

/// Three to six round numbers from 0 to `most`.
fn ticks(most: f64) -> Vec<f64> {
    let rough = most / 6.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0].map(|m| m * power).into_iter().find(|s| *s >= rough).unwrap_or(10.0 * power);
    (0..).map(|i| i as f64 * step).take_while(|t| *t <= most).collect()
}

/// Three digits or more, thousands apart.
fn number(value: f64) -> String {
    let decimals = match value {
        0.0 => 0,
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    let digits = format!("{value:.decimals$}");
    let (whole, part) = digits.split_once('.').unwrap_or((&digits, ""));
    let part = part.trim_end_matches('0');
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if part.is_empty() { grouped } else { format!("{grouped}.{part}") }
}

/// Text as XML has it; control characters, which XML lacks, become spaces.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => out.push(' '),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(points: &[(f64, f64)], limit: &[(f64, f64)]) -> Panel<'static> {
        Panel {
            title: "Decode",
            colour: "#c2570c",
            points: points.to_vec(),
            limit: limit.to_vec(),
            limit_name: "the memory's limit",
        }
    }

    /// Draws, and checks that it is XML without anything from elsewhere and that nothing lies outside of the picture.
    fn check(title: &str, panels: &[Panel<'_>; 2], logarithmic: bool) -> String {
        let svg = svg(title, "2 threads", panels, logarithmic);
        let document = roxmltree::Document::parse(&svg).unwrap_or_else(|e| panic!("{e}: {svg}"));
        assert_eq!(document.root_element().tag_name().name(), "svg");
        assert!(!svg.contains("href") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let inside = |value: Option<&str>, most: f64| {
            let value: f64 = value.unwrap_or("0").parse().unwrap();
            assert!((0.0..=most).contains(&value), "{value}: {svg}");
        };
        for node in document.descendants() {
            ["x", "x1", "x2", "cx"].iter().for_each(|a| inside(node.attribute(*a), WIDTH));
            ["y", "y1", "y2", "cy"].iter().for_each(|a| inside(node.attribute(*a), HEIGHT));
        }
        svg
    }

    #[test]
    fn a_picture_is_xml_whatever_was_measured() {
        let rows: Vec<(f64, f64)> = (1..=16).map(|i| (2048.0 * i as f64, 13.0 - 0.2 * i as f64)).collect();
        let limits: Vec<(f64, f64)> = rows.iter().map(|r| (r.0, 2.0 * r.1)).collect();
        let far = [(2048.0, 1e6)];
        for logarithmic in [false, true] {
            let svg = check("a<b>&\"c\u{7}.gguf", &[panel(&rows, &limits), panel(&rows, &[])], logarithmic);
            assert_eq!(svg.matches("class=\"limit\"").count(), 1);
            assert_eq!(svg.matches("<circle").count(), 32);
            assert!(svg.contains("a&lt;b&gt;&amp;&quot;c .gguf"));
            let svg = check("one row", &[panel(&rows[..1], &far), panel(&[(1.0, 0.0)], &[])], logarithmic);
            assert!(svg.contains("the memory's limit is 1,000,000, far above"), "{svg}");
        }
    }

    #[test]
    fn labels_stand_apart_and_the_last_context_has_one() {
        let contexts = Scale { least: 0.0, most: 7000.0, from: 0.0, to: 380.0, logarithmic: false };
        let points = [2048.0, 4096.0, 6144.0, 7000.0].map(|c| (c, 1.0));
        assert_eq!(labelled(&points, &contexts), [points[3], points[1], points[0]]);
    }

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(ticks(13.0), [0.0, 5.0, 10.0]);
        assert_eq!(ticks(540.0), [0.0, 100.0, 200.0, 300.0, 400.0, 500.0]);
        assert_eq!(
            ["0", "0.25", "8.3", "112", "1,300", "32,768"],
            [0.0, 0.25, 8.3, 112.3, 1300.0, 32768.0].map(number).each_ref().map(String::as_str)
        );
    }
}
