//! Weights and activations of a layer on one axis.

use std::fmt::Write;

use addernet::Distribution;

use super::{Anchor, Scale, Svg, WIDTH, number};

const LEFT: f64 = 52.0;
const RIGHT: f64 = WIDTH - 8.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 168.0;

/// Shares of both on a logarithmic axis, the activations' range and the groups' scales.
pub(crate) fn distribution(layer: &Distribution) -> String {
    let label = format!("Distribution of weights and activations of {}", layer.node);
    let mut svg = Svg::new(204.0, &label);
    let edges = &layer.axis.edges;
    let ends = [edges.first(), edges.last()].map(|edge| edge.copied().unwrap_or(0.0));
    let axis = Scale {
        values: ends.map(|edge| layer.axis.place(edge)),
        places: [LEFT, RIGHT],
    };
    let x = |value: f64| axis.place(layer.axis.place(value)).clamp(LEFT, RIGHT);
    if let Some([low, bound]) = layer.range.map(|range| range.map(f64::from)) {
        let width = x(bound) - x(low);
        svg.rect("band", [x(low), TOP], [width, BOTTOM - TOP]);
    }
    // A single weight is to be seen, but rarer activations need no more room.
    let total = layer.weights.iter().sum::<u64>().max(1) as f64;
    let decades = total.log10().ceil().clamp(2.0, 6.0);
    let shares = Scale {
        values: [-decades, 0.0],
        places: [BOTTOM, TOP],
    };
    for decade in (0..=decades as i32).step_by(if decades > 4.0 { 2 } else { 1 }) {
        let y = shares.place(-f64::from(decade));
        svg.line("grid", [LEFT, y], [RIGHT, y]);
        let share = number(100.0 * 10f64.powi(-decade)) + " %";
        svg.text("tick", [LEFT - 4.0, y + 4.0], Anchor::End, &share);
    }
    let steps = |counts: &[u64]| {
        let total = counts.iter().sum::<u64>().max(1) as f64;
        let mut path = format!("M{LEFT} {BOTTOM}");
        for (edges, &count) in edges.windows(2).zip(counts) {
            let share = (count as f64 / total).log10().max(-decades);
            let y = shares.place(share);
            let (from, to) = (x(edges[0]), x(edges[1]));
            // Writing to a string does not fail.
            let _ = write!(path, "L{from:.1} {y:.1}L{to:.1} {y:.1}");
        }
        path + &format!("L{RIGHT} {BOTTOM}Z")
    };
    svg.path("weights", &steps(&layer.weights));
    if let Some(activations) = &layer.activations {
        svg.path("activations", &steps(activations));
    }
    svg.line("axis", [LEFT, BOTTOM], [RIGHT, BOTTOM]);
    for tick in ticks(ends, x) {
        svg.line("axis", [x(tick), BOTTOM], [x(tick), BOTTOM + 3.0]);
        svg.text(
            "tick",
            [x(tick), BOTTOM + 15.0],
            Anchor::Middle,
            &number(tick),
        );
    }
    for &scale in &layer.scales {
        let x = x(f64::from(scale));
        svg.line("scale", [x, TOP], [x, BOTTOM]);
    }
    if let Some([_, bound]) = layer.range {
        let x = x(f64::from(bound));
        svg.line("bound", [x, TOP - 4.0], [x, BOTTOM]);
        let anchor = match x {
            x if x < LEFT + 30.0 => Anchor::Start,
            x if x > RIGHT - 30.0 => Anchor::End,
            _ => Anchor::Middle,
        };
        let text = format!("S = {}", number(f64::from(bound)));
        svg.text("value", [x, TOP - 7.0], anchor, &text);
    }
    svg.text(
        "title",
        [(LEFT + RIGHT) / 2.0, 200.0],
        Anchor::Middle,
        "value",
    );
    svg.vertical_text((TOP + BOTTOM) / 2.0, "share of values");
    svg.finish()
}

/// Round values of either sign that stand far enough from each other.
fn ticks([low, high]: [f64; 2], x: impl Fn(f64) -> f64) -> Vec<f64> {
    const DISTANCE: f64 = 34.0;
    let mut chosen: Vec<f64> = vec![0.0];
    let largest = low.abs().max(high.abs());
    let power = largest.max(1e-9).log10().floor() as i32;
    for factor in [1.0, 5.0, 2.0] {
        for exponent in (power - 6..=power).rev() {
            let magnitude = factor * 10f64.powi(exponent);
            for value in [magnitude, -magnitude] {
                let free = |other: &f64| (x(*other) - x(value)).abs() >= DISTANCE;
                if (low..=high).contains(&value) && chosen.iter().all(free) {
                    chosen.push(value);
                }
            }
        }
    }
    chosen
}
