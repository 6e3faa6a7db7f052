//! `addernet bench`.

mod kernels;
mod model;
#[cfg(feature = "train")]
mod train;
mod variants;

use std::time::Duration;

use clap::{Args, Subcommand};

/// Measure how fast this machine is
///
/// Examples: addernet bench kernels, addernet bench model q4.safetensors, addernet bench train --device gpu
#[derive(Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Kernels(kernels::KernelsArgs),
    Model(model::ModelArgs),
    #[cfg(feature = "train")]
    Train(train::TrainArgs),
}

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    match &args.what {
        What::Kernels(args) => kernels::run(args),
        What::Model(args) => model::run(args),
        #[cfg(feature = "train")]
        What::Train(args) => train::run(args),
    }
}

/// Billions per second.
fn giga(rate: f64) -> String {
    format!("{:.1}", rate / 1e9)
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=60.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("it must be a number of seconds from 0.001 to 60".to_owned()),
    }
}
