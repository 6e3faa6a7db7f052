//! `addernet demo`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use addernet::quant::store as model_file;
use addernet::train::{EpochReport, Recipe, Run, RunFolder, TrainOptions};
use addernet::{
    Accuracy, CellAccuracy, CellResult, DatasetKind, Executor, Images, MethodKind, MethodSettings,
    Model, QuantizeOptions, Split, SweepContext, SweepTable, Tuning, evaluate, kernels,
    method_settings,
};
use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::args::{RunArgs, Runtime};
use super::progress::Bars;
use super::table::table;
use super::{analyze, output, train};

const EXAMPLES: &str = "\
Examples:
  addernet demo
  addernet demo --out /tmp/demo --seed 1 --json";

/// Train, quantize and run a small network: the whole story in a few minutes
///
/// Draws labelled images of ten shapes, trains an adder LeNet-5 on them, quantizes it to 8, 6, 4, 3 and 2 bits with the
/// paper's method (redistribution) and with --method auto (reconstruction), measures each on the integer engine, and writes
/// a page with charts. It needs no files and no network. The accuracies are those of this small network on these images:
/// see docs/RESULTS.md for CIFAR-10. Stopped, it goes on where it was; the same seed gives the same result on the same
/// machine.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Folder for models, tables and the page; it is created if need be
    #[arg(long, value_name = "DIR", default_value = "addernet-demo")]
    out: PathBuf,

    #[command(flatten)]
    run: RunArgs,
}

/// Bits that the network is quantized to.
const BITS: [u8; 5] = [8, 6, 4, 3, 2];
const METHODS: [MethodKind; 2] = [MethodKind::Redistribution, MethodKind::Reconstruction];
/// The file that `predict` and the page are tried with.
const BITS_TO_KEEP: u8 = 4;

/// The JSON object.
#[derive(Serialize)]
struct Report<'a> {
    out: String,
    model: String,
    quantized_model: String,
    page: String,
    recipe: &'a Recipe,
    epochs: &'a [EpochReport],
    float: Accuracy,
    cells: Vec<Cell>,
    seconds: f64,
}

/// One row and column of the table.
#[derive(Serialize)]
struct Cell {
    method: String,
    bits: u8,
    engine: &'static str,
    #[serde(flatten)]
    accuracy: Accuracy,
}

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let start = Instant::now();
    let runtime = args.run.start()?;
    let recipe = Recipe::load("shapes", &[format!("seed={}", args.run.seed)])?;
    let mut training = begin(&args.out.join("train"), recipe, &runtime)?;
    let model = train::train(&mut training, None)?.model().clone();

    let open = |split| Images::open(&model, DatasetKind::Shapes, None, split, None);
    let (train_images, test) = (open(Split::Train)?, open(Split::Test)?);
    let model = model.clone().with_info(train_images.model_info(&model))?;
    let indices = test.first(None);
    let executor = Executor::new(&model, runtime.kernel)?;
    let bars = Bars::about("the float model");
    let float = evaluate(&executor, &test, &indices, &bars)?.accuracy;
    let context = SweepContext {
        model: &model,
        training: &train_images,
        evaluation: &test,
        indices: &indices,
        kernel: runtime.kernel,
        kernel_u8: kernels::select_u8(args.run.kernel.as_deref())?,
    };
    let results = quantize(args, &context)?;

    let table = SweepTable::of(float, &results);
    for (extension, text) in [
        ("md", table.markdown()),
        ("csv", table.csv()),
        ("json", serde_json::to_string_pretty(&table)? + "\n"),
    ] {
        let path = args.out.join("table").with_extension(extension);
        output::write(&path, text.as_bytes())?;
    }
    let page = args.out.join("report.html");
    let model_path = training.folder().model();
    analyze::write_page(
        &model_path,
        &args.out,
        DatasetKind::Shapes,
        &page,
        &args.run,
        &runtime,
    )?;
    let report = Report {
        out: args.out.display().to_string(),
        model: model_path.display().to_string(),
        quantized_model: args.quantized().display().to_string(),
        page: page.display().to_string(),
        recipe: training.recipe(),
        epochs: training.history(),
        float,
        cells: results.iter().map(Cell::of).collect(),
        seconds: start.elapsed().as_secs_f64(),
    };
    if args.run.json {
        output::json(&report)
    } else {
        output::text(&report.text(&model))
    }
}

