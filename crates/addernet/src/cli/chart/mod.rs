//! Charts as SVG inside the page: colours are the page's own, so that they follow light and dark.
//!
//! All charts are 360 units wide, about a phone's width: their text is never shrunk below its size.

mod bars;
mod codes;
mod distribution;
mod lines;
mod pareto;

use std::fmt::{Display, Write};

pub(super) use bars::bars;
pub(super) use codes::codes;
pub(super) use distribution::distribution;
pub(super) use lines::{Point, Series, lines};
pub(super) use pareto::{Choice, Method, pareto};

/// Width of every chart.
const WIDTH: f64 = 360.0;

/// Where a text's given point is.
#[derive(Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing.
struct Svg {
    height: f64,
    label: String,
    body: String,
}

impl Svg {
    /// A drawing of this height; `label` says what it shows to those who cannot see it.
    fn new(height: f64, label: &str) -> Self {
        Self {
            height,
            label: escape(label),
            body: String::new(),
        }
    }

    // Writing to a string does not fail.
    fn push(&mut self, element: impl Display) {
        let _ = write!(self.body, "{element}");
    }

    fn line(&mut self, class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) {
        self.push(format_args!(
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
    }

    fn rect(&mut self, class: &str, [x, y]: [f64; 2], [width, height]: [f64; 2]) {
        self.push(format_args!(
            r#"<rect class="{class}" x="{x:.2}" y="{y:.1}" width="{width:.2}" height="{height:.1}"/>"#
        ));
    }

    fn path(&mut self, class: &str, d: &str) {
        self.push(format_args!(r#"<path class="{class}" d="{d}"/>"#));
    }

    fn dot(&mut self, class: &str, [x, y]: [f64; 2]) {
        self.push(format_args!(
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="3"/>"#
        ));
    }

    fn text(&mut self, class: &str, [x, y]: [f64; 2], anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.push(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    /// Text along the left edge, read from below.
    fn vertical_text(&mut self, y: f64, text: &str) {
        let text = escape(text);
        self.push(format_args!(
            r#"<text class="title" text-anchor="middle" transform="translate(10 {y:.1}) rotate(-90)">{text}</text>"#
        ));
    }

    fn finish(self) -> String {
        let Self {
            height,
            label,
            body,
        } = self;
        format!(
            r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{body}</svg>"#
        )
    }
}

/// What a chart looks like outside the page.
const STANDALONE: &str = "\
text{font:11px system-ui,sans-serif;fill:#1c2126}.tick,.title{fill:#59636e}.title{font-size:12px}\
.halo{paint-order:stroke;stroke:#fff;stroke-width:4px}.grid{stroke:#e4e7eb}.axis{stroke:#59636e}\
.bound{stroke:#1c2126;stroke-width:1.5;stroke-dasharray:5 3}.front{fill:none;stroke:#59636e;stroke-dasharray:2 2}\
.band{fill:#0b6bb5;fill-opacity:.11}.bar{fill:#0b6bb5}.scale{stroke:#8a5fbf;stroke-width:1.5;stroke-dasharray:2 2}\
.weights{fill:#c2570c;fill-opacity:.35;stroke:#c2570c}.activations{fill:#0b6bb5;fill-opacity:.3;stroke:#0b6bb5}\
.c0{fill:#0b6bb5;stroke:#0b6bb5}.c1{fill:#c2570c;stroke:#c2570c}.c2{fill:#0a7d57;stroke:#0a7d57}\
.c3{fill:#8a5fbf;stroke:#8a5fbf}.c4{fill:#b02a50;stroke:#b02a50}.c5{fill:#6b6500;stroke:#6b6500}\
.series{fill:none;stroke-width:2}.dashed{stroke-dasharray:5 4}";

/// An entry of a legend.
#[derive(Clone)]
pub(super) struct Key {
    /// What stands before the name.
    pub(super) mark: Mark,
    /// Class of the mark.
    pub(super) class: String,
    /// What it means.
    pub(super) name: String,
}

/// The sign of a legend's entry.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    /// A line of a chart of lines.
    Line,
    /// A filled area.
    Area,
    /// A line across an axis.
    Rule,
}

/// Height of a line of a legend.
const LEGEND_LINE: f64 = 16.0;

/// The legend below a chart that ends at `top`.
fn legend(keys: &[Key], top: f64) -> String {
    let entry = |(i, key): (usize, &Key)| {
        let y = top + LEGEND_LINE * (i as f64 + 0.5);
        let class = &key.class;
        let mark = match key.mark {
            Mark::Line => format!(r#"<path class="{class}" d="M50 {y:.1}h24"/>"#),
            Mark::Area => {
                let top = y - 5.0;
                format!(r#"<rect class="{class}" x="50" y="{top:.1}" width="24" height="10"/>"#)
            }
            Mark::Rule => format!(r#"<path class="{class}" d="M62 {:.1}v12"/>"#, y - 6.0),
        };
        let text = escape(&key.name);
        format!(r#"{mark}<text x="80" y="{:.1}">{text}</text>"#, y + 4.0)
    };
    keys.iter().enumerate().map(entry).collect()
}

/// A chart as a file of its own: with its colours, on white, twice as large, its legend below.
pub(super) fn standalone(chart: &str, keys: &[Key]) -> String {
    let Some((head, body)) = chart.split_once('>') else {
        return chart.to_owned();
    };
    let view = format!("viewBox=\"0 0 {WIDTH} ");
    let chart_height = head
        .split_once(&view)
        .and_then(|(_, rest)| rest.split_once('"'))
        .and_then(|(height, _)| height.parse::<f64>().ok())
        .unwrap_or(WIDTH);
    let height = chart_height + LEGEND_LINE * keys.len() as f64;
    let head = head.replacen(
        &format!("{view}{chart_height}"),
        &format!("{view}{height}"),
        1,
    );
    let body = body.strip_suffix("</svg>").unwrap_or(body);
    let (width, height) = (2.0 * WIDTH, 2.0 * height);
    let namespace = "http://www.w3.org/2000/svg";
    format!(
        "{head} xmlns=\"{namespace}\" width=\"{width}\" height=\"{height}\"><style>{STANDALONE}</style>\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>{body}{}</svg>\n",
        legend(keys, chart_height)
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A linear scale from values to places.
#[derive(Clone, Copy)]
struct Scale {
    values: [f64; 2],
    places: [f64; 2],
}

impl Scale {
    fn place(&self, value: f64) -> f64 {
        let [from, to] = self.values;
        let share = match to - from {
            span if span > 0.0 => (value - from) / span,
            _ => 0.0,
        };
        self.places[0] + share * (self.places[1] - self.places[0])
    }

    /// Round values, about `count` of them.
    fn ticks(&self, count: f64) -> Vec<f64> {
        let [from, to] = self.values;
        let step = round_step((to - from) / count);
        let (first, last) = ((from / step).ceil(), (to / step).floor());
        // Fewer than a hundred whatever the values are.
        (0..100)
            .map(|i| first + f64::from(i))
            .take_while(|tick| *tick <= last)
            .map(|tick| tick * step)
            .collect()
    }
}

/// The next of 1, 2, 5, 10 … times a power of ten.
fn round_step(step: f64) -> f64 {
    if !(step.is_finite() && step > 0.0) {
        return 1.0;
    }
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|f| f * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}

/// A number with as few digits as tell ticks apart, and a real minus sign.
pub(super) fn number(value: f64) -> String {
    let text = match value.abs() {
        0.0 => "0".to_owned(),
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 0.01 => {
            let digits = (2.0 - magnitude.log10().floor()).clamp(0.0, 4.0);
            let text = format!("{value:.*}", digits as usize);
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        }
        _ => format!("{value:.1e}"),
    };
    text.replace('-', "−")
}

#[cfg(test)]
mod tests;
