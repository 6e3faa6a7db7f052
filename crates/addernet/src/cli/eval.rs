//! `addernet eval`.

use std::path::PathBuf;

use addernet::{Accuracy, DatasetKind, Split, Spread, evaluate};
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
  addernet eval q4.safetensors --dataset cifar10 --data-dir data --engine simulated --nudged 10
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

    /// Also evaluate N copies of the model whose BN parameters and biases of adder layers differ in their last bit, with
    /// the seeds 1 to N: how far their accuracies differ is how far an accuracy can be told
    #[arg(long, value_name = "N", value_parser = count(1))]
    nudged: Option<usize>,

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
    #[serde(skip_serializing_if = "Option::is_none")]
    nudged: Option<Nudged>,
}

/// The accuracies of nudged copies.
#[derive(Serialize)]
struct Nudged {
    /// Of each copy.
    top1: Vec<f64>,
    #[serde(flatten)]
    spread: Spread,
    mean_loss: f64,
}

impl Nudged {
    fn of(copies: &[Accuracy]) -> Self {
        let top1 = copies.iter().map(|copy| copy.top1);
        Self {
            top1: top1.clone().collect(),
            spread: Spread::of(top1),
            mean_loss: Spread::of(copies.iter().map(|copy| copy.loss)).mean,
        }
    }
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
    let indices = images.first(args.limit);
    let evaluation = evaluate(&*classifier, &images, &indices, &Bars::default())?;
    let copies = (1..=args.nudged.unwrap_or(0) as u64)
        .map(|seed| {
            let copy = model.nudged(seed)?;
            let (classifier, _) = engine.start(&copy, &args.run, &runtime)?;
            let evaluation = evaluate(&*classifier, &images, &indices, &Bars::default())?;
            Ok(evaluation.accuracy)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
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
        nudged: (!copies.is_empty()).then(|| Nudged::of(&copies)),
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
        if let Some(nudged) = &self.nudged {
            let Spread {
                mean,
                min,
                max,
                standard_deviation,
            } = nudged.spread;
            write!(
                f,
                "nudged    {} on average of {} copies, {} to {}",
                output::percent(mean),
                nudged.top1.len(),
                output::percent(min),
                output::percent(max),
            )?;
            if let Some(deviation) = standard_deviation {
                write!(f, ", standard deviation {:.2}", 100.0 * deviation)?;
            }
            writeln!(f)?;
        }
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
