use std::cell::RefCell;
use std::path::Path;

use addernet_data::{DatasetKind, OpenOptions, Split, batches, shuffled};
use addernet_graph::GraphError;
use addernet_graph::file::ModelFile;
use addernet_quant::{reestimate_float_bn, store};

use super::course::steps;
use super::*;
use crate::init::initial_model;

fn shapes(split: Split, len: usize) -> Dataset {
    let options = OpenOptions {
        shapes_len: Some(len),
        ..OpenOptions::default()
    };
    Dataset::open(DatasetKind::Shapes, None, split, &options).unwrap()
}

fn recipe(settings: &[&str]) -> Recipe {
    let small = [
        "architecture=lenet5-bn",
        "train-images=70",
        "batch=32",
        "epochs=2",
    ];
    Recipe::load("shapes", &[&small, settings].concat()).unwrap()
}

fn start(path: &Path, recipe: Recipe) -> Run {
    let input = FeatureShape::new(3, 32, 32);
    let graph = recipe.architecture.graph(input, 10).unwrap();
    let model = initial_model(graph, recipe.seed).unwrap();
    start_from(&model, path, recipe)
}

fn start_from(model: &Model, path: &Path, recipe: Recipe) -> Run {
    let folder = RunFolder::create(path).unwrap();
    Run::start(folder, recipe, model, None, TrainOptions::default()).unwrap()
}

/// A network with something to quantize: its BN has seen activations.
fn float() -> Model {
    let scratch = tempfile::tempdir().unwrap();
    let recipe = recipe(&["epochs=1", "bn-momentum=1.0"]);
    let mut run = start(&scratch.path().join("float"), recipe);
    train(&mut run, &()).unwrap().model().clone()
}

/// On one thread: then all sums are in the same order.
fn one_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.unwrap().install(work)
}

fn train(run: &mut Run, listener: &dyn TrainListener) -> Result<Trained, TrainError> {
    let (train, test) = (shapes(Split::Train, 80), shapes(Split::Test, 40));
    let data = TrainingData {
        train: &train,
        test: Some(&test),
        transform: &Transform::eval(DatasetKind::Shapes),
    };
    run.train(data, listener)
}

/// Stops the process, as far as the run can tell: from some write on, nothing reaches the disk.
struct Dying {
    writes: RefCell<usize>,
}

impl TrainListener for Dying {
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), GraphError> {
        let mut left = self.writes.borrow_mut();
        if *left == 0 {
            return Err(GraphError::Io {
                path: path.to_owned(),
                source: std::io::Error::other("killed"),
            });
        }
        *left -= 1;
        addernet_graph::file::write_atomically(path, bytes)
    }
}

#[test]
fn statistics_computed_anew_change_nothing_that_is_learned() {
    one_thread(|| {
        let scratch = tempfile::tempdir().unwrap();
        // One image more than two batches, which would be a batch of its own.
        let settings = ["train-images=65", "bn-images=65"];
        let [running, anew] = [&settings[..1], &settings].map(|settings| {
            let path = scratch.path().join(settings.len().to_string());
            let mut run = start(&path, recipe(settings));
            let trained = train(&mut run, &()).unwrap();
            let saved = ModelFile::read(run.folder().model()).unwrap();
            let saved = saved.into_model().unwrap();
            assert_eq!(trained.model().parameters(), saved.parameters());
            (saved, run.history().to_vec())
        });
        for (name, values) in running.0.parameters() {
            let same = !name.contains("running_");
            assert_eq!(anew.0.parameters()[name] == *values, same, "{name}");
        }
        assert_eq!(running.1[1].train_loss, anew.1[1].train_loss);
        // They are those of the last epoch's first two batches, as it saw them.
        let recipe = recipe(&settings);
        let train = shapes(Split::Train, 80);
        let order = shuffled(&(0..65).collect::<Vec<_>>(), recipe.seed, 1);
        let transform = Transform {
            augmentation: Some(recipe.augmentation(1)),
            ..Transform::eval(DatasetKind::Shapes)
        };
        let seen = batches(&train, &order[..64], recipe.batch, &transform).unwrap();
        let kernel = TrainOptions::default().kernel;
        let executor = Executor::new(&running.0, kernel).unwrap();
        let expected =
            reestimate_float_bn(&executor, seen.map(|batch| batch.map(|batch| batch.images)));
        assert_eq!(expected.unwrap().parameters(), anew.0.parameters());
        assert_ne!(running.1[1].test_loss, anew.1[1].test_loss);
    });
}

