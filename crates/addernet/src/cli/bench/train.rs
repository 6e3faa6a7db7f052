//! `addernet bench train`.

use std::time::Duration;

use addernet::train::bench::{LayerTime, Peak, StepTime, layer_times, peak, step_time};
use addernet::train::{Recipe, TrainDevice, TrainOptions, initial_model};
use addernet::{Architecture, kernels};
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::super::args::{self, count, threads};
use super::super::output;
use super::super::progress::style;
use super::super::table::table;
use super::super::train::open_device;
use super::{giga, seconds};

const EXAMPLES: &str = "\
Examples:
  addernet bench train
  addernet bench train --device gpu --batch 256 --json
  addernet bench train --arch resnet18 --batch 8 --threads 2";

/// Training images of CIFAR-10.
const EPOCH: usize = 50_000;

/// Measure a training step on the CPU or a GPU
///
/// Prints the time of a step in floating point and, from it, of an epoch of CIFAR-10's 50,000 images (on a GPU, making the
/// batches goes on meanwhile). Then for each shape of adder layer the three passes alone: billions of terms |x − w| per
/// second, beside what the device reaches on registers for multiply-add, its peak, and for subtract-absolute-add. A term of
/// the forward pass and of the input's gradient takes two instructions, so that half the peak is their limit; one of the
/// weights' gradient takes one.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct TrainArgs {
    /// Where to train: cpu or gpu
    #[arg(long, value_name = "DEVICE", value_parser = args::device(), default_value = "cpu")]
    device: TrainDevice,

    /// Network
    #[arg(long, value_name = "NAME", value_parser = args::architecture(), default_value = "resnet20")]
    arch: Architecture,

    /// Images per step
    #[arg(long, value_name = "N", value_parser = count(2), default_value = "256")]
    batch: usize,

    /// Number of threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = threads())]
    threads: Option<usize>,

    /// Variant of the L1 operator on the CPU [default: $ADDERNET_KERNEL, or the best one for this CPU]
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,

    /// Seconds per measurement
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "1")]
    min_time: Duration,

    /// Print one JSON object on standard output, and nothing else there
    #[arg(long)]
    json: bool,
}

/// The JSON object. Elements are terms |x − w|, or the products that take their place in ∂w.
#[derive(Serialize)]
struct Report {
    network: &'static str,
    batch: usize,
    /// `cpu`, or the GPU's name and interface.
    device: String,
    threads: usize,
    /// On the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<&'static str>,
    step_seconds: f64,
    forward_seconds: f64,
    images_per_second: f64,
    /// Of 50,000 images.
    epoch_seconds: f64,
    /// Products added up on registers, per second: the peak.
    fma_peak_per_second: f64,
    l1_peak_per_second: f64,
    /// Of all adder layers together.
    passes: [Pass; 3],
    layers: Vec<LayerReport>,
}

#[derive(Serialize)]
struct Pass {
    pass: &'static str,
    seconds: f64,
    elements_per_second: f64,
    share_of_fma_peak: f64,
}

/// One shape.
#[derive(Serialize)]
struct LayerReport {
    /// The first layer of this shape.
    layer: String,
    /// How many layers have it.
    layers: usize,
    /// Batch, height, width, channels.
    input: [usize; 4],
    out_channels: usize,
    kernel_size: [usize; 2],
    stride: [usize; 2],
    passes: [Pass; 3],
}

pub(super) fn run(args: &TrainArgs) -> anyhow::Result<()> {
    let runtime = args::RunArgs {
        threads: args.threads,
        kernel: args.kernel.clone(),
        seed: 0,
        json: args.json,
    };
    let runtime = runtime.start()?;
    let options = TrainOptions {
        kernel: kernels::select(args.kernel.as_deref())?,
        device: open_device(args.device)?,
        ..TrainOptions::default()
    };
    let report = measure(args, options, runtime.threads)?;
    if args.json {
        output::json(&report)
    } else {
        output::text(&report.to_string())
    }
}

fn measure(args: &TrainArgs, options: TrainOptions, threads: usize) -> anyhow::Result<Report> {
    let mut recipe = Recipe::load("cifar10", &[""; 0])?;
    recipe.architecture = args.arch;
    recipe.batch = args.batch;
    let graph = args
        .arch
        .graph(args.arch.default_input(), args.arch.default_classes())?;
    let bar = ProgressBar::new(4).with_style(style("{pos}/{len}"));
    let next = |name: &'static str| {
        bar.set_message(name);
        bar.tick();
    };
    next("limits");
    let before = peak(options.device, options.kernel, args.min_time)?;
    bar.inc(1);
    next("step");
    let model = initial_model(graph.clone(), recipe.seed)?;
    let step = step_time(&recipe, &model, options, args.min_time)?;
    bar.inc(1);
    next("layers");
    let layers = layer_times(&graph, args.batch, options, args.min_time)?;
    bar.inc(1);
    next("limits");
    // A limit is what is reached at best: whatever else ran on the machine meanwhile may have slowed down one of the two
    // measurements.
    let after = peak(options.device, options.kernel, args.min_time)?;
    bar.finish_and_clear();
    let peak = Peak {
        products: before.products.max(after.products),
        absolute_differences: before.absolute_differences.max(after.absolute_differences),
    };
    report(args, options, threads, peak, step, &layers)
}

