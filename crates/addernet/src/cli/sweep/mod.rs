//! `addernet sweep`.

pub(super) mod pareto;
mod progress;
mod store;

use std::path::{Path, PathBuf};
use std::time::Instant;

use addernet::quant::store as model_file;
use addernet::{
    Ablation, Accuracy, AnyModel, CALIBRATION_BATCH, CellResult, DatasetKind, Executor, MethodKind,
    QuantizeOptions, QuantizedModel, Split, SweepCell, SweepContext, SweepGrid, SweepTable,
    evaluate, kernels,
};
use anyhow::bail;
use clap::Args;
use serde::Serialize;

use self::progress::SweepBars;
use self::store::{Found, Store};
use super::args::{self, DataArgs, ModelArgs, RunArgs, count, split};
use super::chart;
use super::cost::EnergyArgs;
use super::{hash, output};

const EXAMPLES: &str = "\
Examples:
  Both methods at three widths:
    addernet sweep resnet20.pth --dataset cifar10 --data-dir data \\
      --methods redistribution,shared-scale --bits 8,6,4 --out results
  How much the number of groups matters, chosen on training images:
    addernet sweep resnet20.pth --dataset cifar10 --data-dir data --bits 4 --groups 1,2,4,8 \\
      --seeds 0,1,2 --evaluate-on train --limit 5000 --out groups
  What each ingredient of our method brings, and how many calibration images it takes:
    addernet sweep resnet20.pth --dataset cifar10 --data-dir data --bits 4,3,2 \\
      --methods reconstruction --without all --seeds 0,1,2 --out ablation
    addernet sweep resnet20.pth --dataset cifar10 --data-dir data --bits 4,2/4 \\
      --methods reconstruction --calibration 32,128,512,2048 --out calibration
  Accuracy against energy (out/pareto.svg), with energies of your own:
    addernet sweep resnet20.pth --dataset cifar10 --data-dir data --bits 8,6,4,3 \\
      --methods reconstruction,redistribution --energy-model my-chip.toml --out out";

/// Quantize a float model in many ways and compare their accuracy
///
/// Runs every combination of methods, bits, groups, ablations, calibration images and seeds. Each result is one file in OUT/runs, written
/// as soon as it is there: the same command goes on where a killed one stopped, and does again what was
/// done with another model or other options. At the end OUT/table.md, table.csv and table.json hold the
/// mean over the seeds with its spread, and the energy per image beside that of the same network as a CNN;
/// OUT/pareto.svg shows accuracy against energy. Use --evaluate-on train to choose settings: the test split
/// is for the final figure.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    data: DataArgs,

    /// Methods, separated by commas
    #[arg(long, value_name = "NAMES", value_parser = args::method(), value_delimiter = ',', default_value = "redistribution")]
    methods: Vec<MethodKind>,

    /// Bits of weights and activations, 2 to 8, separated by commas; 2/4 for weights of 2 and activations of 4
    #[arg(long, value_name = "LIST", value_parser = args::bits_pair, value_delimiter = ',', required = true)]
    bits: Vec<[u8; 2]>,

    /// Groups per layer, separated by commas, for the methods that have them
    #[arg(long, value_name = "LIST", value_parser = args::groups(), value_delimiter = ',', default_value = "4")]
    groups: Vec<usize>,

    /// What methods are to do without, for ablations, separated by commas; none is the whole method, all is that and each
    /// ingredient once
    #[arg(long, value_name = "NAMES", value_parser = without, value_delimiter = ',', default_value = "none")]
    without: Vec<Without>,

    /// Seeds, separated by commas [default: that of --seed]
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        conflicts_with = "seed"
    )]
    seeds: Vec<u64>,

    /// Folder for the results; it is created if need be
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Also write each cell's model file into OUT/models
    #[arg(long)]
    keep_models: bool,

    /// Part of the data set that accuracy is measured on
    #[arg(long, value_name = "NAME", value_parser = split(), default_value = "test")]
    evaluate_on: Split,

    /// Measure accuracy on the first N images only
    #[arg(long, value_name = "N", value_parser = count(1))]
    limit: Option<usize>,

    /// Quantile beyond which activations are clamped, above 0 and at most 1 [default: the method's own]
    #[arg(long, value_name = "Q", value_parser = quantile)]
    outlier_quantile: Option<f64>,

    /// Training images to observe activations on (and to tune with), balanced over the classes; several numbers separated
    /// by commas
    #[arg(long, value_name = "LIST", value_parser = count(1), value_delimiter = ',', default_value = "2048")]
    calibration: Vec<usize>,

    /// Do not measure with re-estimated BN statistics
    #[arg(long, conflicts_with = "bn_images")]
    no_reestimate_bn: bool,

    /// Augmented training images for BN re-estimation
    #[arg(long, value_name = "N", value_parser = count(2), default_value_t = 200 * CALIBRATION_BATCH)]
    bn_images: usize,

    #[command(flatten)]
    energy: EnergyArgs,

    #[command(flatten)]
    run: RunArgs,
}

