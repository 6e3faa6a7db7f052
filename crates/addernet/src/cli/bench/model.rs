//! `addernet bench model`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use addernet::engine::LayerTime;
use addernet::kernels::{self, peak};
use addernet::{AnyModel, Engine, ImportOptions};
use anyhow::{Context, bail};
use clap::Args;
use clap::builder::RangedU64ValueParser;
use indicatif::ProgressBar;
use serde::Serialize;

use super::super::args::threads;
use super::super::output;
use super::super::progress::style;
use super::super::table::table;
use super::{giga, seconds};

const EXAMPLES: &str = "\
Examples:
  addernet bench model q4.safetensors
  addernet bench model q4.safetensors --batch 1 --json
  addernet bench model q4.safetensors --threads 2 --min-time 5";

/// Rounds over which the median is taken.
const ROUNDS: u32 = 9;
/// Keeps the images of a batch within memory.
const MOST_IMAGES: u64 = 4096;

/// Measure a quantized model on the integer engine
///
/// Prints images per second, from pixels to logits, and for each layer its time on one image and one
/// thread, its share of the whole, billions of terms |x − w| per second, and these as a share of what the
/// operator's instructions reach on registers alone. Layers of 2 bits may be beyond that: on some CPUs their
/// sums are looked up, three terms at a time.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ModelArgs {
    /// Quantized model file
    #[arg(value_name = "FILE")]
    model: PathBuf,

    /// Images that the engine is given at a time
    #[arg(long, value_name = "N", default_value = "100",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST_IMAGES))]
    batch: usize,

    /// Number of threads that share a batch
    #[arg(long, value_name = "N", value_parser = threads(), default_value = "1")]
    threads: usize,

    /// Variant of the L1 operator [default: $ADDERNET_KERNEL, or the best one for this CPU]
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,

    /// Seconds per measurement, of which there are four
    #[arg(long, value_name = "S", value_parser = seconds, default_value = "1")]
    min_time: Duration,

    /// Print one JSON object on standard output, and nothing else there
    #[arg(long)]
    json: bool,
}

/// The JSON object. Elements are terms |x − w|.
#[derive(Serialize)]
struct Report {
    model: String,
    kernel: &'static str,
    threads: usize,
    batch: usize,
    /// The median of several rounds.
    images_per_second: f64,
    /// Of one image.
    elements: u64,
    elements_per_second: f64,
    /// Of one thread, on registers alone.
    u8_peak_per_second: f64,
    /// Of all threads' peak, over the whole network.
    share_of_u8_peak: f64,
    /// On one image and one thread.
    layers: Vec<LayerReport>,
}

#[derive(Serialize)]
struct LayerReport {
    node: String,
    kind: &'static str,
    seconds: f64,
    /// Of all layers' time.
    share_of_time: f64,
    /// 0 unless it is an adder layer.
    elements: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    elements_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_of_u8_peak: Option<f64>,
}

pub(super) fn run(args: &ModelArgs) -> anyhow::Result<()> {
    let AnyModel::Quantized(model) = AnyModel::open(&args.model, &ImportOptions::default())? else {
        bail!(
            "{}: holds a float model, and the integer engine is measured; quantize it first: addernet \
             quantize {0} --bits 4 …",
            args.model.display()
        );
    };
    let engine = Engine::new(&model, kernels::select_u8(args.kernel.as_deref())?)?;
    let report = measure(args, &engine)?;
    if args.json {
        output::json(&report)
    } else {
        output::text(&report.to_string())
    }
}

