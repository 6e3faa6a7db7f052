//! How long a training step takes: `cargo run --release -p addernet-train --example step_time -- resnet20 32 1`
//! (network, images per step, threads; then `--json` for one JSON object).
//!
//! Prints the medians of ten steps in milliseconds, split into the passes, and beside them the adder layers' kernels alone, layer by layer,
//! and the other operations, kind by kind.

mod operations;

use std::time::Instant;

use addernet_graph::{exec::geometry, zoo::Architecture};
use addernet_kernels::{WeightGradient, select};
use addernet_train::{Network, NetworkOptions, initial_model};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Distribution, Int, Tensor};
use operations::operations;
use serde::Serialize;

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
    let [forward, whole] = step(architecture, batch)?;
    let layers = kernels(architecture, batch)?;
    let operations = operations(architecture, batch)?;
    let sum = |of: fn(&Layer) -> f64| layers.iter().map(of).sum::<f64>();
    let [kernel_forward, grad_input, grad_weight] = [
        sum(|l| l.forward),
        sum(|l| l.grad_input),
        sum(|l| l.grad_weight),
    ];
    if argument(3, "") == "--json" {
        let report = serde_json::json!({
            "network": architecture.name(),
            "batch": batch,
            "threads": threads,
            "kernel": select(None)?.name(),
            "step_ms": whole,
            "forward_ms": forward,
            "kernels_ms": {
                "forward": kernel_forward,
                "grad_input": grad_input,
                "grad_weight": grad_weight,
            },
            "layers_ms": layers,
            "operations_ms": operations,
        });
        println!("{report}");
        return Ok(());
    }
    println!(
        "{architecture}, batch {batch}: forward {forward:.1} ms, backward {:.1} ms, together {whole:.1} ms",
        whole - forward
    );
    println!(
        "kernels alone ({}): forward {kernel_forward:.1} ms, grad_input {grad_input:.1} ms, grad_weight {grad_weight:.1} ms",
        select(None)?.name()
    );
    println!(
        "everything else: {:.1} ms\n",
        whole - kernel_forward - grad_input - grad_weight
    );
    println!("{:<24} forward  grad_input  grad_weight  (ms)", "layer");
    for layer in &layers {
        let Layer {
            node,
            forward,
            grad_input,
            grad_weight,
        } = layer;
        println!("{node:<24} {forward:7.2} {grad_input:11.2} {grad_weight:12.2}");
    }
    println!("\n{:<24} nodes  forward  backward  (ms)", "operation");
    for operation in &operations {
        println!(
            "{:<24} {:5} {:8.2} {:9.2}",
            operation.kind, operation.nodes, operation.forward, operation.backward
        );
    }
    Ok(())
}

/// Milliseconds of an adder layer's kernels.
#[derive(Serialize)]
struct Layer {
    node: String,
    forward: f64,
    grad_input: f64,
    grad_weight: f64,
}

/// The median of ten runs after a first one, in milliseconds.
fn median(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let mut times = Vec::new();
    for _ in 0..10 {
        let start = Instant::now();
        run()?;
        times.push(1e3 * start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok((times[4] + times[5]) / 2.0)
}

/// Milliseconds of a forward pass, and of one with its backward pass.
fn step(architecture: Architecture, batch: usize) -> Result<[f64; 2]> {
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
    let forward = median(|| {
        drop(network.forward(images.clone()));
        Ok(())
    })?;
    let whole = median(|| {
        let logits = network.forward(images.clone());
        drop(loss.forward(logits, labels.clone()).backward());
        Ok(())
    })?;
    Ok([forward, whole])
}

/// The kernels of all adder layers, alone.
fn kernels(architecture: Architecture, batch: usize) -> Result<Vec<Layer>> {
    let kernel = select(None)?;
    let graph = architecture.graph(architecture.default_input(), architecture.default_classes())?;
    let mut layers = Vec::new();
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
        let forward = median(|| {
            let packed = kernel.pack(geometry.weight_shape(), &w)?;
            Ok(kernel.forward(&geometry, &x, &packed, &mut y)?)
        })?;
        let mut grad_x = x.clone();
        let grad_input = median(|| Ok(kernel.grad_input(&geometry, &x, &w, &g, &mut grad_x)?))?;
        let mut grad_w = w.clone();
        let kind = WeightGradient::FullPrecision;
        let grad_weight =
            median(|| Ok(kernel.grad_weight(&geometry, &x, &w, &g, kind, &mut grad_w)?))?;
        layers.push(Layer {
            node: node.name().to_owned(),
            forward,
            grad_input,
            grad_weight,
        });
    }
    Ok(layers)
}
