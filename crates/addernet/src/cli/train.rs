//! `addernet train`.

mod progress;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use addernet::data::{OpenOptions, default_resize};
use addernet::graph::FeatureShape;
use addernet::train::{
    Recipe, Run, RunFolder, TrainDevice, TrainError, TrainOptions, Trained, TrainingData,
    initial_model,
};
use addernet::{
    Accuracy, AnyModel, Architecture, Dataset, DatasetKind, Engine, Images, ImportOptions, Model,
    QuantizedModel, Split, evaluate, kernels,
};
use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::args::{self, RunArgs, Runtime, count, dataset};
use super::output;
use super::progress::Bars;
pub(crate) use progress::TrainBar;

const EXAMPLES: &str = "\
Examples:
  LeNet-5 on Fashion-MNIST (Debian: apt install dataset-fashion-mnist):
    addernet train fashion-mnist --data-dir /usr/share/datasets --out fashion
  The published recipe on CIFAR-10, shortened; and on, after the machine was switched off:
    addernet train cifar10 --epochs 100 --data-dir data --out run
    addernet train --resume run
  Your own recipe, with a setting replaced:
    addernet train --show cifar10 > mine.toml
    addernet train mine.toml --set weight-decay=1e-4 --data-dir data --out mine
  On a GPU (in a program built with the feature gpu):
    addernet train cifar10 --device gpu --data-dir data --out run
  Quantization-aware: a trained network learns on with 2-bit codes in place:
    addernet train --qat --bits 2 --from resnet20.pth --dataset cifar10 --data-dir data --out qat2";

/// Train a network from scratch, go on training one, or train it with its codes in place (--qat)
///
/// RECIPE is one of the built-in ones (see --list) or a TOML file; --show prints one with all its fields. Each field can be
/// replaced by --set, the usual ones by flags of their own. OUT holds the run: its checkpoint, metrics.csv and
/// metrics.json, curves.svg, and model.safetensors, which eval, quantize and the other verbs take. A run that was stopped,
/// by whatever, goes on with --resume; on the CPU with --threads 1 to the same network, bit for bit. The test split is measured after
/// each epoch and chooses nothing.
///
/// With --qat, the float network of --from is quantized as by `quantize --method auto`, and goes on learning from itself
/// (--set qat.labels=1 --set qat.features=0: from the labels alone); its model.safetensors runs on integers.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TrainArgs {
    /// Built-in recipe or TOML file
    #[arg(required_unless_present_any = ["resume", "list", "show", "qat"], conflicts_with = "resume")]
    recipe: Option<String>,

    /// Folder for the run; it is created if need be
    #[arg(long, value_name = "DIR", required_unless_present_any = ["resume", "list", "show"], conflicts_with = "resume")]
    out: Option<PathBuf>,

    /// Go on with the run in DIR where its last checkpoint is
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,

    /// List the built-in recipes
    #[arg(long, conflicts_with_all = ["recipe", "resume", "out"])]
    list: bool,

    /// Print a recipe, with its comments if it is a built-in one
    #[arg(long, value_name = "RECIPE", conflicts_with_all = ["recipe", "resume", "out", "list"])]
    show: Option<String>,

    /// Folder with the data set's files, or the parent of that folder; with --resume, if it has moved
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Start from the parameters of MODEL, a float model or checkpoint of the recipe's network
    #[arg(long, value_name = "MODEL", conflicts_with = "resume")]
    from: Option<PathBuf>,

    /// Quantization-aware training of the network of --from; without RECIPE, by the built-in recipe `qat`
    #[arg(long, requires = "from", conflicts_with = "resume")]
    qat: bool,

    /// With --qat: bits of weights and activations, 2 to 8 [default: the recipe's]
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=8), requires = "qat")]
    bits: Option<u8>,

    /// With --qat: bits of the weights, if they are others than --bits
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=8), requires = "qat")]
    weight_bits: Option<u8>,

    /// With --qat: bits of the activations, if they are others than --bits
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u8).range(2..=8), requires = "qat")]
    activation_bits: Option<u8>,

    /// Replace a field of the recipe; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "resume")]
    settings: Vec<String>,

    /// Passes over the training images [default: the recipe's]
    #[arg(long, value_name = "N", value_parser = count(1), conflicts_with = "resume")]
    epochs: Option<usize>,

    /// Images per step [default: the recipe's]
    #[arg(long, value_name = "N", value_parser = count(2), conflicts_with = "resume")]
    batch: Option<usize>,

    /// Learning rate at the start [default: the recipe's]
    #[arg(long, value_name = "RATE", conflicts_with = "resume")]
    lr: Option<f64>,

    /// Network [default: the recipe's]
    #[arg(long, value_name = "NAME", value_parser = args::architecture(), conflicts_with = "resume")]
    arch: Option<Architecture>,

    /// Data set [default: the recipe's]
    #[arg(long, value_name = "NAME", value_parser = dataset(), conflicts_with = "resume")]
    dataset: Option<DatasetKind>,

    /// Seed of the initial parameters, the order of the images and their augmentation [default: the recipe's]
    #[arg(long, value_name = "S", conflicts_with = "resume")]
    seed: Option<u64>,

    /// Measure accuracy on the test split after every N epochs, and after the last; 0: after the last
    #[arg(long, value_name = "N", default_value_t = 1)]
    evaluate_every: usize,

    /// Longest time between two checkpoints; there is one after each epoch, too
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    checkpoint_every: u64,

    /// Where the steps of training in floating point run: cpu or gpu. Where there is no GPU, a warning says so and the CPU
    /// takes its place
    #[arg(long, value_name = "DEVICE", value_parser = args::device(), default_value = "cpu")]
    device: TrainDevice,

    /// Number of threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = args::threads())]
    threads: Option<usize>,

    /// Variant of the L1 operator; `addernet bench kernels` lists them [default: $ADDERNET_KERNEL, or the best one for this
    /// CPU]
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,

    /// Print one JSON object on standard output, and nothing else there
    #[arg(long)]
    json: bool,
}