/// All that a result depends on. Whatever else may change leaves it valid.
#[derive(Serialize)]
struct Key {
    /// Another version may quantize otherwise.
    program: &'static str,
    model_sha256: String,
    dataset: DatasetKind,
    resize: Option<u32>,
    evaluate_on: Split,
    images: usize,
    training_images: usize,
    /// Absent for the float model's own accuracy.
    #[serde(flatten)]
    cell: Option<CellKey>,
}

#[derive(Serialize)]
struct CellKey {
    #[serde(flatten)]
    cell: SweepCell,
    outlier_quantile: f64,
    bn_images: usize,
}

/// The JSON object.
#[derive(Serialize)]
struct Report<'a> {
    model: String,
    dataset: DatasetKind,
    evaluate_on: Split,
    out: String,
    /// Cells that were done in this run, and that were there already.
    computed: usize,
    reused: usize,
    seconds: f64,
    #[serde(flatten)]
    table: &'a SweepTable,
}

pub(crate) fn run(args: &SweepArgs) -> anyhow::Result<()> {
    let start = Instant::now();
    let energy_model = args.energy.open()?;
    let runtime = args.run.start()?;
    let model = args.model.open()?;
    let AnyModel::Float(float) = &model else {
        bail!(
            "{}: is quantized already; take the float model it was made from",
            args.model.model.display()
        );
    };
    let open = |split| args.data.place.open(args.data.dataset, float, split);
    let (training, evaluation) = (open(Split::Train)?, open(args.evaluate_on)?);
    let indices = evaluation.first(args.limit);
    let context = SweepContext {
        model: float,
        training: &training,
        evaluation: &evaluation,
        indices: &indices,
        kernel: runtime.kernel,
        kernel_u8: kernels::select_u8(args.run.kernel.as_deref())?,
    };
    let model_sha256 = hash::sha256(&args.model.model)?;
    let key = |cell: Option<CellKey>| Key {
        program: env!("CARGO_PKG_VERSION"),
        model_sha256: model_sha256.clone(),
        dataset: args.data.dataset,
        resize: args.data.place.resize,
        evaluate_on: args.evaluate_on,
        images: indices.len(),
        training_images: training.dataset().len(),
        cell,
    };
    let cells = args.cells();
    for cell in &cells {
        cell.check(float)?;
    }
    let store = Store::open(&args.out, args.keep_models)?;
    let mut plan = Vec::new();
    for cell in &cells {
        let options = args.options(*cell);
        let key = key(Some(CellKey {
            cell: *cell,
            outlier_quantile: options.outlier_quantile,
            bn_images: options.bn_images,
        }));
        let name = cell.name();
        let missing = args.keep_models && !store.model(&name).is_file();
        let found = match known(store.find::<CellResult>(&name, &key)?) {
            Some(_) if missing => None,
            found => found,
        };
        plan.push((name, options, key, found));
    }
    let reused = plan.iter().filter(|(.., found)| found.is_some()).count();
    let computed = plan.len() - reused;

    let bars = SweepBars::new(computed);
    let float_key = key(None);
    let float_accuracy = match known(store.find::<Accuracy>("float", &float_key)?) {
        Some(accuracy) => accuracy,
        None => {
            let executor = Executor::new(float, runtime.kernel)?;
            let accuracy = evaluate(&executor, &evaluation, &indices, &bars)?.accuracy;
            store.keep("float", &float_key, &accuracy)?;
            accuracy
        }
    };
    let mut results = Vec::new();
    for (place, (name, options, key, found)) in plan.into_iter().enumerate() {
        if let Some(result) = found {
            results.push(result);
            continue;
        }
        bars.cell(place + 1, cells.len(), &name);
        let (result, quantized) = context.run(&options, cells[place].without, &bars)?;
        // The model first: a cell whose file is there is finished.
        if args.keep_models {
            write_model(&store.model(&name), &quantized)?;
        }
        store.keep(&name, &key, &result)?;
        results.push(result);
        bars.done();
    }
    bars.finish();

    let table = SweepTable::of(float_accuracy, &results).with_costs(
        float.graph(),
        &results,
        &energy_model,
    )?;
    let markdown = table.markdown();
    let json = serde_json::to_string_pretty(&table)? + "\n";
    for (extension, text) in [("md", &markdown), ("csv", &table.csv()), ("json", &json)] {
        output::write(&store.table(extension), text.as_bytes())?;
    }
    if let Some(chart) = pareto::chart(&table) {
        output::write(&store.pareto(), chart::standalone(&chart, &[]).as_bytes())?;
    }
    if !args.run.json {
        return output::text(markdown.trim_end());
    }
    output::json(&Report {
        model: args.model.model.display().to_string(),
        dataset: args.data.dataset,
        evaluate_on: args.evaluate_on,
        out: args.out.display().to_string(),
        computed,
        reused,
        seconds: start.elapsed().as_secs_f64(),
        table: &table,
    })
}

