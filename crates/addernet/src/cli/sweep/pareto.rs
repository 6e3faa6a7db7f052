//! A sweep's accuracies against energy.

use addernet::SweepTable;

use super::super::chart::{Choice, Method, pareto};

/// Number of colours that charts have.
const COLOURS: usize = 6;
/// How far below the float accuracy the chart reaches; what is worse stands at its lower edge.
const REACH: f64 = 0.08;

/// The chart; none if no row has a cost.
///
/// Each row's accuracy is that of its method's own recipe ([`addernet::SweepRow::recommended`]), its energy that of all
/// operations per image.
pub(crate) fn chart(table: &SweepTable) -> Option<String> {
    let varied = table.varies_in_images();
    let mut methods: Vec<Method> = Vec::new();
    for row in &table.rows {
        let (Some(cost), Some(figures)) = (&row.cost, row.recommended()) else {
            continue;
        };
        let groups = match row.groups {
            1 => String::new(),
            groups => format!(", {groups} groups"),
        };
        let images = match varied {
            true => format!(", {} images", row.calibration_images),
            false => String::new(),
        };
        let name = format!("{}{groups}{images}", row.label());
        let choice = Choice {
            bits: row.bits(),
            microjoules: cost.arithmetic.microjoules(),
            share: figures.top1.mean,
        };
        match methods.iter_mut().find(|method| method.name == name) {
            Some(method) => method.choices.push(choice),
            None => methods.push(Method {
                colour: methods.len() % COLOURS,
                name,
                choices: vec![choice],
            }),
        }
    }
    if methods.is_empty() {
        return None;
    }
    let float = table.float.top1;
    let shares = || methods.iter().flat_map(|m| &m.choices).map(|c| c.share);
    // The worst of those within reach, so that they fill the chart.
    let lowest = shares()
        .filter(|share| *share >= float - REACH)
        .fold(float, f64::min);
    Some(pareto(
        "Accuracy against energy",
        "energy of all operations per image (µJ)",
        &methods,
        float,
        lowest,
    ))
}
