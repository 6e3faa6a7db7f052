//! `addernet analyze`.

mod costs;
mod page;

use std::path::{Path, PathBuf};

use addernet::{
    Accuracy, Analysis, AnalyzeOptions, AnyModel, CostOptions, CostReport, DatasetKind, Executor,
    Images, ImportOptions, MethodKind, Model, QuantizeOptions, Simulator, Split, SweepTable,
    analyze, cost, evaluate, kernels, method_settings,
};
use anyhow::{Context, bail};
use askama::Template;
use clap::Args;
use serde::Serialize;

use super::args::{self, DataPlace, ModelArgs, RunArgs, Runtime, count, dataset};
use super::cost::EnergyArgs;
use super::progress::Bars;
use super::{hash, output, usage_error};

const EXAMPLES: &str = "\
Examples:
  A float model, and what 4 bits would cost layer by layer:
    addernet analyze resnet20.pth --dataset cifar10 --data-dir data --bits 4 -o report.html
  A quantized file beside the model it was made from, with its accuracy:
    addernet analyze q4.safetensors --reference resnet20.pth --dataset cifar10 \\
      --data-dir data --evaluate -o report.html
  With the results of a sweep:
    addernet analyze resnet20.pth --sweep results -o report.html --charts charts";

/// Write a page about a model: distributions, errors and sensitivities per layer
///
/// The page opens from its file, without a network. It shows what an image costs in operations, memory and
/// energy, beside the same network as a CNN, each adder layer's weights, input
/// activations and codes, the signal-to-noise ratio when only this layer is quantized, what that does to
/// the logits and the accuracy, and a sweep's results as charts. Images are training images, but for
/// --evaluate.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AnalyzeArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Data set whose training images to run; without it, the page shows weights alone
    #[arg(long, value_name = "NAME", value_parser = dataset())]
    dataset: Option<DatasetKind>,

    #[command(flatten)]
    place: DataPlace,

    /// Float models: bits to quantize each layer to, 2 to 8 [default: 4]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=8), requires = "dataset")]
    bits: Option<u8>,

    /// Float models: method to quantize with [default: redistribution]
    #[arg(long, value_name = "NAME", value_parser = args::method(), requires = "dataset")]
    method: Option<MethodKind>,

    /// Float models: groups per layer, for methods that have them [default: 4]
    #[arg(long, value_name = "G", value_parser = args::groups(), requires = "dataset")]
    groups: Option<usize>,

    /// Float models: training images to observe activation ranges on [default: 2048]
    #[arg(long, value_name = "N", value_parser = count(1), requires = "dataset")]
    calibration: Option<usize>,

    /// Training images for distributions and sensitivities [default: 512]
    #[arg(long, value_name = "N", value_parser = count(1), requires = "dataset")]
    images: Option<usize>,

    /// Quantized models: the float model it was made from, which sensitivities compare it with
    #[arg(long, value_name = "FLOAT_MODEL")]
    reference: Option<PathBuf>,

    /// Also measure accuracy on the test split
    #[arg(long, requires = "dataset")]
    evaluate: bool,

    /// Measure accuracy on the first N test images only
    #[arg(long, value_name = "N", value_parser = count(1), requires = "evaluate")]
    limit: Option<usize>,

    /// Folder of `addernet sweep --out`, whose results to show
    #[arg(long, value_name = "DIR")]
    sweep: Option<PathBuf>,

    /// Page to write; an existing one is replaced
    #[arg(short, long, value_name = "REPORT.html")]
    output: PathBuf,

    /// Write every chart as an SVG file into DIR, too
    #[arg(long, value_name = "DIR")]
    charts: Option<PathBuf>,

    #[command(flatten)]
    energy: EnergyArgs,

    #[command(flatten)]
    run: RunArgs,
}

