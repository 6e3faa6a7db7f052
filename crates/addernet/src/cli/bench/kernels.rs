//! `addernet bench kernels`.

use std::time::Duration;

use addernet::graph::exec::geometry;
use addernet::kernels::{self, AdderKernelF32, ConvGeometry, bench, peak};
use addernet::{Architecture, Graph};
use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::super::args::threads;
use super::super::output;
use super::super::progress::style;
use super::super::table::table;
use super::{giga, seconds};

const EXAMPLES: &str = "\
Examples:
  addernet bench kernels
  addernet bench kernels --kernel avx2 --min-time 1 --json
  addernet bench kernels --threads 8";

/// Measure the variants of the L1 operator
///
/// Runs each variant that this CPU offers on the layer shapes of ResNet-20 (32x32 images) and ResNet-18
/// (224x224), one thread, and prints billions of terms |x − w| per second beside the machine's limits:
/// what the variant's instructions reach on registers alone, for subtract-absolute-add and, to compare
/// with convolutions that multiply, for multiply-add.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct KernelsArgs {
    /// Only this variant
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,

    /// Seconds per variant, layer and measurement
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "0.2")]
    min_time: Duration,

    /// Measure with N threads as well
    #[arg(long, value_name = "N", value_parser = threads())]
    threads: Option<usize>,

    /// Print one JSON object on standard output, and nothing else there
    #[arg(long)]
    json: bool,
}

/// The JSON object. Rates are terms |x − w| (or products) per second.
#[derive(Serialize)]
struct Report {
    /// One thread each.
    kernels: Vec<KernelReport>,
    measurements: Vec<Measurement>,
}

#[derive(Serialize)]
struct KernelReport {
    kernel: &'static str,
    l1_peak_per_second: f64,
    fma_peak_per_second: f64,
}

/// One layer shape, by all variants.
#[derive(Serialize)]
struct Measurement {
    network: &'static str,
    /// The first layer of this shape.
    layer: String,
    /// How many layers have it.
    layers: usize,
    /// Batch, height, width, channels.
    input: [usize; 4],
    out_channels: usize,
    kernel_size: [usize; 2],
    stride: [usize; 2],
    threads: usize,
    results: Vec<Rate>,
}

#[derive(Serialize)]
struct Rate {
    kernel: &'static str,
    elements_per_second: f64,
    /// Of the variant's own limit on so many threads.
    share_of_l1_peak: f64,
}

/// Layers of one shape.
struct Shape {
    network: &'static str,
    layer: String,
    layers: usize,
    geometry: ConvGeometry,
}

pub(super) fn run(args: &KernelsArgs) -> anyhow::Result<()> {
    let chosen: Vec<&'static dyn AdderKernelF32> = match &args.kernel {
        Some(name) => vec![kernels::select(Some(name))?],
        None => kernels::available().to_vec(),
    };
    let report = measure(&chosen, args)?;
    if args.json {
        output::json(&report)
    } else {
        output::text(&report.to_string())
    }
}

fn measure(chosen: &[&'static dyn AdderKernelF32], args: &KernelsArgs) -> anyhow::Result<Report> {
    let shapes = shapes()?;
    let thread_counts: Vec<usize> = std::iter::once(1)
        .chain(args.threads.filter(|&threads| threads > 1))
        .collect();
    let steps = 2 * chosen.len() + shapes.len() * thread_counts.len();
    let bar = ProgressBar::new(steps as u64).with_style(style("{pos}/{len}"));

    let peaks = || -> Vec<KernelReport> {
        let peak = |&kernel: &&'static dyn AdderKernelF32| {
            bar.set_message(format!("limits of {}", kernel.name()));
            let report = KernelReport {
                kernel: kernel.name(),
                l1_peak_per_second: peak::l1_elements_per_second(kernel, args.min_time),
                fma_peak_per_second: peak::fma_elements_per_second(kernel, args.min_time),
            };
            bar.inc(1);
            report
        };
        chosen.iter().map(peak).collect()
    };
    let mut kernels = peaks();
    let mut rates = Vec::new();
    for &threads in &thread_counts {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .with_context(|| format!("cannot start {threads} threads"))?;
        for shape in &shapes {
            bar.set_message(format!("{} {}", shape.network, shape.layer));
            let kernels: &[&dyn AdderKernelF32] = chosen;
            let measured = pool
                .install(|| bench::forward_throughputs(kernels, &shape.geometry, args.min_time))?;
            rates.push((threads, shape, measured));
            bar.inc(1);
        }
    }
    // A limit is what is reached at best: whatever else ran on the machine meanwhile may have slowed
    // down one of the two measurements.
    for (before, after) in kernels.iter_mut().zip(peaks()) {
        before.l1_peak_per_second = before.l1_peak_per_second.max(after.l1_peak_per_second);
        before.fma_peak_per_second = before.fma_peak_per_second.max(after.fma_peak_per_second);
    }
    let measurements = rates
        .into_iter()
        .map(|(threads, shape, rates)| shape.measurement(threads, &kernels, &rates))
        .collect();
    bar.finish_and_clear();
    Ok(Report {
        kernels,
        measurements,
    })
}

