//! The page's section on cost.

use addernet::cost_model::{Part, PartEnergy};
use addernet::{Comparison, CostReport, Energy};

use super::super::chart;
use super::super::cost::{kib, networks, short};
use super::page::Chart;

pub(super) struct Costs {
    pub(super) input: String,
    pub(super) model: String,
    pub(super) source: String,
    pub(super) summary: String,
    pub(super) charts: Vec<Chart>,
    pub(super) rows: Vec<Vec<String>>,
}

/// The section; its charts are about the narrowest precision.
pub(super) fn costs(report: &CostReport) -> Costs {
    let model = &report.energy_model;
    let rows = networks(report).map(|(bits, name, cost)| {
        let (all, memory, energy) = (&cost.work.all, &cost.work.memory, &cost.energy);
        vec![
            bits,
            name.to_owned(),
            short(all.additions),
            short(all.multiplications),
            short(all.comparisons),
            kib(memory.model_bytes()),
            kib(memory.activation_bytes()),
            energy.taps.to_string(),
            energy.arithmetic.to_string(),
            energy.traffic.to_string(),
            energy.total.to_string(),
        ]
    });
    let last = report.precisions.last();
    Costs {
        input: report.input.to_string(),
        model: format!("{}: {}", model.name(), model.description()),
        source: model.source().to_owned(),
        summary: last.map(summary).unwrap_or_default(),
        charts: last.map(charts).unwrap_or_default(),
        rows: rows.collect(),
    }
}

fn bits(comparison: &Comparison) -> String {
    match comparison.bits.as_str() {
        "32" => "In floating point".to_owned(),
        bits => format!("At {bits} bits"),
    }
}

fn summary(comparison: &Comparison) -> String {
    let (adder, cnn) = (&comparison.adder.energy, &comparison.cnn.energy);
    let share =
        |a: Energy, b: Energy| 100.0 * a.picojoules() / b.picojoules().max(f64::MIN_POSITIVE);
    format!(
        "{} its operations take {}, {:.0} % of the CNN's {}; with memory traffic {}, {:.0} % of {}.",
        bits(comparison),
        adder.arithmetic,
        share(adder.arithmetic, cnn.arithmetic),
        cnn.arithmetic,
        adder.total,
        share(adder.total, cnn.total),
        cnn.total,
    )
}

fn charts(comparison: &Comparison) -> Vec<Chart> {
    let at = bits(comparison);
    let nanojoules = |energy: Energy| energy.picojoules() / 1e3;
    let mut layers = Vec::new();
    let mut shares = Vec::new();
    for (node, energy) in comparison.adder.nodes() {
        if !energy.taps.picojoules().is_normal() {
            continue;
        }
        layers.push((node.node.clone(), Some(nanojoules(energy.arithmetic))));
        let cnn = &comparison.cnn;
        let beside = cnn.nodes().find(|(other, _)| other.node == node.node);
        if let (true, Some((_, cnn))) = (node.adder, beside) {
            let share = energy.arithmetic.picojoules() / cnn.arithmetic.picojoules();
            shares.push((node.node.clone(), Some(100.0 * share)));
        }
    }
    let part = |part: Part| {
        let found = comparison
            .adder
            .energy
            .parts
            .iter()
            .find(|p| p.part == part);
        found.map(|PartEnergy { energy, .. }| (part.name().to_owned(), Some(nanojoules(*energy))))
    };
    let parts: Vec<_> = Part::ALL.into_iter().filter_map(part).collect();
    let chart = |title, note: &str, unit, rows: &[_]| Chart {
        title,
        note: note.to_owned(),
        svg: chart::bars(title, unit, rows),
        legend_beside: false,
    };
    vec![
        chart(
            "Energy of the layers",
            &format!("{at}; all operations of a layer, without memory traffic."),
            "energy (nJ)",
            &layers,
        ),
        chart(
            "Beside the same layer of the CNN",
            &format!("{at}; all operations, without memory traffic. Shorter is better."),
            "share of the CNN's energy (%)",
            &shares,
        ),
        chart(
            "What the energy is for",
            &format!("{at}; taps are the terms |x − w| and x·w, which papers count alone."),
            "energy (nJ)",
            &parts,
        ),
    ]
}