/// The JSON object, which the page holds too.
#[derive(Serialize)]
struct Report {
    model: String,
    file_bytes: u64,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    output: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    dataset: Option<DatasetKind>,
    /// Training images for distributions and sensitivities; 0 if there were none.
    images: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy: Option<Evaluated>,
    #[serde(flatten)]
    analysis: Analysis,
    cost: CostReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    sweep: Option<SweepTable>,
}

#[derive(Serialize)]
struct Evaluated {
    engine: &'static str,
    #[serde(flatten)]
    accuracy: Accuracy,
}

pub(crate) fn run(args: &AnalyzeArgs) -> anyhow::Result<()> {
    if args.dataset.is_none() && (args.place.data_dir.is_some() || args.place.resize.is_some()) {
        usage_error("analyze", "--data-dir and --resize need --dataset NAME");
    }
    let runtime = args.run.start()?;
    let report = write(args, &runtime)?;
    if args.run.json {
        return output::json(&report);
    }
    output::text(&format!(
        "written       {} ({} adder layers{})",
        report.output,
        report.analysis.distributions.len(),
        match report.dataset {
            Some(_) => "",
            None => "; --dataset NAME adds activations and sensitivities",
        }
    ))
}

/// Writes the page about a float model at 4 bits and a sweep of it: for verbs that end with one.
#[cfg(feature = "train")]
pub(crate) fn write_page(
    model: &Path,
    sweep: &Path,
    dataset: DatasetKind,
    output: &Path,
    run: &RunArgs,
    runtime: &Runtime,
) -> anyhow::Result<()> {
    let args = AnalyzeArgs {
        model: ModelArgs {
            model: model.to_owned(),
            arch: None,
        },
        dataset: Some(dataset),
        place: DataPlace {
            data_dir: None,
            resize: None,
        },
        bits: None,
        method: None,
        groups: None,
        calibration: Some(1024),
        images: None,
        reference: None,
        evaluate: true,
        limit: None,
        energy: EnergyArgs { energy_model: None },
        sweep: Some(sweep.to_owned()),
        output: output.to_owned(),
        charts: None,
        run: run.clone(),
    };
    write(&args, runtime).map(drop)
}

/// Analyses and writes the page.
fn write(args: &AnalyzeArgs, runtime: &Runtime) -> anyhow::Result<Report> {
    let energy_model = args.energy.open()?;
    output::check_destination(&args.output)?;
    if let Some(folder) = &args.charts {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: the folder cannot be created", folder.display()))?;
        output::check_destination(&folder.join("x"))?;
    }
    for input in [Some(&args.model.model), args.reference.as_ref()] {
        if input.is_some_and(|input| output::is_same_file(&args.output, input)) {
            bail!(
                "{}: is a model to be analysed; write the page elsewhere",
                args.output.display()
            );
        }
    }
    let model = args.model.open()?;
    args.check(&model)?;
    let sweep = args.sweep.as_deref().map(read_sweep).transpose()?;
    let reference = args.reference.as_deref().map(open_reference).transpose()?;
    let (training, test) = match args.dataset {
        Some(kind) => {
            let open = |split| args.place.open(kind, model.float(), split);
            let test = args.evaluate.then(|| open(Split::Test)).transpose()?;
            (Some(open(Split::Train)?), test)
        }
        None => (None, None),
    };
    let options = args.options();
    let cost = cost(
        &model,
        &CostOptions {
            bits: match &model {
                AnyModel::Float(_) => args.supposed_bits(),
                AnyModel::Quantized(_) => Vec::new(),
            },
            ..CostOptions::new(energy_model)
        },
    )?;
    let analysis = analyze(
        &model,
        reference.as_ref(),
        training.as_ref(),
        &options,
        runtime.kernel,
        &Bars::default(),
    )?;
    let accuracy = match &test {
        Some(test) => Some(args.accuracy(&model, test, runtime)?),
        None => None,
    };
    let report = Report {
        model: args.model.model.display().to_string(),
        file_bytes: std::fs::metadata(&args.model.model)?.len(),
        sha256: hash::sha256(&args.model.model)?,
        reference: args.reference.as_ref().map(|p| p.display().to_string()),
        output: args.output.display().to_string(),
        dataset: args.dataset,
        images: if training.is_some() {
            options.images
        } else {
            0
        },
        accuracy,
        analysis,
        cost,
        sweep,
    };
    let page = page::page(&report)?;
    output::write(&args.output, page.render()?.as_bytes())?;
    if let Some(folder) = &args.charts {
        for (name, svg) in page.chart_files() {
            output::write(&folder.join(name), svg.as_bytes())?;
        }
    }
    Ok(report)
}

