//! `addernet bench kernels`.

use std::time::Duration;

use addernet::graph::exec::geometry;
use addernet::kernels::ConvGeometry;
use addernet::{Architecture, Graph};
use anyhow::Context;
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::super::args::threads;
use super::super::output;
use super::super::progress::style;
use super::super::table::table;
use super::variants::{Limits, Variants};
use super::{giga, seconds};

const EXAMPLES: &str = "\
Examples:
  addernet bench kernels
  addernet bench kernels --codes
  addernet bench kernels --kernel avx2 --min-time 1 --json
  addernet bench kernels --threads 8";

/// Measure the variants of the L1 operator
///
/// Runs each variant that this CPU offers on the layer shapes of ResNet-20 (32x32 images) and ResNet-18
/// (224x224), one thread, and prints billions of terms |x − w| per second beside the machine's limits:
/// what the variant's instructions reach on registers alone, for subtract-absolute-add and, to compare
/// with convolutions that multiply, for multiply-add. With --codes it is the operator on unsigned 8-bit
/// codes that the integer engine runs on.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct KernelsArgs {
    /// The operator on 8-bit codes instead of floats
    #[arg(long)]
    codes: bool,

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
    /// `f32` or `u8`.
    operands: &'static str,
    /// One thread each.
    kernels: Vec<KernelReport>,
    measurements: Vec<Measurement>,
}

#[derive(Serialize)]
struct KernelReport {
    kernel: &'static str,
    l1_peak_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fma_peak_per_second: Option<f64>,
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
    let variants = Variants::choose(args.codes, args.kernel.as_deref())?;
    let report = measure(&variants, args)?;
    if args.json {
        output::json(&report)
    } else {
        output::text(&report.to_string())
    }
}

fn measure(variants: &Variants, args: &KernelsArgs) -> anyhow::Result<Report> {
    let shapes = shapes()?;
    let thread_counts: Vec<usize> = std::iter::once(1)
        .chain(args.threads.filter(|&threads| threads > 1))
        .collect();
    let names = variants.names();
    let steps = 2 * names.len() + shapes.len() * thread_counts.len();
    let bar = ProgressBar::new(steps as u64).with_style(style("{pos}/{len}"));

    let peaks = || -> Vec<KernelReport> {
        let peak = |(at, &name): (usize, &&'static str)| {
            bar.set_message(format!("limits of {name}"));
            let Limits { l1, fma } = variants.limits(at, args.min_time);
            bar.inc(1);
            KernelReport {
                kernel: name,
                l1_peak_per_second: l1,
                fma_peak_per_second: fma,
            }
        };
        names.iter().enumerate().map(peak).collect()
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
            let measured = pool.install(|| variants.throughputs(&shape.geometry, args.min_time))?;
            rates.push((threads, shape, measured));
            bar.inc(1);
        }
    }
    // A limit is what is reached at best: whatever else ran on the machine meanwhile may have slowed
    // down one of the two measurements.
    for (before, after) in kernels.iter_mut().zip(peaks()) {
        before.l1_peak_per_second = before.l1_peak_per_second.max(after.l1_peak_per_second);
        let fma = before.fma_peak_per_second.zip(after.fma_peak_per_second);
        before.fma_peak_per_second = fma.map(|(before, after)| before.max(after));
    }
    let measurements = rates
        .into_iter()
        .map(|(threads, shape, rates)| shape.measurement(threads, &kernels, &rates))
        .collect();
    bar.finish_and_clear();
    Ok(Report {
        operands: if args.codes { "u8" } else { "f32" },
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
        writeln!(
            f,
            "Limits of one thread on {}, billions per second:\n",
            self.operands
        )?;
        let limits = self.kernels.iter().map(|kernel| {
            vec![
                kernel.kernel.to_owned(),
                giga(kernel.l1_peak_per_second),
                kernel.fma_peak_per_second.map_or("–".to_owned(), giga),
            ]
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
