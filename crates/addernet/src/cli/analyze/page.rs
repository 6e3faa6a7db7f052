//! The page: what the report says, in words and charts.

use addernet::quant::{Effect, LayerSensitivity, Provenance};
use addernet::{
    Distribution, Energy, LayerReport, SensitivityReport, SweepEngine, SweepRow, SweepTable,
    WeightShares,
};
use askama::Template;

use super::super::chart::{self, Key, Mark, Point, Series, number};
use super::super::output::{percent, thousands};
use super::super::sweep::pareto;
use super::Report;
use super::costs::{Costs, costs};

#[derive(Template)]
#[template(path = "analysis.html")]
pub(super) struct Page {
    title: String,
    facts: Vec<Fact>,
    layers: Vec<Layer>,
    has_activations: bool,
    images: String,
    linear: bool,
    sensitivity: Option<Sensitivities>,
    costs: Costs,
    sweep: Option<Sweep>,
    data: String,
}

struct Fact {
    name: &'static str,
    value: String,
}

struct Layer {
    node: String,
    shape: String,
    chart: String,
    shares: String,
    scales: String,
    codes: Option<Codes>,
}

struct Codes {
    chart: String,
    note: String,
}

struct Sensitivities {
    quantization: String,
    images: String,
    float_top1: String,
    charts: Vec<Chart>,
    rows: Vec<Vec<String>>,
}

pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) note: String,
    pub(super) svg: String,
    /// Whether the legend stands beside it, on the page.
    pub(super) legend_beside: bool,
}

struct Sweep {
    images: String,
    charts: Vec<Chart>,
    legend: Vec<Key>,
    rows: Vec<Vec<String>>,
}

/// What the page shows.
pub(super) fn page(report: &Report) -> anyhow::Result<Page> {
    let analysis = &report.analysis;
    let layers = analysis.distributions.iter().zip(&analysis.model.layers);
    Ok(Page {
        title: file_name(&report.model),
        facts: facts(report),
        layers: layers.map(|(d, l)| layer(d, l)).collect(),
        has_activations: report.images > 0,
        images: thousands(report.images as u64),
        linear: analysis.distributions.iter().any(|d| d.axis.unit.is_none()),
        sensitivity: analysis.sensitivity.as_ref().map(sensitivities),
        costs: costs(&report.cost),
        sweep: report.sweep.as_ref().map(sweep),
        // Nothing in the data can end the element that holds it.
        data: serde_json::to_string(report)?.replace('<', "\\u003c"),
    })
}

impl Page {
    /// Every chart as an SVG file of its own: name and content.
    pub(super) fn chart_files(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        let mut add = |name: String, svg: &str, legend: &[Key]| {
            files.push((file_stem(&name) + ".svg", chart::standalone(svg, legend)));
        };
        if let Some(sweep) = &self.sweep {
            for chart in &sweep.charts {
                // The others have theirs inside.
                let legend: &[Key] = match chart.legend_beside {
                    true => &sweep.legend,
                    false => &[],
                };
                add(format!("methods {}", chart.title), &chart.svg, legend);
            }
        }
        for chart in self.sensitivity.iter().flat_map(|s| &s.charts) {
            add(format!("sensitivity {}", chart.title), &chart.svg, &[]);
        }
        for chart in &self.costs.charts {
            add(format!("cost {}", chart.title), &chart.svg, &[]);
        }
        let legend = self.distribution_legend();
        for layer in &self.layers {
            add(format!("layer {}", layer.node), &layer.chart, &legend);
            if let Some(codes) = &layer.codes {
                add(format!("codes {}", layer.node), &codes.chart, &[]);
            }
        }
        files
    }

    fn distribution_legend(&self) -> Vec<Key> {
        let key = |mark, class: &str, name: &str| Key {
            mark,
            class: class.to_owned(),
            name: name.to_owned(),
        };
        let mut legend = vec![key(Mark::Area, "weights", "weights")];
        if self.has_activations {
            legend.push(key(Mark::Area, "activations", "input activations"));
        }
        if !self.linear {
            let range = "activations' range, up to the clamp S";
            legend.push(key(Mark::Area, "band", range));
            legend.push(key(Mark::Rule, "scale", "scales of the groups"));
        }
        legend
    }
}