impl DemoArgs {
    fn quantized(&self) -> PathBuf {
        self.out.join(format!("{BITS_TO_KEEP}bit.safetensors"))
    }
}

/// The training run in `folder`: a new one, or one that was stopped.
fn begin(folder: &Path, recipe: Recipe, runtime: &Runtime) -> anyhow::Result<Run> {
    let options = TrainOptions {
        kernel: runtime.kernel,
        ..TrainOptions::default()
    };
    match RunFolder::open(folder) {
        Ok(found) => {
            let run = Run::resume(found, options)?;
            if *run.recipe() != recipe {
                bail!(
                    "{}: holds a run of another recipe or seed; name another folder with --out",
                    folder.display()
                );
            }
            Ok(run)
        }
        Err(_) => train::begin(folder, recipe, None, None, options)
            .with_context(|| format!("{}: the demo cannot begin", folder.display())),
    }
}

/// Quantizes in every way; keeps one model.
fn quantize(args: &DemoArgs, context: &SweepContext<'_>) -> anyhow::Result<Vec<CellResult>> {
    let mut results = Vec::new();
    for method in METHODS {
        for bits in BITS {
            let bars = Bars::about(match method {
                MethodKind::Reconstruction => "--method auto",
                _ => "redistribution",
            });
            let options = options(method, bits, args.run.seed);
            let (result, quantized) = context.run(&options, None, &bars)?;
            if method == MethodKind::Reconstruction && bits == BITS_TO_KEEP {
                let bytes = model_file::to_file(&quantized)?.to_bytes()?;
                output::write(&args.quantized(), &bytes)?;
            }
            results.push(result);
        }
    }
    Ok(results)
}

/// The methods with fewer images and steps than they need for a large network.
fn options(method: MethodKind, bits: u8, seed: u64) -> QuantizeOptions {
    let settings = match method_settings(method, [bits; 2], 4) {
        MethodSettings::Reconstruction(mut method) => {
            method.tuning = Tuning {
                steps: if bits > 3 { 64 } else { 160 },
                ..method.tuning
            };
            MethodSettings::Reconstruction(method)
        }
        other => other,
    };
    let published = QuantizeOptions::new(settings);
    QuantizeOptions {
        calibration_images: 1024,
        bn_images: published.bn_images.min(2560),
        seed,
        ..published
    }
}

impl Cell {
    fn of(result: &CellResult) -> Self {
        let accuracy = result
            .with_bn_reestimation
            .as_ref()
            .unwrap_or(&result.without_bn_reestimation);
        let CellAccuracy {
            simulated, integer, ..
        } = accuracy;
        Self {
            method: result.provenance.method.clone(),
            bits: result.provenance.weight_bits,
            engine: if integer.is_some() {
                "integer"
            } else {
                "simulated"
            },
            accuracy: integer.unwrap_or(*simulated),
        }
    }
}

impl Report<'_> {
    fn text(&self, model: &Model) -> String {
        let row = |bits: u8| {
            let cell = |method: MethodKind| {
                let found = self
                    .cells
                    .iter()
                    .find(|c| c.bits == bits && c.method == method.name());
                found.map_or(String::new(), |c| output::percent(c.accuracy.top1))
            };
            [vec![bits.to_string()], METHODS.map(cell).to_vec()].concat()
        };
        let table = table(
            [
                "bits",
                "redistribution (the paper's)",
                "auto (reconstruction)",
            ],
            BITS.map(row),
            1,
        );
        let Accuracy { top1, images, .. } = self.float;
        format!(
            "Top-1 accuracy on {} generated images; float: {}\n\n{table}\n\n\
             An adder {} of {} adder layers, trained for {} epochs; quantized models run on integers alone.\n\
             page      {}\n\
             model     {} (float), {} ({BITS_TO_KEEP} bits)\n\
             next      addernet predict {} IMAGE.png",
            output::thousands(images as u64),
            output::percent(top1),
            model.graph().name(),
            model.graph().adder_nodes().count(),
            self.epochs.len(),
            self.page,
            self.model,
            self.quantized_model,
            self.quantized_model,
        )
    }
}
