//! Loss and accuracy over the epochs, as an SVG.

use std::fmt::Write;

use crate::progress::EpochReport;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 34.0;

/// A chart: what it shows, and its lines.
struct Chart {
    title: &'static str,
    range: [f64; 2],
    label: fn(f64) -> String,
    lines: [Line; 2],
}

/// A line with its values by epoch.
struct Line {
    name: &'static str,
    colour: &'static str,
    points: Vec<(usize, f64)>,
}

impl Line {
    fn pair(training: Vec<(usize, f64)>, test: Vec<(usize, f64)>) -> [Self; 2] {
        let line = |name, colour, points| Self {
            name,
            colour,
            points,
        };
        [
            line("training", "#4269d0", training),
            line("test", "#d1563a", test),
        ]
    }
}

/// Two charts below each other. A drawing of no epoch has axes alone.
pub(crate) fn svg(history: &[EpochReport]) -> String {
    let values = |value: fn(&EpochReport) -> Option<f64>| -> Vec<(usize, f64)> {
        let points = history.iter().filter_map(|e| Some((e.epoch, value(e)?)));
        points.filter(|(_, v)| v.is_finite()).collect()
    };
    let losses = Line::pair(values(|e| Some(e.train_loss)), values(|e| e.test_loss));
    let accuracies = Line::pair(values(|e| Some(e.train_top1)), values(|e| e.test_top1));
    let all = losses.iter().flat_map(|line| &line.points);
    let top = all.fold(0.1, |most, point| f64::max(most, point.1));
    let charts = [
        Chart {
            title: "loss (nats)",
            range: [0.0, top],
            label: |v| format!("{v:.2}"),
            lines: losses,
        },
        Chart {
            title: "accuracy (%)",
            range: [0.0, 1.0],
            label: |v| format!("{:.0}", 100.0 * v),
            lines: accuracies,
        },
    ];
    let last = history.last().map_or(1, |e| e.epoch.max(2));
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" font-family=\"sans-serif\" \
         font-size=\"12\"><title>Loss and accuracy by epoch</title><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>",
        2.0 * HEIGHT
    );
    for (i, chart) in charts.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate(0 {})\">", i as f64 * HEIGHT);
        draw(&mut out, chart, last);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, chart: &Chart, last: usize) {
    let [low, high] = chart.range;
    let x = |epoch: usize| {
        LEFT + (WIDTH - LEFT - RIGHT) * (epoch.max(1) - 1) as f64 / (last.max(2) - 1) as f64
    };
    let y = |v: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (v - low) / (high - low);
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">{}</text>",
        chart.title
    );
    for tick in 0..=4 {
        let value = low + (high - low) * f64::from(tick) / 4.0;
        let at = y(value);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            (chart.label)(value)
        );
    }
    for epoch in [1, last.div_ceil(2).max(1), last] {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{epoch}</text>",
            x(epoch),
            HEIGHT - BOTTOM + 16.0
        );
    }
    for (i, line) in chart.lines.iter().enumerate() {
        let Line {
            name,
            colour,
            points,
        } = line;
        if points.is_empty() {
            continue;
        }
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"18\" fill=\"{colour}\">{name}</text>",
            WIDTH - RIGHT - 120.0 + 66.0 * i as f64
        );
        let mut path = String::new();
        for (j, &(epoch, value)) in points.iter().enumerate() {
            let command = if j == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", x(epoch), y(value));
        }
        let _ = writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linecap=\"round\"/>"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_within_the_drawing() {
        let history: Vec<EpochReport> = (1..=30)
            .map(|epoch| EpochReport {
                epoch,
                lr: 0.1,
                train_loss: 7.0 / epoch as f64,
                train_top1: epoch as f64 / 30.0,
                test_loss: (epoch % 2 == 0).then_some(1.0),
                test_top1: None,
                seconds: 1.0,
            })
            .collect();
        let text = svg(&history);
        let mut coordinates = 0;
        for path in text.split(" d=\"").skip(1) {
            let path = path.split('"').next().unwrap();
            for pair in path
                .split(['M', 'L'])
                .filter(|p| p.contains(' ') && !p.contains('H'))
            {
                let (x, y) = pair.split_once(' ').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!((LEFT..=WIDTH - RIGHT).contains(&x), "{x}");
                assert!((TOP..=HEIGHT - BOTTOM).contains(&y), "{y}");
                coordinates += 1;
            }
        }
        assert_eq!(coordinates, 30 + 15 + 30);
    }

    #[test]
    fn a_single_epoch_and_none_can_be_drawn() {
        assert!(svg(&[]).ends_with("</svg>\n"));
        let one = EpochReport {
            epoch: 1,
            lr: 0.1,
            train_loss: 2.3,
            train_top1: 0.1,
            test_loss: None,
            test_top1: None,
            seconds: 1.0,
        };
        assert!(svg(&[one]).contains("M56.0 "));
    }
}