/// A file's name: small letters, digits, dots and dashes.
fn file_stem(name: &str) -> String {
    let kept = name.chars().filter_map(|c| match c {
        'a'..='z' | '0'..='9' | '.' => Some(c),
        'A'..='Z' => Some(c.to_ascii_lowercase()),
        ' ' | '_' | '-' => Some('-'),
        _ => None,
    });
    kept.collect()
}

fn file_name(path: &str) -> String {
    match std::path::Path::new(path).file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => path.to_owned(),
    }
}

fn facts(report: &Report) -> Vec<Fact> {
    let model = &report.analysis.model;
    let mut facts = Vec::new();
    let mut fact = |name, value| facts.push(Fact { name, value });
    fact(
        "Network",
        format!(
            "{}, images {}, {} classes",
            model.architecture, model.input, model.classes
        ),
    );
    fact(
        "Size",
        format!(
            "{} parameters, {} terms |x − w| per image in {} adder layers",
            thousands(model.parameters as u64),
            thousands(model.terms),
            model.layers.len()
        ),
    );
    if let Some(shares) = model.weight_shares {
        fact("Weights", shares_text(shares));
    }
    fact(
        "Quantization",
        match &model.quantization {
            Some(made) => provenance(made),
            None => "none: a float model".to_owned(),
        },
    );
    if let Some(super::Evaluated { engine, accuracy }) = &report.accuracy {
        fact(
            "Accuracy",
            format!(
                "top-1 {}, top-5 {}, loss {:.4} on {} test images ({engine} engine)",
                percent(accuracy.top1),
                percent(accuracy.top5),
                accuracy.loss,
                thousands(accuracy.images as u64)
            ),
        );
    }
    if let Some(reference) = &report.reference {
        fact("Compared with", file_name(reference));
    }
    fact(
        "File",
        format!(
            "{} bytes, SHA-256 {}…",
            thousands(report.file_bytes),
            &report.sha256[..report.sha256.len().min(16)]
        ),
    );
    facts
}

fn provenance(made: &Provenance) -> String {
    let bits = match (made.weight_bits, made.activation_bits) {
        (weights, activations) if weights == activations => format!("{weights} bits"),
        (weights, activations) => format!("weights {weights} bits, activations {activations} bits"),
    };
    let groups = match made.groups {
        1 => "1 group".to_owned(),
        groups => format!("{groups} groups"),
    };
    let bn = match made.bn_images {
        0 => "BN as in the float model".to_owned(),
        images => format!("BN re-estimated on {}", thousands(images as u64)),
    };
    format!(
        "{}, {bits}, {groups}, calibrated on {} images, {bn}, seed {}",
        made.method,
        thousands(made.calibration_images as u64),
        made.seed
    )
}

fn shares_text(shares: WeightShares) -> String {
    let WeightShares {
        below,
        inside,
        above,
    } = shares;
    let [below, inside, above] = [below, inside, above].map(percent);
    format!("{below} below, {inside} inside, {above} above the activations' range")
}

fn layer(distribution: &Distribution, report: &LayerReport) -> Layer {
    let scales: Vec<String> = distribution
        .scales
        .iter()
        .map(|&s| number(f64::from(s)))
        .collect();
    Layer {
        node: distribution.node.clone(),
        shape: format!(
            "{}x{}, {} → {} channels, {} weights",
            report.kernel[0],
            report.kernel[1],
            report.in_channels,
            report.out_channels,
            thousands(report.weights as u64)
        ),
        chart: chart::distribution(distribution),
        shares: report.weight_shares.map(shares_text).unwrap_or_default(),
        scales: scales.join(", "),
        codes: distribution.codes.as_ref().map(|codes| Codes {
            chart: chart::codes(codes),
            note: format!(
                "{}-bit codes; {} of the weights have the first or the last one.",
                codes.bits,
                percent(codes.saturated)
            ),
        }),
    }
}