#[test]
fn a_run_repeats_exactly_and_leaves_its_files() {
    one_thread(|| {
        let scratch = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| scratch.path().join(name));
        let models = paths.each_ref().map(|path| {
            let mut run = start(path, recipe(&[]));
            let model = train(&mut run, &()).unwrap();
            assert_eq!(run.history().len(), 2);
            model
        });
        let models = models.map(|trained| trained.model().clone());
        assert_eq!(models[0].parameters(), models[1].parameters());
        let mut names: Vec<String> = std::fs::read_dir(&paths[0])
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let expected = [
            "checkpoint.safetensors",
            "curves.svg",
            "events.out.tfevents.addernet",
            "metrics.csv",
            "metrics.json",
            "model.safetensors",
            "recipe.toml",
            "run.json",
        ];
        assert_eq!(names, expected);
        let csv = std::fs::read_to_string(paths[0].join("metrics.csv")).unwrap();
        assert_eq!(csv.lines().count(), 3, "{csv}");
        let stored = ModelFile::read(paths[0].join("model.safetensors")).unwrap();
        let stored = stored.into_model().unwrap();
        assert_eq!(stored.parameters(), models[0].parameters());
        assert_eq!(stored.info().class_names[0], "circle");
    });
}

/// Kills runs at each of these writes, resumes them, and compares what becomes of them with a run that was not killed.
fn kill_and_resume(
    model: &Model,
    recipe: &Recipe,
    writes: impl IntoIterator<Item = usize>,
) -> usize {
    let scratch = tempfile::tempdir().unwrap();
    let options = TrainOptions {
        checkpoint_every: Duration::ZERO,
        ..TrainOptions::default()
    };
    let start = |name: &str| start_from(model, &scratch.path().join(name), recipe.clone());
    let whole = train(&mut start("whole"), &()).unwrap();
    let mut kills = 0;
    for writes in writes {
        let name = writes.to_string();
        let mut run = start(&name);
        run.course.options = options;
        let dying = Dying {
            writes: RefCell::new(writes),
        };
        kills += usize::from(train(&mut run, &dying).is_err());
        let folder = RunFolder::open(&scratch.path().join(&name)).unwrap();
        let mut run = Run::resume(folder, options).unwrap();
        let resumed = train(&mut run, &()).unwrap();
        let parameters = [&resumed, &whole].map(|trained| trained.model().parameters());
        assert_eq!(parameters[0], parameters[1], "{writes}");
        if let (Trained::Quantized(a), Trained::Quantized(b)) = (&resumed, &whole) {
            assert_eq!(a.layers(), b.layers(), "{writes}");
        }
        assert_eq!(run.history().len(), recipe.epochs);
    }
    kills
}

#[test]
fn a_run_killed_at_any_write_resumes_to_the_same_network() {
    // 3 steps and 5 more files in each epoch, 6 files before and 1 after them.
    let kills = one_thread(|| {
        let recipe = recipe(&[]);
        let graph = recipe.architecture.graph(FeatureShape::new(3, 32, 32), 10);
        let model = initial_model(graph.unwrap(), recipe.seed).unwrap();
        kill_and_resume(&model, &recipe, 1..=22)
    });
    assert!(kills >= 20, "{kills}");
}

#[test]
fn quantization_aware_training_resumes_to_the_same_codes() {
    let mixed = ["qat.labels=0", "qat.mixup=0.5"];
    let recipe = recipe(&[&QAT[..], &mixed].concat());
    // Before the first step, within an epoch, between two, at the end; on as many threads as there are.
    assert_eq!(kill_and_resume(&float(), &recipe, [1, 3, 8, 12, 17]), 5);
}

/// A little of it, on few images.
const QAT: [&str; 5] = [
    "qat.weight-bits=3",
    "qat.activation-bits=4",
    "qat.calibration-images=20",
    "qat.labels=0.5",
    "lr=1.0",
];