/// The JSON object.
#[derive(Serialize)]
struct Report<'a> {
    out: String,
    model: String,
    recipe: &'a Recipe,
    epochs: usize,
    train_loss: Option<f64>,
    train_top1: Option<f64>,
    test_loss: Option<f64>,
    test_top1: Option<f64>,
    /// On the test images, of a quantized network on the integer engine; null if it cannot run it, or there was none.
    integer: Option<Accuracy>,
    /// Of this call, with the evaluations.
    seconds: f64,
    threads: usize,
    kernel: &'static str,
    /// `cpu`, or the GPU's name and interface.
    device: String,
}

pub(crate) fn run(args: &TrainArgs) -> anyhow::Result<()> {
    if args.list {
        return list(args.json);
    }
    if let Some(name) = &args.show {
        return show(name);
    }
    let start = Instant::now();
    let common = RunArgs {
        threads: args.threads,
        kernel: args.kernel.clone(),
        seed: 0,
        json: args.json,
    };
    let runtime = common.start()?;
    let options = TrainOptions {
        evaluate_every: args.evaluate_every,
        checkpoint_every: Duration::from_secs(args.checkpoint_every),
        kernel: runtime.kernel,
        device: open_device(args.device)?,
    };
    let mut run = match &args.resume {
        Some(folder) => Run::resume(RunFolder::open(folder)?, options)?,
        None => args.begin(options)?,
    };
    if run.recipe().qat.is_some() && options.device != TrainDevice::Cpu {
        output::warn(
            "quantization-aware training runs on the CPU; --device is for training in floating point",
        );
    }
    let data_dir = args.data_dir.clone().or(run.data_dir().map(Path::to_owned));
    let trained = train(&mut run, data_dir.as_deref())?;
    let integer = match &trained {
        Trained::Float(_) => None,
        Trained::Quantized(quantized) => on_integers(
            quantized,
            run.recipe().dataset,
            data_dir.as_deref(),
            &runtime,
        )?,
    };
    let last = run.history().last();
    let report = Report {
        out: run.folder().path().display().to_string(),
        model: run.folder().model().display().to_string(),
        recipe: run.recipe(),
        epochs: run.history().len(),
        train_loss: last.map(|e| e.train_loss),
        train_top1: last.map(|e| e.train_top1),
        test_loss: last.and_then(|e| e.test_loss),
        test_top1: last.and_then(|e| e.test_top1),
        integer,
        seconds: start.elapsed().as_secs_f64(),
        threads: runtime.threads,
        kernel: runtime.kernel.name(),
        device: options.device.description()?,
    };
    if args.json {
        output::json(&report)
    } else {
        output::text(&report.to_string())
    }
}