fn sensitivities(report: &SensitivityReport) -> Sensitivities {
    let sensitivity = &report.sensitivity;
    let chart = |title, note: &str, unit, value: fn(&LayerSensitivity) -> Option<f64>| {
        let rows: Vec<(String, Option<f64>)> = sensitivity
            .layers
            .iter()
            .map(|layer| (layer.node.clone(), value(layer)))
            .collect();
        Chart {
            title,
            note: note.to_owned(),
            svg: chart::bars(title, unit, &rows),
            legend_beside: false,
        }
    };
    let (snr, kl) = (
        "signal-to-noise ratio (dB)",
        "Kullback-Leibler divergence (nats)",
    );
    let charts = vec![
        chart(
            "At the layer's output",
            "Signal about each channel's mean; the layer's input is the float one. Longer is better.",
            snr,
            |layer| layer.output_snr_db,
        ),
        chart(
            "At the logits",
            "Logits about their mean over the classes. Longer is better.",
            snr,
            |layer| layer.as_is.logits_snr_db,
        ),
        chart(
            "Divergence of the prediction",
            "From the float network's softmax. Shorter is better.",
            kl,
            |layer| Some(layer.as_is.kl),
        ),
        chart(
            "At the layer's output, offsets removed",
            "Without each channel's mean error, which BN re-estimation absorbs. Longer is better.",
            snr,
            |layer| layer.centred_output_snr_db,
        ),
        chart(
            "At the logits, offsets removed",
            "What is left after BN re-estimation or a bias correction. Longer is better.",
            snr,
            |layer| layer.centred.logits_snr_db,
        ),
        chart(
            "Divergence, offsets removed",
            "What is left after BN re-estimation or a bias correction. Shorter is better.",
            kl,
            |layer| Some(layer.centred.kl),
        ),
    ];
    let db = |value: Option<f64>| match value {
        Some(value) => format!("{value:.1}").replace('-', "−"),
        None => "–".to_owned(),
    };
    let change = |effect: &Effect| match (sensitivity.float_top1, effect.top1) {
        (Some(float), Some(top1)) => format!("{:+.2}", 100.0 * (top1 - float)).replace('-', "−"),
        _ => "–".to_owned(),
    };
    let rows = sensitivity.layers.iter().map(|layer| {
        let mut cells = vec![layer.node.clone()];
        for (output, effect) in [
            (layer.output_snr_db, &layer.as_is),
            (layer.centred_output_snr_db, &layer.centred),
        ] {
            cells.extend([
                db(output),
                db(effect.logits_snr_db),
                number(effect.kl),
                percent(effect.top1_agreement),
                change(effect),
            ]);
        }
        cells
    });
    Sensitivities {
        quantization: provenance(&report.quantization),
        images: thousands(sensitivity.images as u64),
        float_top1: sensitivity.float_top1.map(percent).unwrap_or_default(),
        charts,
        rows: rows.collect(),
    }
}

/// Number of colours that the page has.
const COLOURS: usize = 6;

/// How many points below the float accuracy the magnified chart shows.
const NEAR: f64 = 0.05;

