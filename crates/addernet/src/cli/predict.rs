//! `addernet predict`.

use std::path::{Path, PathBuf};

use addernet::data::{Normalization, image_files};
use addernet::graph::Preprocessing;
use addernet::{DatasetKind, Model, Prediction, predict};
use anyhow::{anyhow, bail};
use clap::Args;
use serde::Serialize;

use super::args::{ModelArgs, RunArgs, count, dataset};
use super::engine::{Engine, EngineArgs};
use super::output;
use super::progress::Bars;
use super::table::table;

const EXAMPLES: &str = "\
Examples:
  addernet predict q4.safetensors frog.png
  addernet predict q4.safetensors photos/ --top 1
  addernet predict resnet20.pth frog.png --dataset cifar10 --json

An image of the network's input size is taken as it is, and a smaller one for a network of grey images is padded with black. Others are resized so that their shorter side is 256 pixels for every 224 of the input (or --resize), and the input is cut from the centre.

Images that cannot be read are reported on standard error, one line each; the others are predicted all the same, and the exit status is 1.";

/// Classify image files
///
/// Prints the most likely classes of each image (JPEG, PNG, BMP, PNM, WebP) with their probabilities.
/// Quantized models run on integers alone, float models in floating point.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PredictArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Image files, or folders, of which all images are taken, those in sub-folders too, in the order of
    /// their names
    #[arg(required = true, value_name = "IMAGE|DIR")]
    images: Vec<PathBuf>,

    /// Number of classes to show, the likeliest first
    #[arg(long, value_name = "K", value_parser = count(1), default_value = "5")]
    top: usize,

    /// Data set that the model was trained on, for a model file that does not say how images are
    /// normalised or what the classes are called, such as a checkpoint
    #[arg(long, value_name = "NAME", value_parser = dataset())]
    dataset: Option<DatasetKind>,

    /// Shorter side of the images before the centre is cut out
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    resize: Option<u32>,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    run: RunArgs,
}

/// The JSON object.
#[derive(Serialize)]
struct Report {
    model: String,
    engine: Engine,
    kernel: &'static str,
    threads: usize,
    images: Vec<ImageReport>,
    failures: Vec<Failure>,
}

#[derive(Serialize)]
struct ImageReport {
    file: String,
    /// The likeliest first.
    classes: Vec<ClassReport>,
    /// Of all classes, in their order.
    logits: Vec<f64>,
}

#[derive(Serialize)]
struct ClassReport {
    class: usize,
    /// Its number, if it has no name.
    name: String,
    score: f64,
    logit: f64,
}

#[derive(Serialize)]
struct Failure {
    file: String,
    error: String,
}

pub(crate) fn run(args: &PredictArgs) -> anyhow::Result<()> {
    let runtime = args.run.start()?;
    let model = args.model.open()?;
    let engine = args.engine.choose(&args.model.model, &model)?;
    let preprocessing = preprocessing(args, engine, model.float())?;
    let names = class_names(args, model.float())?;
    let (classifier, kernel) = engine.start(&model, &args.run, &runtime)?;

    let (files, mut failures) = files(&args.images);
    let bars = Bars::default();
    let outcomes = predict(&*classifier, &files, &preprocessing, args.resize, &bars);
    let mut images = Vec::new();
    for (file, outcome) in files.iter().zip(outcomes) {
        match outcome {
            Ok(prediction) => images.push(ImageReport::new(file, &prediction, args.top, &names)),
            Err(error) => failures.push(Failure::new(file, error.into())),
        }
    }
    let report = Report {
        model: args.model.model.display().to_string(),
        engine,
        kernel,
        threads: runtime.threads,
        images,
        failures,
    };
    if args.run.json {
        output::json(&report)?;
    } else if !report.images.is_empty() {
        output::text(&report.to_string())?;
    }
    // The last one is the verb's own error.
    let mut errors = report
        .failures
        .into_iter()
        .map(|failure| anyhow!(failure.error));
    let last = errors.next_back();
    errors.for_each(|error| output::error(&error));
    last.map_or(Ok(()), Err)
}

/// All image files in the order of `paths`, and the folders without any.
fn files(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<Failure>) {
    let (mut files, mut failures) = (Vec::new(), Vec::new());
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match image_files(path) {
            Ok(found) if found.is_empty() => {
                let error = anyhow!(
                    "{}: the folder has no images, nor do its sub-folders: expected files ending in .jpg, \
                     .jpeg, .png, .bmp, .ppm, .pgm or .webp",
                    path.display()
                );
                failures.push(Failure::new(path, error));
            }
            Ok(found) => files.extend(found),
            Err(error) => failures.push(Failure::new(path, error.into())),
        }
    }
    (files, failures)
}

/// How pixels become the network's input: as the model says, or as in the data set that is named.
fn preprocessing(
    args: &PredictArgs,
    engine: Engine,
    model: &Model,
) -> anyhow::Result<Preprocessing> {
    let shown = args.model.model.display();
    let channels = model.graph().input_shape().channels;
    let published = args.dataset.map(Normalization::published);
    match (&model.info().preprocessing, published) {
        (Some(own), _) => Ok(own.clone()),
        // The engine has it folded into its integers, and will say that it is missing.
        (None, None) if engine != Engine::Integer => bail!(
            "{shown}: does not say how images are normalised, as checkpoints do not; name the data set that \
             it was trained on, such as --dataset cifar10 (imagefolder stands for ImageNet's values)"
        ),
        (None, Some(published)) if published.channels() != channels => bail!(
            "{shown}: takes images of {channels} channel(s), and those of --dataset have {}; name the data \
             set that it was trained on",
            published.channels()
        ),
        (None, published) => Ok(Preprocessing {
            mean: published.as_ref().map_or(Vec::new(), |p| p.mean().to_vec()),
            std: published.as_ref().map_or(Vec::new(), |p| p.std().to_vec()),
        }),
    }
}

/// The model's own names, those of the data set, or numbers.
fn class_names(args: &PredictArgs, model: &Model) -> anyhow::Result<Vec<String>> {
    let classes = model.graph().classes();
    let own = &model.info().class_names;
    let published = args.dataset.map_or(&[][..], DatasetKind::class_names);
    if !own.is_empty() {
        Ok(own.clone())
    } else if published.is_empty() {
        Ok((0..classes).map(|class| class.to_string()).collect())
    } else if published.len() == classes {
        Ok(published.iter().map(|&name| name.to_owned()).collect())
    } else {
        bail!(
            "{}: tells {classes} classes apart, and those of --dataset are {}; name the data set that it was \
             trained on",
            args.model.model.display(),
            published.len()
        )
    }
}

impl ImageReport {
    fn new(file: &Path, prediction: &Prediction, top: usize, names: &[String]) -> Self {
        let classes = prediction.top(top).into_iter().map(|c| ClassReport {
            class: c.class,
            name: names[c.class].clone(),
            score: c.score,
            logit: c.logit,
        });
        Self {
            file: file.display().to_string(),
            classes: classes.collect(),
            logits: prediction.logits().to_vec(),
        }
    }

    /// One row per class; the first has the file's name.
    fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        self.classes.iter().enumerate().map(|(i, class)| {
            let file = match i {
                0 => self.file.clone(),
                _ => String::new(),
            };
            vec![file, class.name.clone(), output::percent(class.score)]
        })
    }
}

impl Failure {
    fn new(file: &Path, error: anyhow::Error) -> Self {
        Self {
            file: file.display().to_string(),
            error: output::one_line(&error),
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows = self.images.iter().flat_map(ImageReport::rows);
        f.write_str(&table(["image", "class", "score"], rows, 2))
    }
}
