//! Costs on the command line: flags, and tables for people.

use std::collections::HashMap;

use addernet::cost_model::{Counts, NetworkCost, NodeEnergy, NodeWork, Part};
use addernet::{
    AdderForm, AnyModel, Comparison, CostOptions, CostReport, Energy, EnergyModel, cost,
};
use clap::Args;

use super::args;
use super::output;
use super::table::table;

/// What operations and memory accesses cost.
#[derive(Args)]
pub(crate) struct EnergyArgs {
    /// Energies of operations and memory accesses: horowitz-2014 (45 nm, as papers count), horowitz-2014-exact
    /// (adders as wide as the sums), or a TOML file of your own (docs/ENERGY.md) [default: horowitz-2014]
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) energy_model: Option<String>,
}

impl EnergyArgs {
    pub(crate) fn open(&self) -> anyhow::Result<EnergyModel> {
        let name = self.energy_model.as_deref();
        Ok(EnergyModel::named(name.unwrap_or(EnergyModel::DEFAULT))?)
    }
}

/// What to count.
#[derive(Args)]
pub(crate) struct CostArgs {
    /// Count operations, bytes and energy per image, beside the same network as a CNN
    #[arg(long)]
    pub(crate) cost: bool,

    #[command(flatten)]
    energy: EnergyArgs,

    /// Also count as if adder layers had so many bits, separated by commas [default for float models: 8,4]
    #[arg(long, value_name = "LIST", value_parser = clap::value_parser!(u8).range(2..=8),
        value_delimiter = ',', requires = "cost")]
    cost_bits: Option<Vec<u8>>,

    /// Groups of different scales per layer at --cost-bits [default: 1]
    #[arg(long, value_name = "G", value_parser = args::groups(), requires = "cost")]
    cost_groups: Option<usize>,

    /// Count for images of this height and width instead of the network's own
    #[arg(long, value_name = "HxW", value_parser = size, requires = "cost")]
    cost_image: Option<[usize; 2]>,

    /// Count Σ|x − w| on integers as 2Σmax(x, w) − Σx − Σw, as CPUs with int8 dot products compute it
    #[arg(long, requires = "cost")]
    cost_maximum_form: bool,
}

impl CostArgs {
    /// Whether a flag that only `--cost` gives a meaning was given alone.
    pub(crate) fn lacks_cost(&self) -> bool {
        !self.cost && self.energy.energy_model.is_some()
    }

    pub(crate) fn report(&self, model: &AnyModel) -> anyhow::Result<Option<CostReport>> {
        if !self.cost {
            return Ok(None);
        }
        let supposed = match model {
            AnyModel::Float(_) => vec![8, 4],
            AnyModel::Quantized(_) => Vec::new(),
        };
        let options = CostOptions {
            form: match self.cost_maximum_form {
                true => AdderForm::Maximum,
                false => AdderForm::Difference,
            },
            image: self.cost_image,
            bits: self.cost_bits.clone().unwrap_or(supposed),
            groups: self.cost_groups.unwrap_or(1),
            ..CostOptions::new(self.energy.open()?)
        };
        Ok(Some(cost(model, &options)?))
    }
}

/// `32x48` as height and width.
fn size(text: &str) -> Result<[usize; 2], String> {
    let parsed = text.split_once(['x', 'X']).and_then(|(height, width)| {
        let extents = [height.parse().ok()?, width.parse().ok()?];
        extents
            .iter()
            .all(|e| (1..=1 << 20).contains(e))
            .then_some(extents)
    });
    parsed.ok_or_else(|| "it must be a height and a width in pixels, as in 224x224".to_owned())
}