impl Shape {
    fn measurement(&self, threads: usize, kernels: &[KernelReport], rates: &[f64]) -> Measurement {
        let g = &self.geometry;
        let results = kernels
            .iter()
            .zip(rates)
            .map(|(kernel, &rate)| Rate {
                kernel: kernel.kernel,
                elements_per_second: rate,
                share_of_l1_peak: rate / (kernel.l1_peak_per_second * threads as f64),
            })
            .collect();
        Measurement {
            network: self.network,
            layer: self.layer.clone(),
            layers: self.layers,
            input: [g.batch(), g.in_height(), g.in_width(), g.in_channels()],
            out_channels: g.out_channels(),
            kernel_size: g.kernel(),
            stride: g.stride(),
            threads,
            results,
        }
    }
}

/// The different shapes of the adder layers of ResNet-20 and ResNet-18.
fn shapes() -> anyhow::Result<Vec<Shape>> {
    // As many images as evaluation takes through the network at a time.
    let networks = [(Architecture::ResNet20, 16), (Architecture::ResNet18, 1)];
    let mut shapes = Vec::new();
    for (architecture, batch) in networks {
        let graph =
            architecture.graph(architecture.default_input(), architecture.default_classes())?;
        shapes.extend(shapes_of(architecture.name(), &graph, batch)?);
    }
    Ok(shapes)
}

fn shapes_of(network: &'static str, graph: &Graph, batch: usize) -> anyhow::Result<Vec<Shape>> {
    let mut shapes: Vec<Shape> = Vec::new();
    for (_, node, attributes) in graph.adder_nodes() {
        let input = graph.nodes()[node.inputs()[0]].shape();
        let geometry = geometry(attributes, batch, input.height, input.width)?;
        match shapes.iter_mut().find(|shape| shape.geometry == geometry) {
            Some(shape) => shape.layers += 1,
            None => {
                shapes.push(Shape {
                    network,
                    layer: node.name().to_owned(),
                    layers: 1,
                    geometry,
                });
            }
        }
    }
    Ok(shapes)
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "Limits of one thread, billions per second:\n")?;
        let limits = self.kernels.iter().map(|kernel| {
            let rates = [kernel.l1_peak_per_second, kernel.fma_peak_per_second];
            std::iter::once(kernel.kernel.to_owned())
                .chain(rates.map(giga))
                .collect()
        });
        writeln!(
            f,
            "{}\n",
            table(["kernel", "|x − w|", "multiply-add"], limits, 1)
        )?;
        writeln!(
            f,
            "Billions of |x − w| per second (share of the kernel's limit):\n"
        )?;
        let headings = ["network", "layer", "input", "shape", "threads"];
        let headings = headings
            .into_iter()
            .chain(self.kernels.iter().map(|k| k.kernel));
        write!(
            f,
            "{}",
            table(headings, self.measurements.iter().map(Measurement::row), 2)
        )
    }
}

impl Measurement {
    fn row(&self) -> Vec<String> {
        let ([batch, height, width, channels], [kernel, _], [stride, _]) =
            (self.input, self.kernel_size, self.stride);
        let shape = [
            self.network.to_owned(),
            self.layer.clone(),
            format!("{batch}x{height}x{width}x{channels}"),
            format!("{kernel}x{kernel}/{stride} → {}", self.out_channels),
            self.threads.to_string(),
        ];
        let rates = self.results.iter().map(|rate| {
            format!(
                "{} ({:.0} %)",
                giga(rate.elements_per_second),
                100.0 * rate.share_of_l1_peak
            )
        });
        shape.into_iter().chain(rates).collect()
    }
}