fn measure(args: &ModelArgs, engine: &Engine) -> anyhow::Result<Report> {
    let bar = ProgressBar::new(4).with_style(style("{pos}/{len}"));
    let step = |name: &'static str| {
        bar.set_message(name);
        bar.tick();
    };
    step("limit of the operator");
    let peak_before = peak::u8_elements_per_second(engine.kernel(), args.min_time);
    bar.inc(1);
    step("whole network");
    let images_per_second = images_per_second(args, engine)?;
    bar.inc(1);
    step("layers");
    let times = layer_times(args.min_time, engine)?;
    bar.inc(1);
    step("limit of the operator");
    // A limit is what is reached at best: whatever else ran on the machine meanwhile may have slowed
    // down one of the two measurements.
    let peak = peak::u8_elements_per_second(engine.kernel(), args.min_time).max(peak_before);
    bar.finish_and_clear();

    let total: f64 = times.iter().map(|layer| layer.time.as_secs_f64()).sum();
    let layers: Vec<LayerReport> = times
        .into_iter()
        .map(|layer| {
            let seconds = layer.time.as_secs_f64();
            let rate = (layer.elements > 0).then(|| layer.elements as f64 / seconds);
            LayerReport {
                node: layer.node,
                kind: layer.kind,
                seconds,
                share_of_time: seconds / total,
                elements: layer.elements,
                elements_per_second: rate,
                share_of_u8_peak: rate.map(|rate| rate / peak),
            }
        })
        .collect();
    let elements = layers.iter().map(|layer| layer.elements).sum();
    let elements_per_second = images_per_second * elements as f64;
    Ok(Report {
        model: args.model.display().to_string(),
        kernel: engine.kernel().name(),
        threads: args.threads,
        batch: args.batch,
        images_per_second,
        elements,
        elements_per_second,
        u8_peak_per_second: peak,
        share_of_u8_peak: elements_per_second / (peak * args.threads as f64),
        layers,
    })
}

/// The median over rounds that take `min_time` together, after one call to warm up.
fn images_per_second(args: &ModelArgs, engine: &Engine) -> anyhow::Result<f64> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads)
        .build()
        .with_context(|| format!("cannot start {} threads", args.threads))?;
    let pixels = pixels(args.batch * engine.program().graph().input_shape().values());
    pool.install(|| {
        engine.run(&pixels[..])?;
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let (start, mut calls) = (Instant::now(), 0u32);
            let rate = loop {
                engine.run(&pixels[..])?;
                calls += 1;
                let elapsed = start.elapsed();
                if elapsed >= args.min_time / ROUNDS {
                    break f64::from(calls) * args.batch as f64 / elapsed.as_secs_f64();
                }
            };
            rates.push(rate);
        }
        Ok(median(rates))
    })
}

/// Each layer with the median of its times, over `min_time` and at least [`ROUNDS`] runs.
fn layer_times(min_time: Duration, engine: &Engine) -> anyhow::Result<Vec<LayerTime>> {
    let pixels = pixels(engine.program().graph().input_shape().values());
    let mut layers = engine.layer_times(&pixels)?;
    let mut times = vec![Vec::new(); layers.len()];
    let (start, mut rounds) = (Instant::now(), 0);
    while rounds < ROUNDS || start.elapsed() < min_time {
        rounds += 1;
        for (times, layer) in times.iter_mut().zip(engine.layer_times(&pixels)?) {
            times.push(layer.time.as_secs_f64());
        }
    }
    for (layer, times) in layers.iter_mut().zip(times) {
        layer.time = Duration::from_secs_f64(median(times));
    }
    Ok(layers)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Pixels of all values: the high byte of a multiplicative (Fibonacci) hash.
fn pixels(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_769) >> 24) as u8)
        .collect()
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}: integer engine, {} kernel", self.model, self.kernel)?;
        writeln!(
            f,
            "{:.0} images per second, {} at a time, {} thread(s)",
            self.images_per_second, self.batch, self.threads
        )?;
        writeln!(
            f,
            "{} billions of |x − w| per second, {:.0} % of the limit of {} per thread\n",
            giga(self.elements_per_second),
            100.0 * self.share_of_u8_peak,
            giga(self.u8_peak_per_second)
        )?;
        writeln!(f, "One image on one thread:\n")?;
        let headings = ["layer", "kind", "µs", "time", "G/s", "of limit"];
        let rows = self.layers.iter().map(LayerReport::row);
        f.write_str(&table(headings, rows, 2))
    }
}

impl LayerReport {
    fn row(&self) -> Vec<String> {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        vec![
            self.node.clone(),
            self.kind.to_owned(),
            format!("{:.1}", 1e6 * self.seconds),
            percent(self.share_of_time),
            self.elements_per_second.map_or(String::new(), giga),
            self.share_of_u8_peak.map_or(String::new(), percent),
        ]
    }
}