fn sweep(table: &SweepTable) -> Sweep {
    // From many bits to few, as the loss grows.
    let mut widths: Vec<(u8, u8, String)> = table
        .rows
        .iter()
        .map(|row| (row.weight_bits, row.activation_bits, row.bits()))
        .collect();
    widths.sort_by(|a, b| b.cmp(a));
    widths.dedup();
    let columns: Vec<String> = widths.into_iter().map(|(.., bits)| bits).collect();
    let varied = table.varies_in_images();
    let mut methods: Vec<(String, usize, usize)> = Vec::new();
    let method = |row: &SweepRow| (row.label(), row.groups, row.calibration_images);
    for row in &table.rows {
        if !methods.contains(&method(row)) {
            methods.push(method(row));
        }
    }
    let (mut series, mut legend) = (Vec::new(), Vec::new());
    for (i, wanted) in methods.iter().enumerate() {
        let (name, groups, images) = wanted;
        for bn in [true, false] {
            let rows = table.rows.iter().filter(|row| method(row) == *wanted);
            let mut points: Vec<Point> = rows
                .filter_map(|row| {
                    // Simulation runs every model: its line has no holes.
                    let top1 = row.figures(SweepEngine::Simulated, bn)?.top1;
                    let column = columns.iter().position(|c| *c == row.bits())?;
                    let share = [top1.mean, top1.min, top1.max];
                    Some(Point { column, share })
                })
                .collect();
            if points.is_empty() {
                continue;
            }
            points.sort_by_key(|point| point.column);
            let colour = i % COLOURS;
            let dash = if bn { "" } else { " dashed" };
            let groups = match groups {
                1 => "1 group".to_owned(),
                groups => format!("{groups} groups"),
            };
            let kept = if bn { "" } else { ", BN kept" };
            let images = match varied {
                true => format!(", {} images", thousands(*images as u64)),
                false => String::new(),
            };
            legend.push(Key {
                mark: Mark::Line,
                class: format!("series c{colour}{dash}"),
                name: format!("{name}, {groups}{images}{kept}"),
            });
            series.push(Series {
                colour,
                dashed: !bn,
                points,
            });
        }
    }
    let mut charts = sweep_charts(table, &columns, &series);
    if let Some(svg) = pareto::chart(table) {
        let model = table.energy_model.as_deref().unwrap_or_default();
        charts.push(Chart {
            title: "Accuracy against energy",
            note: format!(
                "All operations per image, priced with {model}; accuracy with each method's own treatment of BN, on \
                 integers where possible."
            ),
            svg,
            legend_beside: false,
        });
    }
    Sweep {
        images: thousands(table.float.images as u64),
        charts,
        legend,
        rows: sweep_rows(table),
    }
}

fn sweep_charts(table: &SweepTable, columns: &[String], series: &[Series]) -> Vec<Chart> {
    let float = table.float.top1;
    let shares = || series.iter().flat_map(|s| &s.points).map(|p| p.share);
    let lowest = shares().fold(float, |low, share| low.min(share[1]));
    let highest = shares().fold(float, |high, share| high.max(share[2]));
    let margin = (0.08 * (highest - lowest)).max(0.002);
    let chart = |title, note: String, range| Chart {
        title,
        note,
        svg: chart::lines(title, columns, series, float, range),
        legend_beside: true,
    };
    let mut charts = vec![chart(
        "Accuracy against bits",
        "Simulated engine; dashed: without BN re-estimation.".to_owned(),
        [(lowest - margin).max(0.0), (highest + margin).min(1.02)],
    )];
    let near = shares().any(|share| share[0] >= float - NEAR);
    if lowest < float - NEAR && near {
        charts.push(chart(
            "The same, magnified",
            format!(
                "Only what is within {:.0} points of the float model.",
                100.0 * NEAR
            ),
            [float - NEAR, (highest + 0.005).min(1.003)],
        ));
    }
    charts
}

fn sweep_rows(table: &SweepTable) -> Vec<Vec<String>> {
    let cell = |row: &SweepRow, engine, bn| match row.figures(engine, bn) {
        Some(figures) if figures.seeds > 1 => format!(
            "{} ({:.2}–{:.2})",
            percent(figures.top1.mean),
            100.0 * figures.top1.min,
            100.0 * figures.top1.max
        ),
        Some(figures) => percent(figures.top1.mean),
        None => "–".to_owned(),
    };
    let energy = |cost: Option<&addernet::RowCost>, of: fn(&addernet::RowCost) -> Energy| {
        cost.map_or("–".to_owned(), |cost| of(cost).to_string())
    };
    table
        .rows
        .iter()
        .map(|row| {
            let cost = row.cost.as_ref();
            vec![
                row.label(),
                row.bits(),
                row.groups.to_string(),
                thousands(row.calibration_images as u64),
                cell(row, SweepEngine::Simulated, true),
                cell(row, SweepEngine::Integer, true),
                cell(row, SweepEngine::Simulated, false),
                cell(row, SweepEngine::Integer, false),
                energy(cost, |cost| cost.arithmetic),
                energy(cost, |cost| cost.total),
                energy(cost, |cost| cost.cnn_arithmetic),
                energy(cost, |cost| cost.cnn_total),
            ]
        })
        .collect()
}