/// The tables of a report.
pub(crate) fn tables(report: &CostReport) -> String {
    let model = &report.energy_model;
    let mut text = format!(
        "Cost per image of {}, beside the same network as a CNN\nenergies: {} ({})\n\n",
        report.input,
        model.name(),
        model.description()
    );
    text += &table(
        [
            "bits",
            "network",
            "additions",
            "multiplications",
            "comparisons",
            "terms",
            "arithmetic",
            "memory",
            "total",
        ],
        networks(report).map(|(bits, name, cost)| {
            let (all, energy) = (&cost.work.all, &cost.energy);
            vec![
                bits,
                name.to_owned(),
                short(all.additions),
                short(all.multiplications),
                short(all.comparisons),
                energy.taps.to_string(),
                energy.arithmetic.to_string(),
                energy.traffic.to_string(),
                energy.total.to_string(),
            ]
        }),
        2,
    );
    text += "\n\nterms: the |x − w| and x·w of all layers, what papers count; arithmetic: all operations\n\n";
    text += &table(
        [
            "bits",
            "network",
            "model KiB",
            "kept in",
            "moved KiB",
            "peak KiB",
            "kept in",
        ],
        networks(report).map(|(bits, name, cost)| {
            let (memory, energy) = (&cost.work.memory, &cost.energy);
            vec![
                bits,
                name.to_owned(),
                kib(memory.model_bytes()),
                energy.weights_in.name.clone(),
                kib(memory.activation_bytes()),
                kib(cost.work.peak_activation_bytes),
                energy.activations_in.name.clone(),
            ]
        }),
        2,
    );
    text += "\n\nmoved: activations written and read; peak: activations alive at the same time\n\n";
    text += &table(
        [
            "bits",
            "network",
            "terms",
            "rescale",
            "requantize",
            "box filter",
            "ReLU",
            "residual",
            "pooling",
        ],
        networks(report).map(|(bits, name, cost)| {
            let energies = Part::ALL.map(|part| match cost.part(part) {
                none if none == Energy::default() => "–".to_owned(),
                energy => energy.to_string(),
            });
            [vec![bits, name.to_owned()], energies.to_vec()].concat()
        }),
        2,
    );
    // The narrowest says most; of a quantized model it is its own unless others were asked for.
    if let Some(comparison) = report.precisions.last() {
        text += &format!("\n\n{}", layers(comparison));
    }
    text
}

/// The networks of a report with their bits and names.
pub(crate) fn networks(
    report: &CostReport,
) -> impl Iterator<Item = (String, &'static str, &NetworkCost)> {
    report.precisions.iter().flat_map(|comparison| {
        [("AdderNet", &comparison.adder), ("CNN", &comparison.cnn)]
            .map(|(name, cost)| (comparison.bits.clone(), name, cost))
    })
}

fn layers(comparison: &Comparison) -> String {
    let bits = match comparison.bits.as_str() {
        "32" => "in floating point".to_owned(),
        bits => format!("at {bits} bits"),
    };
    let taps = |node: &NodeWork| node.work.iter().any(|w| w.part == Part::Taps);
    // A node may have nothing to do in one of the networks.
    let cnn: HashMap<&str, &NodeEnergy> = (comparison.cnn.nodes())
        .map(|(node, energy)| (node.node.as_str(), energy))
        .collect();
    let cells = |name: String, counts: Counts, energies: [Energy; 4]| {
        let counts = [counts.additions, counts.multiplications, counts.comparisons].map(short);
        let energies = energies.map(|energy| energy.to_string());
        [&[name][..], &counts, &energies].concat()
    };
    let energies = |node: &NodeWork, adder: &NodeEnergy| {
        let beside = cnn.get(node.node.as_str());
        let [arithmetic, total] =
            beside.map_or([Energy::default(); 2], |e| [e.arithmetic, e.total]);
        [adder.arithmetic, arithmetic, adder.total, total]
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut others = (Vec::new(), [Energy::default(); 4]);
    for (node, adder) in comparison.adder.nodes() {
        let energies = energies(node, adder);
        if taps(node) {
            rows.push(cells(node.node.clone(), node.counts, energies));
            continue;
        }
        others.0.extend(&node.work);
        for (sum, energy) in others.1.iter_mut().zip(energies) {
            *sum = *sum + energy;
        }
    }
    rows.push(cells(
        "all others".to_owned(),
        Counts::of(others.0),
        others.1,
    ));
    format!(
        "Layers {bits}, with memory in the last two columns\n\n{}",
        table(
            [
                "layer",
                "additions",
                "multiplications",
                "comparisons",
                "AdderNet",
                "CNN",
                "AdderNet",
                "CNN"
            ],
            rows,
            1
        )
    )
}

/// 81183360 as `81.18M`.
pub(crate) fn short(number: u64) -> String {
    for (unit, worth) in [("T", 1e12), ("G", 1e9), ("M", 1e6), ("K", 1e4)] {
        if number as f64 >= worth {
            let worth = if unit == "K" { 1e3 } else { worth };
            return format!("{:.2}{unit}", number as f64 / worth);
        }
    }
    output::thousands(number)
}

/// Bytes in KiB.
pub(crate) fn kib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1024.0)
}
