//! `addernet eval`.

use std::path::PathBuf;

use addernet::{Accuracy, DatasetKind, Split, evaluate};
use anyhow::{Context, bail};
use clap::Args;
use ndarray::Array2;
use serde::Serialize;

use super::args::{DataArgs, ModelArgs, RunArgs, count, split};
use super::engine::{Engine, EngineArgs};
use super::output;
use super::progress::Bars;

const EXAMPLES: &str = "\
Examples:
  addernet eval resnet20.pth --dataset cifar10 --data-dir data
  addernet eval q4.safetensors --dataset cifar10 --data-dir data --json
  addernet eval resnet20.pth --dataset cifar10 --data-dir data --limit 64 \\
    --logits first64.safetensors";

/// Measure a model's accuracy on a data set
///
/// Runs every image of a split through the network and reports how often the label has the largest
/// logit (top-1), is among the five largest (top-5), and the mean cross-entropy. Float models run in
/// floating point, quantized ones on integers alone, from the pixels to the logits.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    data: DataArgs,

    /// Part of the data set
    #[arg(long, value_name = "NAME", value_parser = split(), default_value = "test")]
    split: Split,

    /// Only the first N images
    #[arg(long, value_name = "N", value_parser = count(1))]
    limit: Option<usize>,

    #[command(flatten)]
    engine: EngineArgs,

    /// Also write the logits to FILE, a safetensors file with the tensor `logits` (images x classes)
    #[arg(long, value_name = "FILE")]
    logits: Option<PathBuf>,

    #[command(flatten)]
    run: RunArgs,
}

/// The JSON object.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    accuracy: Accuracy,
    seconds: f64,
    engine: Engine,
    kernel: &'a str,
    threads: usize,
    model: String,
    dataset: DatasetKind,
    split: Split,
}

pub(crate) fn run(args: &EvalArgs) -> anyhow::Result<()> {
    let runtime = args.run.start()?;
    if let Some(path) = &args.logits {
        output::check_destination(path)?;
        if output::is_same_file(path, &args.model.model) {
            bail!(
                "{}: is the model itself; write the logits elsewhere",
                path.display()
            );
        }
    }
    let model = args.model.open()?;
    let engine = args.engine.choose(&args.model.model, &model)?;
    let images = args
        .data
        .place
        .open(args.data.dataset, model.float(), args.split)?;
    let (classifier, kernel) = engine.start(&model, &args.run, &runtime)?;
    let evaluation = evaluate(
        &*classifier,
        &images,
        &images.first(args.limit),
        &Bars::default(),
    )?;
    if let Some(path) = &args.logits {
        output::write(path, &logits_file(&evaluation.logits)?)?;
    }
    let report = Report {
        accuracy: evaluation.accuracy,
        seconds: evaluation.seconds,
        engine,
        kernel,
        threads: runtime.threads,
        model: args.model.model.display().to_string(),
        dataset: args.data.dataset,
        split: args.split,
    };
    if args.run.json {
        output::json(&report)
    } else {
        output::text(&report.to_string())
    }
}

fn logits_file(logits: &Array2<f32>) -> anyhow::Result<Vec<u8>> {
    let bytes: Vec<u8> = logits.iter().flat_map(|v| v.to_le_bytes()).collect();
    let shape = logits.shape().to_vec();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &bytes)?;
    safetensors::serialize([("logits", view)], None).context("the logits cannot be stored")
}

impl std::fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Accuracy {
            top1,
            top5,
            loss,
            images,
        } = self.accuracy;
        writeln!(f, "top-1     {}", output::percent(top1))?;
        writeln!(f, "top-5     {}", output::percent(top5))?;
        writeln!(f, "loss      {loss:.4}")?;
        writeln!(
            f,
            "images    {} ({} {})",
            output::thousands(images as u64),
            self.dataset,
            self.split
        )?;
        writeln!(
            f,
            "engine    {}, {} kernel, {} thread(s)",
            self.engine, self.kernel, self.threads
        )?;
        write!(f, "time      {:.2} s", self.seconds)
    }
}
