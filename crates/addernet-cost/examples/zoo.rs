//! What the zoo's networks cost, as AdderNets and as CNNs: the tables of docs/ENERGY.md.
//!
//! `cargo run --release -p addernet-cost --example zoo [-- ENERGY_MODEL]`

use addernet_cost::{AdderForm, EnergyModel, Precision, compare};
use addernet_graph::zoo::Architecture;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1);
    let model = EnergyModel::named(name.as_deref().unwrap_or(EnergyModel::DEFAULT))?;
    println!(
        "| network | bits | multiplications, CNN | multiplications | additions | terms | arithmetic | total | weights in |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for architecture in Architecture::ALL {
        let (input, classes) = (architecture.default_input(), architecture.default_classes());
        let graph = architecture.graph(input, classes)?;
        for bits in [32, 8, 4] {
            let precision = match bits {
                32 => Precision::Float,
                bits => Precision::uniform(&graph, bits, bits, 1)?,
            };
            let cost = compare(&graph, &precision, &model, AdderForm::Difference)?;
            let (adder, cnn) = (&cost.adder, &cost.cnn);
            println!(
                "| {architecture} | {bits} | {} | {} | {} | {} of {} | {} of {} | {} of {} | {} |",
                cnn.work.taps.multiplications,
                adder.work.taps.multiplications,
                adder.work.taps.additions,
                adder.energy.taps,
                cnn.energy.taps,
                adder.energy.arithmetic,
                cnn.energy.arithmetic,
                adder.energy.total,
                cnn.energy.total,
                adder.energy.weights_in.name,
            );
        }
    }
    Ok(())
}