impl SweepArgs {
    fn cells(&self) -> Vec<SweepCell> {
        let seeds = match self.seeds.as_slice() {
            [] => &[self.run.seed],
            seeds => seeds,
        };
        let grid = SweepGrid {
            methods: self.methods.clone(),
            bits: self.bits.clone(),
            groups: self.groups.clone(),
            without: self.without.iter().flat_map(Without::ablations).collect(),
            calibrations: self.calibration.clone(),
            seeds: seeds.to_vec(),
        };
        grid.cells()
    }

    fn options(&self, cell: SweepCell) -> QuantizeOptions {
        let published = cell.options();
        let quantile = match cell.without {
            Some(Ablation::OutlierClamp) => None,
            _ => self.outlier_quantile,
        };
        QuantizeOptions {
            outlier_quantile: quantile.unwrap_or(published.outlier_quantile),
            bn_images: if self.no_reestimate_bn {
                0
            } else {
                self.bn_images
            },
            ..published
        }
    }
}

/// What can be used again; of what cannot, the reason is told.
fn known<T>(found: Found<T>) -> Option<T> {
    match found {
        Found::Fresh(result) => Some(result),
        Found::Nothing => None,
        Found::Stale(reason) => {
            eprintln!("addernet: {reason}; doing it again");
            None
        }
    }
}

fn write_model(path: &Path, quantized: &QuantizedModel) -> anyhow::Result<()> {
    output::write(path, &model_file::to_file(quantized)?.to_bytes()?)
}

/// One of the names that `--without` takes.
#[derive(Clone, Copy)]
enum Without {
    Nothing,
    One(Ablation),
    All,
}

impl Without {
    fn ablations(&self) -> Vec<Option<Ablation>> {
        match self {
            Without::Nothing => vec![None],
            Without::One(ingredient) => vec![Some(*ingredient)],
            Without::All => [None].into_iter().chain(Ablation::ALL.map(Some)).collect(),
        }
    }
}

fn without(name: &str) -> Result<Without, String> {
    match name {
        "none" => Ok(Without::Nothing),
        "all" => Ok(Without::All),
        name => {
            (name.parse().map(Without::One)).map_err(|error: addernet::Error| error.to_string())
        }
    }
}

fn quantile(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("it must be a number above 0 and at most 1".to_owned()),
    }
}
