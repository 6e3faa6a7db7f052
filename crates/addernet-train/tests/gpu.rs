//! The adder convolution on a GPU, or on a software device (Debian's `mesa-vulkan-drivers`): the golden cases, random
//! problems against the scalar reference, a short training run beside the CPU's, and what happens without a device.
//!
//! Without a device the tests say `skipped: …` and pass, unless `$ADDERNET_REQUIRE_GPU` is set.

#![cfg(feature = "gpu")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of tests may fail by panicking, like the test itself"
)]

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use addernet_data::{Dataset, DatasetKind, OpenOptions, Split, Transform};
use addernet_graph::file::{ModelFile, write_atomically};
use addernet_graph::{FeatureShape, GraphError, zoo::Architecture};
use addernet_kernels::{ConvGeometry, reference};
use addernet_train::{
    AdderConvOptions, EpochReport, Recipe, Run, RunFolder, StepReport, TrainDevice, TrainError,
    TrainListener, TrainOptions, Trained, TrainingData, adder_conv2d, initial_model,
};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;

/// The largest difference, of the largest value.
const TOLERANCE: f32 = 1e-4;

/// Says on standard error that a test is skipped. `eprintln!` would be hidden: the test passes.
fn skipped(reason: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
}

/// The device, if there is one.
fn device() -> Option<Device> {
    match TrainDevice::Gpu.open() {
        Ok(device) => Some(device.autodiff()),
        Err(error) => {
            let required = std::env::var_os("ADDERNET_REQUIRE_GPU").is_some();
            assert!(!required, "{error}");
            skipped(format_args!("{error}"));
            None
        }
    }
}