/// The device that is asked for, or the CPU where there is no GPU.
pub(super) fn open_device(asked: TrainDevice) -> anyhow::Result<TrainDevice> {
    match asked.open() {
        Ok(_) => Ok(asked),
        Err(error @ TrainError::GpuUnavailable { .. }) => {
            output::warn(&format!("{error}; going on with the CPU"));
            Ok(TrainDevice::Cpu)
        }
        Err(error) => Err(error.into()),
    }
}

/// Trains to the end, with a bar on a terminal.
pub(crate) fn train(run: &mut Run, data_dir: Option<&Path>) -> anyhow::Result<Trained> {
    let model = run.model()?;
    let kind = run.recipe().dataset;
    let open = |split| Images::open(&model, kind, data_dir, split, None);
    let (training, test) = (open(Split::Train)?, open(Split::Test)?);
    let data = TrainingData {
        train: training.dataset(),
        test: Some(test.dataset()),
        transform: training.transform(),
    };
    Ok(run.train(data, &TrainBar::default())?)
}

/// Accuracy of a quantized network as it will be used.
fn on_integers(
    quantized: &QuantizedModel,
    kind: DatasetKind,
    data_dir: Option<&Path>,
    runtime: &Runtime,
) -> anyhow::Result<Option<Accuracy>> {
    let kernel = kernels::select_u8(Some(runtime.kernel.name()))?;
    // A network that it cannot run is a trained network all the same.
    let Ok(engine) = Engine::new(quantized, kernel) else {
        return Ok(None);
    };
    let test = Images::open(quantized.model(), kind, data_dir, Split::Test, None)?;
    let bars = Bars::about("on integers");
    let evaluation = evaluate(&engine, &test, &test.first(None), &bars)?;
    Ok(Some(evaluation.accuracy))
}

/// A new run in `out` by `recipe`, from `initial` or from the recipe's initial parameters.
pub(crate) fn begin(
    out: &Path,
    recipe: Recipe,
    initial: Option<Model>,
    data_dir: Option<&Path>,
    options: TrainOptions,
) -> anyhow::Result<Run> {
    let model = match initial {
        Some(model) => model,
        None => {
            let graph = recipe
                .architecture
                .graph(input(&recipe), classes(&recipe, data_dir)?)?;
            initial_model(graph, recipe.seed)?
        }
    };
    // What cannot be trained on should not leave a folder.
    Images::open(&model, recipe.dataset, data_dir, Split::Train, None)?;
    let folder = RunFolder::create(out)?;
    let data_dir = data_dir.map(absolute);
    Ok(Run::start(folder, recipe, &model, data_dir, options)?)
}

impl TrainArgs {
    fn begin(&self, options: TrainOptions) -> anyhow::Result<Run> {
        let name = self.recipe.as_deref().or(self.qat.then_some("qat"));
        // The parser has seen to both.
        let (Some(name), Some(out)) = (name, &self.out) else {
            bail!("name a recipe and a folder for the run (--out)");
        };
        let mut recipe = Recipe::load(name, &self.overrides())?;
        let initial = match (&self.from, &recipe.qat) {
            (Some(path), Some(_)) => {
                let model = float(path, self.arch)?;
                recipe.architecture = model.graph().name().parse()?;
                Some(model)
            }
            (Some(path), None) => Some(self.initial(path, &recipe)?),
            (None, Some(_)) => {
                bail!("quantization-aware training needs a trained network: --from MODEL")
            }
            (None, None) => None,
        };
        begin(out, recipe, initial, self.data_dir.as_deref(), options)
    }

    fn overrides(&self) -> Vec<String> {
        let bits = |own: Option<u8>| own.or(self.bits).map(|v| v.to_string());
        let flag = |key: &str, value: Option<String>| value.map(|value| format!("{key}={value}"));
        let flags = [
            flag("epochs", self.epochs.map(|v| v.to_string())),
            flag("batch", self.batch.map(|v| v.to_string())),
            // As a float, also where it is whole.
            flag("lr", self.lr.map(|v| format!("{v:?}"))),
            flag("architecture", self.arch.map(|v| v.to_string())),
            flag("dataset", self.dataset.map(|v| v.to_string())),
            flag("seed", self.seed.map(|v| v.to_string())),
            flag("qat.weight-bits", bits(self.weight_bits)),
            flag("qat.activation-bits", bits(self.activation_bits)),
        ];
        let settings = self.settings.iter().cloned();
        settings.chain(flags.into_iter().flatten()).collect()
    }

