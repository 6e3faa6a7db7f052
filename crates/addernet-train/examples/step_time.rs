//! How long a training step takes: `cargo run --release -p addernet-train --example step_time -- resnet20 32 1`
//! (network, images per step, threads).
//!
//! Prints the fastest of ten steps in milliseconds, split into the passes, and beside it the adder layers' kernels alone.

use std::time::Instant;

use addernet_graph::{exec::geometry, zoo::Architecture};
use addernet_kernels::{WeightGradient, select};
use addernet_train::{Network, NetworkOptions, initial_model};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Distribution, Int, Tensor};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |i: usize, default: &str| arguments.get(i).map_or(default, |v| v).to_owned();
    let architecture: Architecture = argument(0, "resnet20").parse()?;
    let batch: usize = argument(1, "32").parse()?;
    let threads: usize = argument(2, "1").parse()?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;
    step(architecture, batch)?;
    kernels(architecture, batch)
}

/// The fastest of ten runs, in milliseconds.
fn fastest(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(1e3 * best)
}

fn step(architecture: Architecture, batch: usize) -> Result<()> {
    let device = Device::flex().autodiff();
    let input = architecture.default_input();
    let graph = architecture.graph(input, architecture.default_classes())?;
    let network = Network::from_model(
        &initial_model(graph, 0)?,
        NetworkOptions::default(),
        &device,
    )?;
    let shape = [batch, input.height, input.width, input.channels];
    let images = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    let labels = Tensor::<1, Int>::zeros([batch], &device);
    let loss = CrossEntropyLossConfig::new().init(&device);
    let forward = fastest(|| {
        drop(network.forward(images.clone()));
        Ok(())
    })?;
    let whole = fastest(|| {
        let logits = network.forward(images.clone());
        drop(loss.forward(logits, labels.clone()).backward());
        Ok(())
    })?;
    println!(
        "{architecture}, batch {batch}: forward {forward:.1} ms, backward {:.1} ms, together {whole:.1} ms",
        whole - forward
    );
    Ok(())
}

fn kernels(architecture: Architecture, batch: usize) -> Result<()> {
    let kernel = select(None)?;
    let graph = architecture.graph(architecture.default_input(), architecture.default_classes())?;
    let mut sums = [0.0; 3];
    for (_, node, attributes) in graph.adder_nodes() {
        let from = graph.nodes()[node.inputs()[0]].shape();
        let geometry = geometry(attributes, batch, from.height, from.width)?;
        let values = |n: usize| -> Vec<f32> { (0..n).map(|i| (i as f32 * 0.37).sin()).collect() };
        let (x, w, g) = (
            values(geometry.in_len()),
            values(geometry.weight_len()),
            values(geometry.out_len()),
        );
        let mut y = g.clone();
        sums[0] += fastest(|| {
            let packed = kernel.pack(geometry.weight_shape(), &w)?;
            Ok(kernel.forward(&geometry, &x, &packed, &mut y)?)
        })?;
        let mut grad_x = x.clone();
        sums[1] += fastest(|| Ok(kernel.grad_input(&geometry, &x, &w, &g, &mut grad_x)?))?;
        let mut grad_w = w.clone();
        let kind = WeightGradient::FullPrecision;
        sums[2] += fastest(|| Ok(kernel.grad_weight(&geometry, &x, &w, &g, kind, &mut grad_w)?))?;
    }
    let [forward, input, weight] = sums;
    println!(
        "kernels alone ({}): forward {forward:.1} ms, grad_input {input:.1} ms, grad_weight {weight:.1} ms",
        kernel.name()
    );
    Ok(())
}