#[test]
fn quantization_aware_training_lowers_the_loss_and_leaves_a_quantized_model() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("run");
    let settings = [
        "epochs=6",
        "crop-padding=0",
        "flip=false",
        "qat.weight-rate=0.01",
    ];
    let mut run = start_from(&float(), &path, recipe(&[&QAT[..], &settings].concat()));
    let Trained::Quantized(trained) = train(&mut run, &()).unwrap() else {
        panic!("not quantized");
    };
    let losses: Vec<f64> = run.history().iter().map(|e| e.train_loss).collect();
    assert!(losses[5] < losses[0], "{losses:?}");
    assert!(run.history()[5].test_top1.is_some());
    let stored = store::from_file(ModelFile::read(path.join("model.safetensors")).unwrap());
    let stored = stored.unwrap();
    assert_eq!(stored.layers(), trained.layers());
    assert_eq!(stored.provenance().method, "quantization-aware-training");
    assert_eq!(stored.model().info().class_names[0], "circle");
    for layer in stored.layers().values() {
        assert_eq!(layer.weight_format.bits, 3);
        assert_eq!(layer.activation_format.bits, 4);
    }
    // The checkpoint has another kind of network in it.
    let file = path.join("checkpoint.safetensors");
    let mut damaged = ModelFile::read(&file).unwrap();
    damaged.extensions.remove("observations");
    std::fs::write(&file, damaged.to_bytes().unwrap()).unwrap();
    let folder = RunFolder::open(&path).unwrap();
    let error = Run::resume(folder, TrainOptions::default()).err().unwrap();
    assert!(
        error.to_string().contains("`observations` are gone"),
        "{error}"
    );
}

#[test]
fn the_loss_falls() {
    let scratch = tempfile::tempdir().unwrap();
    let settings = [
        "epochs=12",
        "batch=10",
        "lr=0.02",
        "train-images=40",
        "crop-padding=0",
        "flip=false",
        "weight-decay=0",
    ];
    let mut run = start(&scratch.path().join("run"), recipe(&settings));
    train(&mut run, &()).unwrap();
    let losses: Vec<f64> = run.history().iter().map(|e| e.train_loss).collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(mean(&losses[9..]) < 0.95 * mean(&losses[..3]), "{losses:?}");
    assert!(run.history()[11].test_top1.is_some());
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_with_its_cause() {
    let scratch = tempfile::tempdir().unwrap();
    let mut run = start(
        &scratch.path().join("run"),
        recipe(&["lr=1e30", "epochs=20"]),
    );
    let error = train(&mut run, &()).unwrap_err().to_string();
    assert!(error.starts_with("training stopped at epoch "), "{error}");
    assert!(
        error.contains("the likely cause: the learning rate"),
        "{error}"
    );
}

#[test]
fn a_stalled_loss_stops_the_run_with_its_cause() {
    let scratch = tempfile::tempdir().unwrap();
    let settings = ["lr=1e-9", "stall-epochs=1"];
    let mut run = start(&scratch.path().join("run"), recipe(&settings));
    let error = train(&mut run, &()).unwrap_err().to_string();
    assert!(error.contains("after 1 epochs"), "{error}");
    assert!(error.contains("too small"), "{error}");
}

#[test]
fn folders_and_data_that_do_not_fit_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("run");
    let error = RunFolder::open(&path).unwrap_err().to_string();
    assert!(error.contains("is not there"), "{error}");
    std::fs::create_dir(&path).unwrap();
    let error = RunFolder::open(&path).unwrap_err().to_string();
    assert!(error.contains("holds no checkpoint"), "{error}");
    let mut run = start(&path, recipe(&["train-images=90"]));
    let error = train(&mut run, &()).unwrap_err().to_string();
    assert!(
        error.contains("90 training images; there are 80"),
        "{error}"
    );
    train(&mut start(&path, recipe(&["epochs=1"])), &()).unwrap();
    let error = RunFolder::create(&path).unwrap_err().to_string();
    assert!(error.contains("holds a run already"), "{error}");
    // A model file is no checkpoint.
    std::fs::copy(
        path.join("model.safetensors"),
        path.join("checkpoint.safetensors"),
    )
    .unwrap();
    let folder = RunFolder::open(&path).unwrap();
    let error = Run::resume(folder, TrainOptions::default()).err().unwrap();
    assert!(
        error.to_string().contains("no checkpoint of a run"),
        "{error}"
    );
    // Damaged ones are errors, wherever they are cut.
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("run");
    train(&mut start(&path, recipe(&["epochs=1"])), &()).unwrap();
    let file = path.join("checkpoint.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    for len in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&file, &bytes[..len]).unwrap();
        let folder = RunFolder::open(&path).unwrap();
        let error = Run::resume(folder, TrainOptions::default()).err().unwrap();
        assert!(
            error.to_string().contains("checkpoint.safetensors"),
            "{error}"
        );
    }
}

#[test]
fn the_last_batch_is_no_single_image() {
    assert_eq!(steps(64, 32), 2);
    assert_eq!(steps(65, 32), 2);
    assert_eq!(steps(66, 32), 3);
    assert_eq!(steps(2, 32), 1);
}
