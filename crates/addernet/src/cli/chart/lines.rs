//! Accuracy against bits, a line per method.

use std::fmt::Write;

use super::{Anchor, Scale, Svg, WIDTH, number};

/// One line.
pub(crate) struct Series {
    /// Number of its colour.
    pub(crate) colour: usize,
    /// Whether it is dashed.
    pub(crate) dashed: bool,
    /// Its points from left to right.
    pub(crate) points: Vec<Point>,
}

/// One point with its spread.
pub(crate) struct Point {
    /// Number of its column.
    pub(crate) column: usize,
    /// Share: mean, smallest, largest.
    pub(crate) share: [f64; 3],
}

/// Lines over `columns`, whose labels are numbers of bits, with shares from `range` on the vertical axis and
/// the float model's share as a reference. What lies outside the range is cut off.
pub(crate) fn lines(
    label: &str,
    columns: &[String],
    series: &[Series],
    float: f64,
    range: [f64; 2],
) -> String {
    let (left, right, top, bottom) = (50.0, WIDTH - 12.0, 14.0, 226.0);
    let mut svg = Svg::new(264.0, label);
    let scale = Scale {
        values: range.map(|share| 100.0 * share),
        places: [bottom, top],
    };
    let inside = |share: f64| (range[0]..=range[1]).contains(&share);
    let y = |share: f64| scale.place(100.0 * share);
    for tick in scale.ticks(7.0) {
        let y = scale.place(tick);
        svg.line("grid", [left, y], [right, y]);
        svg.text(
            "tick",
            [left - 4.0, y + 4.0],
            Anchor::End,
            &(number(tick) + " %"),
        );
    }
    let width = (right - left) / columns.len().max(1) as f64;
    let x = |column: usize| left + (column as f64 + 0.5) * width;
    for (i, column) in columns.iter().enumerate() {
        svg.text("tick", [x(i), bottom + 15.0], Anchor::Middle, column);
    }
    svg.line("axis", [left, bottom], [right, bottom]);
    // A nested drawing cuts off what leaves it.
    svg.push(format_args!(
        r#"<svg x="{left}" y="{}" width="{}" height="{}" viewBox="{left} {} {} {}">"#,
        top - 4.0,
        right - left,
        bottom - top + 8.0,
        top - 4.0,
        right - left,
        bottom - top + 8.0,
    ));
    for (
        i,
        Series {
            colour,
            dashed,
            points,
        },
    ) in series.iter().enumerate()
    {
        // Lines that coincide stay apart.
        let shift = (i as f64 - (series.len() as f64 - 1.0) / 2.0) * (width / 24.0).min(3.0);
        let x = |point: &Point| x(point.column) + shift;
        let mut path = String::new();
        for point in points {
            let start = if path.is_empty() { 'M' } else { 'L' };
            // Writing to a string does not fail.
            let _ = write!(path, "{start}{:.1} {:.1}", x(point), y(point.share[0]));
        }
        let dash = if *dashed { " dashed" } else { "" };
        svg.path(&format!("series c{colour}{dash}"), &path);
        for point in points {
            let [mean, low, high] = point.share;
            if high > low {
                let class = format!("series c{colour}");
                svg.line(&class, [x(point), y(low)], [x(point), y(high)]);
            }
            if inside(mean) {
                svg.dot(&format!("dot c{colour}"), [x(point), y(mean)]);
            }
        }
    }
    svg.push("</svg>");
    if inside(float) {
        svg.line("bound", [left, y(float)], [right, y(float)]);
        let text = format!("float {:.2} %", 100.0 * float);
        svg.text("halo", [right - 2.0, y(float) - 5.0], Anchor::End, &text);
    }
    let centre = (left + right) / 2.0;
    svg.text("title", [centre, bottom + 33.0], Anchor::Middle, "bits");
    svg.vertical_text((top + bottom) / 2.0, "top-1 accuracy");
    svg.finish()
}