impl AnalyzeArgs {
    /// Flags that contradict what the model is.
    fn check(&self, model: &AnyModel) -> anyhow::Result<()> {
        let shown = self.model.model.display();
        match model {
            AnyModel::Quantized(_) => {
                for (flag, given) in [
                    ("--bits", self.bits.is_some()),
                    ("--method", self.method.is_some()),
                    ("--groups", self.groups.is_some()),
                    ("--calibration", self.calibration.is_some()),
                ] {
                    if given {
                        bail!("{shown}: is quantized already; leave {flag} out");
                    }
                }
            }
            AnyModel::Float(_) if self.reference.is_some() => {
                bail!("{shown}: is a float model and its own reference; leave --reference out");
            }
            AnyModel::Float(_) => {}
        }
        Ok(())
    }

    fn options(&self) -> AnalyzeOptions {
        let method = self.method.unwrap_or(MethodKind::Redistribution);
        let bits = [self.bits.unwrap_or(4); 2];
        let settings = method_settings(method, bits, self.groups.unwrap_or(4));
        let published = QuantizeOptions::new(settings);
        AnalyzeOptions {
            quantize: QuantizeOptions {
                calibration_images: self.calibration.unwrap_or(published.calibration_images),
                seed: self.run.seed,
                ..published
            },
            images: self.images.unwrap_or(512),
        }
    }

    /// Bits at which the cost of a float model is told besides its own.
    fn supposed_bits(&self) -> Vec<u8> {
        match self.bits.unwrap_or(4) {
            8 => vec![8],
            bits => vec![8, bits],
        }
    }

    /// Accuracy on the test split: on integers where that is possible.
    fn accuracy(
        &self,
        model: &AnyModel,
        test: &Images,
        runtime: &Runtime,
    ) -> anyhow::Result<Evaluated> {
        let indices = test.first(self.limit);
        let bars = Bars::default();
        let (engine, evaluation) = match model {
            AnyModel::Float(float) => {
                let executor = Executor::new(float, runtime.kernel)?;
                ("float", evaluate(&executor, test, &indices, &bars)?)
            }
            AnyModel::Quantized(quantized) => {
                let kernel = kernels::select_u8(self.run.kernel.as_deref())?;
                match addernet::Engine::new(quantized, kernel) {
                    Ok(engine) => ("integer", evaluate(&engine, test, &indices, &bars)?),
                    Err(_) => {
                        let simulator = Simulator::new(quantized, runtime.kernel)?;
                        ("simulated", evaluate(&simulator, test, &indices, &bars)?)
                    }
                }
            }
        };
        Ok(Evaluated {
            engine,
            accuracy: evaluation.accuracy,
        })
    }
}

fn open_reference(path: &Path) -> anyhow::Result<Model> {
    match AnyModel::open(path, &ImportOptions::default())? {
        AnyModel::Float(model) => Ok(model),
        AnyModel::Quantized(_) => bail!(
            "{}: is quantized; --reference takes the float model that MODEL was made from",
            path.display()
        ),
    }
}

fn read_sweep(folder: &Path) -> anyhow::Result<SweepTable> {
    let path = folder.join("table.json");
    let shown = path.display();
    let bytes = std::fs::read(&path).with_context(|| {
        format!(
            "{shown}: cannot be read; --sweep takes the folder of a finished addernet sweep --out"
        )
    })?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{shown}: is no sweep's table; run addernet sweep again"))
}
