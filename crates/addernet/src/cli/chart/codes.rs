//! How often each weight code occurs.

use addernet::CodeHistogram;

use super::{Anchor, Scale, Svg, WIDTH, number};

/// The histogram, with shares on a linear axis.
pub(crate) fn codes(histogram: &CodeHistogram) -> String {
    let (left, right, top, bottom) = (46.0, WIDTH - 8.0, 8.0, 84.0);
    let mut svg = Svg::new(120.0, "Histogram of weight codes");
    let total = histogram.counts.iter().sum::<u64>().max(1) as f64;
    let largest = histogram.counts.iter().copied().max().unwrap_or(0) as f64 / total;
    let scale = Scale {
        values: [0.0, 100.0 * largest.max(1e-6)],
        places: [bottom, top],
    };
    for tick in scale.ticks(2.0) {
        let y = scale.place(tick);
        svg.line("grid", [left, y], [right, y]);
        svg.text(
            "tick",
            [left - 4.0, y + 4.0],
            Anchor::End,
            &(number(tick) + " %"),
        );
    }
    let count = histogram.counts.len();
    let width = (right - left) / count.max(1) as f64;
    let gap = if count > 64 { 0.0 } else { 0.15 * width };
    for (i, &codes) in histogram.counts.iter().enumerate() {
        let y = scale.place(100.0 * codes as f64 / total);
        let x = left + i as f64 * width;
        svg.rect("bar", [x + gap, y], [width - 2.0 * gap, bottom - y]);
    }
    svg.line("axis", [left, bottom], [right, bottom]);
    let stride = count.div_ceil(16).max(1);
    for i in (0..count).step_by(stride) {
        let x = left + (i as f64 + 0.5) * width;
        let code = f64::from(histogram.first) + i as f64;
        svg.text("tick", [x, bottom + 14.0], Anchor::Middle, &number(code));
    }
    let centre = (left + right) / 2.0;
    svg.text("title", [centre, 117.0], Anchor::Middle, "weight code");
    svg.vertical_text((top + bottom) / 2.0, "weights");
    svg.finish()
}
