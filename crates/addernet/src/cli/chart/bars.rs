//! Horizontal bars, one per layer, each with its value.

use super::{Anchor, Scale, Svg, WIDTH, number};

const ROW: f64 = 19.0;
/// Width of a character of the labels, about.
const CHARACTER: f64 = 6.3;
/// Room for a value beside its bar.
const VALUE: f64 = 42.0;

/// A bar per row; rows without a value say so.
pub(crate) fn bars(label: &str, unit: &str, rows: &[(String, Option<f64>)]) -> String {
    let longest = rows.iter().map(|(name, _)| name.chars().count()).max();
    let left = (longest.unwrap_or(0) as f64 * CHARACTER + 6.0).min(0.45 * WIDTH);
    let bottom = 6.0 + rows.len() as f64 * ROW;
    let mut svg = Svg::new(bottom + 38.0, label);
    let values = || rows.iter().filter_map(|(_, value)| *value);
    let (low, high) = (values().fold(0.0, f64::min), values().fold(0.0, f64::max));
    let negative = if low < 0.0 { VALUE } else { 0.0 };
    let scale = Scale {
        values: [low, if high > low { high } else { low + 1.0 }],
        places: [left + negative, WIDTH - VALUE],
    };
    for tick in scale.ticks(4.0) {
        let x = scale.place(tick);
        svg.line("grid", [x, 2.0], [x, bottom]);
        svg.text("tick", [x, bottom + 14.0], Anchor::Middle, &number(tick));
    }
    let zero = scale.place(0.0);
    for (i, (name, value)) in rows.iter().enumerate() {
        let y = 6.0 + i as f64 * ROW;
        let middle = y + ROW / 2.0 + 2.0;
        svg.text("label", [left - 4.0, middle], Anchor::End, &shortened(name));
        let Some(value) = value else {
            svg.text("tick", [zero + 4.0, middle], Anchor::Start, "none");
            continue;
        };
        let x = scale.place(*value);
        svg.rect("bar", [x.min(zero), y + 1.5], [(x - zero).abs(), ROW - 5.0]);
        let (x, anchor) = match *value < 0.0 {
            true => (x - 3.0, Anchor::End),
            false => (x + 3.0, Anchor::Start),
        };
        svg.text("value", [x, middle], anchor, &number(*value));
    }
    svg.line("axis", [zero, 2.0], [zero, bottom]);
    let centre = (scale.places[0] + scale.places[1]) / 2.0;
    svg.text("title", [centre, bottom + 31.0], Anchor::Middle, unit);
    svg.finish()
}

/// The end of a name that is too long: layers differ there.
fn shortened(name: &str) -> String {
    let most = (0.45 * WIDTH / CHARACTER) as usize - 1;
    match name.chars().count() {
        length if length > most => {
            format!(
                "…{}",
                name.chars().skip(length + 1 - most).collect::<String>()
            )
        }
        _ => name.to_owned(),
    }
}