fn report(
    args: &TrainArgs,
    options: TrainOptions,
    threads: usize,
    peak: Peak,
    step: StepTime,
    layers: &[LayerTime],
) -> anyhow::Result<Report> {
    let all =
        |of: fn(&LayerTime) -> f64| -> f64 { layers.iter().map(|l| of(l) * l.layers as f64).sum() };
    let elements = all(|l| l.geometry.elements() as f64);
    let passes = |[forward, grad_input, grad_weight]: [f64; 3], elements: f64| {
        let pass = |pass, seconds: f64| Pass {
            pass,
            seconds,
            elements_per_second: elements / seconds,
            share_of_fma_peak: elements / seconds / peak.products,
        };
        [
            pass("forward", forward),
            pass("grad_input", grad_input),
            pass("grad_weight", grad_weight),
        ]
    };
    let images_per_second = args.batch as f64 / step.step;
    Ok(Report {
        network: args.arch.name(),
        batch: args.batch,
        device: options.device.description()?,
        threads,
        kernel: (options.device == TrainDevice::Cpu).then(|| options.kernel.name()),
        step_seconds: step.step,
        forward_seconds: step.forward,
        images_per_second,
        epoch_seconds: EPOCH as f64 / images_per_second,
        fma_peak_per_second: peak.products,
        l1_peak_per_second: peak.absolute_differences,
        passes: passes(
            [
                all(|l| l.forward),
                all(|l| l.grad_input),
                all(|l| l.grad_weight),
            ],
            elements,
        ),
        layers: layers
            .iter()
            .map(|layer| {
                let g = &layer.geometry;
                LayerReport {
                    layer: layer.node.clone(),
                    layers: layer.layers,
                    input: [g.batch(), g.in_height(), g.in_width(), g.in_channels()],
                    out_channels: g.out_channels(),
                    kernel_size: g.kernel(),
                    stride: g.stride(),
                    passes: passes(
                        [layer.forward, layer.grad_input, layer.grad_weight],
                        g.elements() as f64,
                    ),
                }
            })
            .collect(),
    })
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let milliseconds = |seconds: f64| format!("{:.1} ms", 1e3 * seconds);
        let on = match self.kernel {
            Some(kernel) => format!("{} kernel, {} thread(s)", kernel, self.threads),
            None => self.device.clone(),
        };
        writeln!(
            f,
            "{}, {} images per step, on {on}",
            self.network, self.batch
        )?;
        writeln!(
            f,
            "step {} (forward {}), {:.0} images per second, {:.1} s per epoch of CIFAR-10\n",
            milliseconds(self.step_seconds),
            milliseconds(self.forward_seconds),
            self.images_per_second,
            self.epoch_seconds
        )?;
        writeln!(
            f,
            "Limits, billions per second: multiply-add {}, |x − w| {}\n",
            giga(self.fma_peak_per_second),
            giga(self.l1_peak_per_second)
        )?;
        writeln!(
            f,
            "Adder layers alone, billions of terms per second (share of multiply-add's limit):\n"
        )?;
        let headings = ["layer", "input", "shape", "layers", "y", "∂x", "∂w"];
        let all = std::iter::once("all".to_owned())
            .chain(std::iter::repeat_n(String::new(), 3))
            .chain(self.passes.iter().map(Pass::cell))
            .collect();
        let rows = self.layers.iter().map(LayerReport::row);
        f.write_str(&table(headings, rows.chain([all]), 3))
    }
}

impl Pass {
    fn cell(&self) -> String {
        format!(
            "{} ({:.0} %)",
            giga(self.elements_per_second),
            100.0 * self.share_of_fma_peak
        )
    }
}

impl LayerReport {
    fn row(&self) -> Vec<String> {
        let ([batch, height, width, channels], [kernel, _], [stride, _]) =
            (self.input, self.kernel_size, self.stride);
        let shape = [
            self.layer.clone(),
            format!("{batch}x{height}x{width}x{channels}"),
            format!("{kernel}x{kernel}/{stride} → {}", self.out_channels),
            self.layers.to_string(),
        ];
        shape
            .into_iter()
            .chain(self.passes.iter().map(Pass::cell))
            .collect()
    }
}