    fn initial(&self, path: &Path, recipe: &Recipe) -> anyhow::Result<Model> {
        let model = float(path, Some(recipe.architecture))?;
        if model.graph().name() != recipe.architecture.name() {
            bail!(
                "{}: is a `{}`, the recipe trains a `{}`; name the network with --arch",
                path.display(),
                model.graph().name(),
                recipe.architecture
            );
        }
        Ok(model)
    }
}

/// The float model at `path`.
fn float(path: &Path, architecture: Option<Architecture>) -> anyhow::Result<Model> {
    let options = ImportOptions {
        architecture,
        ..ImportOptions::default()
    };
    match AnyModel::open(path, &options)? {
        AnyModel::Float(model) => Ok(model),
        AnyModel::Quantized(_) => bail!(
            "{}: is quantized; --from takes the float model that it was made from",
            path.display()
        ),
    }
}

fn input(recipe: &Recipe) -> FeatureShape {
    let published = recipe.architecture.default_input();
    FeatureShape::new(recipe.dataset.channels(), published.height, published.width)
}

/// The data set's number of classes; an image folder has to be looked at.
fn classes(recipe: &Recipe, data_dir: Option<&Path>) -> Result<usize, TrainError> {
    match recipe.dataset.class_names() {
        [] => {
            let input = input(recipe);
            let crop = u32::try_from(input.height.min(input.width)).unwrap_or(u32::MAX);
            let options = OpenOptions {
                resize: default_resize(crop),
                crop,
                ..OpenOptions::default()
            };
            let dataset = Dataset::open(recipe.dataset, data_dir, Split::Train, &options)?;
            Ok(dataset.num_classes())
        }
        names => Ok(names.len()),
    }
}

/// So that a run can be resumed from another folder.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn list(json: bool) -> anyhow::Result<()> {
    if json {
        let recipes = Recipe::built_in()
            .map(|name| Ok((name, Recipe::load(name, &[""; 0])?)))
            .collect::<Result<std::collections::BTreeMap<_, _>, TrainError>>()?;
        return output::json(&recipes);
    }
    let mut lines = Vec::new();
    for name in Recipe::built_in() {
        let text = Recipe::built_in_text(name).unwrap_or_default();
        let comment: Vec<&str> = text
            .lines()
            .map_while(|line| line.strip_prefix('#'))
            .map(str::trim)
            .collect();
        lines.push(format!("{name:16}{}", comment.join(" ")));
    }
    output::text(&lines.join("\n"))
}

fn show(name: &str) -> anyhow::Result<()> {
    let recipe = Recipe::load(name, &[""; 0])?;
    match Recipe::built_in_text(name) {
        Some(text) => output::text(text.trim_end()),
        None => output::text(recipe.to_toml()?.trim_end()),
    }
}

impl std::fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Recipe {
            architecture,
            dataset,
            ..
        } = self.recipe;
        writeln!(
            f,
            "trained   {architecture} on {dataset}, {} epochs",
            self.epochs
        )?;
        for (name, top1, loss) in [
            ("training", self.train_top1, self.train_loss),
            ("test", self.test_top1, self.test_loss),
        ] {
            if let (Some(top1), Some(loss)) = (top1, loss) {
                let top1 = output::percent(top1);
                writeln!(f, "{name:10}top-1 {top1}, loss {loss:.4}")?;
            }
        }
        if let Some(integer) = self.integer {
            let top1 = output::percent(integer.top1);
            writeln!(f, "integers  top-1 {top1}, loss {:.4}", integer.loss)?;
        }
        writeln!(f, "model     {}", self.model)?;
        writeln!(
            f,
            "time      {:.1} s, {} kernel, {} thread(s)",
            self.seconds, self.kernel, self.threads
        )?;
        if self.device != TrainDevice::Cpu.as_str() {
            writeln!(f, "device    {}", self.device)?;
        }
        let next = match self.recipe.qat {
            None => format!("quantize {} --bits 4", self.model),
            Some(_) => format!("eval {}", self.model),
        };
        write!(f, "next      addernet {next} --dataset {dataset} …")
    }
}