/// Gives the largest difference, of the largest value.
fn assert_close(name: &str, actual: &TensorData, expected: &[f32]) -> f32 {
    let actual = actual.as_slice::<f32>().unwrap();
    assert_eq!(actual.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let error = actual.iter().zip(expected).fold(0.0_f32, |m, (a, b)| {
        // `max` would drop a NaN.
        assert!(a.is_finite(), "{name}: {a}");
        m.max((a - b).abs())
    });
    assert!(error <= TOLERANCE * largest, "{name}: {error} of {largest}");
    if largest > 0.0 { error / largest } else { 0.0 }
}

fn read(file: &SafeTensors<'_>, name: &str) -> TensorData {
    let view = file.tensor(name).unwrap();
    let shape: [usize; 4] = view.shape().try_into().unwrap();
    let values = view
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    TensorData::new(values.collect::<Vec<f32>>(), shape)
}

#[test]
fn the_golden_cases_agree() {
    let Some(device) = device() else {
        return;
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/golden/adder2d_forward_backward.safetensors");
    let Ok(bytes) = std::fs::read(&path) else {
        skipped(format_args!("{} is not there", path.display()));
        return;
    };
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let cases = &header.metadata().as_ref().unwrap()["cases"];
    let cases: Vec<serde_json::Value> = serde_json::from_str(cases).unwrap();
    assert_eq!(cases.len(), 7);
    for (i, case) in cases.iter().enumerate() {
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let tensor = |what: &str| read(&file, &format!("case{i}.{what}"));
        let leaf = |what| Tensor::<4>::from_data(tensor(what), &device).require_grad();
        let (x, w) = (leaf("x"), leaf("w"));
        let options = AdderConvOptions::new([number("stride"); 2], [number("padding"); 2]);
        let y = adder_conv2d(x.clone().permute([0, 2, 3, 1]), w.clone(), options);
        let y = y.permute([0, 3, 1, 2]);
        let expect = |what: &str, actual: Tensor<4>| {
            let expected = tensor(what);
            let name = format!("case{i}.{what}");
            assert_close(&name, &actual.into_data(), expected.as_slice().unwrap());
        };
        expect("y", y.clone().inner());
        let grad_y = Tensor::<4>::from_data(tensor("grad_y"), &device);
        let grads = (y * grad_y).sum().backward();
        expect("grad_x", x.grad(&grads).unwrap());
        expect("grad_w", w.grad(&grads).unwrap());
    }
}

/// A layer with its values.
struct Problem {
    geometry: ConvGeometry,
    x: Vec<f32>,
    w: Vec<f32>,
    grad: Vec<f32>,
    eta: Option<f32>,
}

impl Problem {
    fn random(rng: &mut ChaCha8Rng) -> Self {
        let kernels = [[1, 1], [3, 3], [5, 5], [2, 3], [3, 1], [1, 4]];
        loop {
            let kernel = kernels[rng.random_range(0..kernels.len())];
            // Tiles are 16, 32 and 64 channels wide and 16 deep: numbers around these, and any.
            let mut channels = || match rng.random_range(0..3) {
                0 => [1, 3, 4, 15, 16, 17, 32, 33, 64, 65][rng.random_range(0..10)],
                _ => rng.random_range(1..=70),
            };
            let (inputs, outputs) = (channels(), channels());
            let input = [
                rng.random_range(1..=3),
                rng.random_range(1..=14),
                rng.random_range(1..=14),
                inputs,
            ];
            let stride = [rng.random_range(1..=3), rng.random_range(1..=3)];
            let padding = [rng.random_range(0..=2), rng.random_range(0..=2)];
            // A window may be larger than the map.
            let Ok(geometry) = ConvGeometry::new(input, outputs, kernel, stride, padding) else {
                continue;
            };
            // Activations behind a ReLU, and weights as wide as published ones now and then.
            let wide = if rng.random_bool(0.2) { 20.0 } else { 1.5 };
            let shift = rng.random_range(0.0_f32..1.0);
            let mut values = |len: usize, range: f32, offset: f32| -> Vec<f32> {
                (0..len)
                    .map(|_| offset + rng.random_range(-range..range))
                    .collect()
            };
            return Self {
                x: values(geometry.in_len(), 1.5, shift),
                w: values(geometry.weight_len(), wide, 0.0),
                grad: values(geometry.out_len(), 1.0, 0.0),
                geometry,
                eta: rng.random_bool(0.5).then_some(0.2),
            };
        }
    }

    /// Output and gradients of input and weights.
    fn reference(&self) -> [Vec<f32>; 3] {
        let g = &self.geometry;
        let mut y = vec![0.0; g.out_len()];
        let (mut grad_x, mut grad_w) = (vec![0.0; g.in_len()], vec![0.0; g.weight_len()]);
        reference::forward(g, &self.x, &self.w, &mut y).unwrap();
        reference::grad_input(g, &self.x, &self.w, &self.grad, &mut grad_x).unwrap();
        reference::grad_weight(g, &self.x, &self.w, &self.grad, &mut grad_w).unwrap();
        if let Some(eta) = self.eta {
            reference::normalise_grad_weight(&mut grad_w, eta);
        }
        [y, grad_x, grad_w]
    }

    fn on(&self, device: &Device) -> [TensorData; 3] {
        let g = &self.geometry;
        let tensor = |values: &[f32], shape: [usize; 4]| {
            Tensor::<4>::from_data(TensorData::new(values.to_vec(), shape), device)
        };
        let input = [g.batch(), g.in_height(), g.in_width(), g.in_channels()];
        let output = [g.batch(), g.out_height(), g.out_width(), g.out_channels()];
        let x = tensor(&self.x, input).require_grad();
        let w = tensor(&self.w, g.weight_shape()).require_grad();
        let options = AdderConvOptions {
            eta: self.eta,
            ..AdderConvOptions::new(g.stride(), g.padding())
        };
        let y = adder_conv2d(x.clone(), w.clone(), options);
        let grads = (y.clone() * tensor(&self.grad, output)).sum().backward();
        [
            y.inner().into_data(),
            x.grad(&grads).unwrap().into_data(),
            w.grad(&grads).unwrap().into_data(),
        ]
    }

    /// Gives the differences of output and gradients.
    fn check(&self, name: &str, device: &Device) -> [f32; 3] {
        let (results, expected) = (self.on(device), self.reference());
        std::array::from_fn(|i| {
            let what = ["y", "grad_x", "grad_w"][i];
            let name = format!("{name}, {:?}: {what}", self.geometry);
            assert_close(&name, &results[i], &expected[i])
        })
    }
}

#[test]
fn two_hundred_random_problems_agree_with_the_reference() {
    let Some(device) = device() else {
        return;
    };
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut worst = [0.0_f32; 3];
    for i in 0..200 {
        let differences = Problem::random(&mut rng).check(&format!("problem {i}"), &device);
        for (worst, difference) in worst.iter_mut().zip(differences) {
            *worst = worst.max(difference);
        }
    }
    println!("largest differences of y, grad_x, grad_w: {worst:?}");
}

/// More positions than a workgroup takes, several parts of the weights' gradient, and rows that end within a tile.
#[test]
fn larger_problems_agree_and_are_the_same_again() {
    let Some(device) = device() else {
        return;
    };
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for (input, outputs, stride) in [([4, 33, 31, 16], 16, 1), ([2, 30, 30, 20], 40, 2)] {
        let geometry = ConvGeometry::new(input, outputs, [3, 3], [stride; 2], [1, 1]).unwrap();
        let mut values =
            |len: usize| -> Vec<f32> { (0..len).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let problem = Problem {
            x: values(geometry.in_len()),
            w: values(geometry.weight_len()),
            grad: values(geometry.out_len()),
            geometry,
            eta: None,
        };
        problem.check("large", &device);
        assert_eq!(problem.on(&device), problem.on(&device));
    }
}

/// A layer whose outputs do not matter has no gradient, and one with a tiny one gets the same norm as any other.
#[test]
fn vanishing_gradients_are_normalised_as_on_the_cpu() {
    let Some(device) = device() else {
        return;
    };
    let geometry = ConvGeometry::new([1, 4, 4, 3], 5, [3, 3], [1, 1], [1, 1]).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let mut values = |len: usize, scale: f32| -> Vec<f32> {
        (0..len)
            .map(|_| scale * rng.random_range(-1.0_f32..1.0))
            .collect()
    };
    // 10⁻¹³ is below the smallest norm that counts.
    for scale in [0.0, 1e-9, 1e-15] {
        let problem = Problem {
            x: values(geometry.in_len(), 1.0),
            w: values(geometry.weight_len(), 1.0),
            grad: values(geometry.out_len(), scale),
            geometry,
            eta: Some(0.2),
        };
        problem.check(&format!("gradients of {scale:e}"), &device);
    }
}

/// Keeps the losses, and dies at a write if it is told to: from then on nothing reaches the disk.
#[derive(Default)]
struct Watcher {
    losses: RefCell<Vec<f64>>,
    writes_left: Option<Cell<usize>>,
}

impl TrainListener for Watcher {
    fn step(&self, report: &StepReport) {
        self.losses.borrow_mut().push(report.loss);
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), GraphError> {
        if let Some(left) = &self.writes_left {
            let Some(now) = left.get().checked_sub(1) else {
                return Err(GraphError::Io {
                    path: path.to_owned(),
                    source: std::io::Error::other("killed"),
                });
            };
            left.set(now);
        }
        write_atomically(path, bytes)
    }
}

/// Trains LeNet-5 on generated images.
struct Training {
    folder: PathBuf,
    recipe: Recipe,
    options: TrainOptions,
}

impl Training {
    fn new(folder: PathBuf, device: TrainDevice, settings: &[&str]) -> Self {
        let common = ["architecture=lenet5-bn", "lr=0.05", "stall-epochs=0"];
        Self {
            folder,
            recipe: Recipe::load("shapes", &[&common, settings].concat()).unwrap(),
            options: TrainOptions {
                evaluate_every: 0,
                checkpoint_every: Duration::MAX,
                device,
                ..TrainOptions::default()
            },
        }
    }

    fn start(&self) -> Run {
        let graph = Architecture::LeNet5Bn
            .graph(FeatureShape::new(3, 32, 32), 10)
            .unwrap();
        let model = initial_model(graph, self.recipe.seed).unwrap();
        let folder = RunFolder::create(&self.folder).unwrap();
        Run::start(folder, self.recipe.clone(), &model, None, self.options).unwrap()
    }

    fn run(&self, run: &mut Run, watcher: &Watcher) -> Result<Trained, TrainError> {
        let options = OpenOptions {
            shapes_len: Some(self.recipe.train_images.unwrap()),
            ..OpenOptions::default()
        };
        let train = Dataset::open(DatasetKind::Shapes, None, Split::Train, &options).unwrap();
        let data = TrainingData {
            train: &train,
            test: None,
            transform: &Transform::eval(DatasetKind::Shapes),
        };
        run.train(data, watcher)
    }

    /// The epochs of a run from the beginning to the end.
    fn epochs(&self) -> Vec<EpochReport> {
        let (mut run, watcher) = (self.start(), Watcher::default());
        self.run(&mut run, &watcher).unwrap();
        // There is a loss to show at every step, if not its own.
        let shown = watcher.losses.into_inner();
        let steps = self.recipe.train_images.unwrap() / self.recipe.batch * self.recipe.epochs;
        assert_eq!(shown.len(), steps);
        assert!(shown.iter().all(|loss| loss.is_finite()), "{shown:?}");
        run.history().to_vec()
    }
}

/// Rounding differs, and training makes it grow: the first losses agree closely, the later ones as curves do.
#[test]
fn training_follows_the_cpus_curve() {
    if device().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // One step per epoch, whose loss is the epoch's.
    let settings = ["train-images=64", "batch=64", "epochs=24"];
    let losses = |device: TrainDevice| -> Vec<f64> {
        let training = Training::new(folder.path().join(device.as_str()), device, &settings);
        let epochs = training.epochs();
        epochs.iter().map(|epoch| epoch.train_loss).collect()
    };
    let (cpu, gpu) = (losses(TrainDevice::Cpu), losses(TrainDevice::Gpu));
    assert_eq!((cpu.len(), gpu.len()), (24, 24));
    println!("losses on the CPU: {cpu:?}\nand on the device: {gpu:?}");
    for (step, (cpu, gpu)) in cpu.iter().zip(&gpu).enumerate() {
        let tolerance = if step < 5 { 1e-4 } else { 5e-3 };
        assert!(
            (cpu - gpu).abs() <= tolerance * cpu,
            "step {step}: {cpu} on the CPU, {gpu}"
        );
    }
    // Both learn.
    assert!(cpu[23] < 0.9 * cpu[0], "{cpu:?}");
}

/// Losses and hits are added up on the device, and read now and then: in epochs of 20 steps, some in their midst.
#[test]
fn epochs_add_up_and_interrupted_runs_end_alike() {
    if device().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let training = |name: &str, device: TrainDevice| {
        // At a rate this low rounding does not grow, and the two stay together over both epochs.
        let settings = ["train-images=80", "batch=4", "epochs=2", "lr=0.001"];
        Training::new(folder.path().join(name), device, &settings)
    };
    let cpu = training("cpu", TrainDevice::Cpu).epochs();
    let whole = training("whole", TrainDevice::Gpu);
    let gpu = whole.epochs();
    for (cpu, gpu) in cpu.iter().zip(&gpu) {
        let difference = (cpu.train_loss - gpu.train_loss).abs();
        assert!(difference <= 5e-3 * cpu.train_loss, "{cpu:?} {gpu:?}");
        // Two images of 80.
        let difference = (cpu.train_top1 - gpu.train_top1).abs();
        assert!(difference <= 2.0 / 80.0 + 1e-9, "{cpu:?} {gpu:?}");
    }

    let mut killed = training("killed", TrainDevice::Gpu);
    killed.options.checkpoint_every = Duration::ZERO;
    // Six files at the start, and a checkpoint per step.
    let dying = Watcher {
        writes_left: Some(Cell::new(6 + 7)),
        ..Watcher::default()
    };
    killed.run(&mut killed.start(), &dying).unwrap_err();
    let folder = RunFolder::open(&killed.folder).unwrap();
    let mut run = Run::resume(folder, killed.options).unwrap();
    assert!(run.history().is_empty());
    let trained = killed.run(&mut run, &Watcher::default()).unwrap();
    let expected = ModelFile::read(whole.folder.join("model.safetensors")).unwrap();
    let expected = expected.into_model().unwrap();
    assert_eq!(trained.model().parameters(), expected.parameters());
}

/// In a process of its own, whose graphics interface finds no driver.
#[test]
fn without_a_device_there_is_an_error() {
    const CHILD: &str = "ADDERNET_TEST_NO_DEVICE";
    if std::env::var_os(CHILD).is_some() {
        let error = TrainDevice::Gpu.open().unwrap_err();
        assert!(
            matches!(error, TrainError::GpuUnavailable { .. }),
            "{error}"
        );
        let message = error.to_string();
        assert!(
            !message.contains('\n') && message.contains("driver"),
            "{message}"
        );
        // And again: nothing is set up halfway.
        TrainDevice::Gpu.open().unwrap_err();
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "without_a_device_there_is_an_error",
            "--exact",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .env("VK_ICD_FILENAMES", "/nowhere/none.json")
        .env("VK_DRIVER_FILES", "/nowhere/none.json")
        .env("LIBGL_DRIVERS_PATH", "/nowhere")
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}
