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

use std::cell::RefCell;
use std::path::Path;
use std::process::Command;

use addernet_data::{Dataset, DatasetKind, OpenOptions, Split, Transform};
use addernet_graph::{FeatureShape, zoo::Architecture};
use addernet_kernels::{ConvGeometry, reference};
use addernet_train::{
    AdderConvOptions, Recipe, Run, RunFolder, StepReport, TrainDevice, TrainError, TrainListener,
    TrainOptions, TrainingData, adder_conv2d, initial_model,
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

fn assert_close(name: &str, actual: &TensorData, expected: &[f32]) {
    let actual = actual.as_slice::<f32>().unwrap();
    assert_eq!(actual.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let error = actual.iter().zip(expected).fold(0.0_f32, |m, (a, b)| {
        // `max` would drop a NaN.
        assert!(a.is_finite(), "{name}: {a}");
        m.max((a - b).abs())
    });
    assert!(error <= TOLERANCE * largest, "{name}: {error} of {largest}");
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

    fn check(&self, name: &str, device: &Device) {
        let results = self.on(device);
        let whats = ["y", "grad_x", "grad_w"];
        for ((what, actual), expected) in whats.iter().zip(&results).zip(self.reference()) {
            let name = format!("{name}, {:?}: {what}", self.geometry);
            assert_close(&name, actual, &expected);
        }
    }
}

#[test]
fn two_hundred_random_problems_agree_with_the_reference() {
    let Some(device) = device() else {
        return;
    };
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for i in 0..200 {
        Problem::random(&mut rng).check(&format!("problem {i}"), &device);
    }
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

/// Keeps the losses.
#[derive(Default)]
struct Losses(RefCell<Vec<f64>>);

impl TrainListener for Losses {
    fn step(&self, report: &StepReport) {
        self.0.borrow_mut().push(report.loss);
    }
}

/// The mean training loss of each epoch, of one step each, on generated images.
fn losses(device: TrainDevice, folder: &Path, name: &str) -> Vec<f64> {
    let settings = [
        "architecture=lenet5-bn",
        "train-images=64",
        "epochs=24",
        "batch=64",
        "lr=0.05",
        "stall-epochs=0",
    ];
    let recipe = Recipe::load("shapes", &settings).unwrap();
    let options = OpenOptions {
        shapes_len: Some(64),
        ..OpenOptions::default()
    };
    let train = Dataset::open(DatasetKind::Shapes, None, Split::Train, &options).unwrap();
    let graph = Architecture::LeNet5Bn
        .graph(FeatureShape::new(3, 32, 32), 10)
        .unwrap();
    let model = initial_model(graph, recipe.seed).unwrap();
    let data = TrainingData {
        train: &train,
        test: None,
        transform: &Transform::eval(DatasetKind::Shapes),
    };
    let options = TrainOptions {
        evaluate_every: 0,
        device,
        ..TrainOptions::default()
    };
    let folder = RunFolder::create(&folder.join(name)).unwrap();
    let mut run = Run::start(folder, recipe, &model, None, options).unwrap();
    let listener = Losses::default();
    run.train(data, &listener).unwrap();
    run.history().iter().map(|epoch| epoch.train_loss).collect()
}

/// Rounding differs, and training makes it grow: the first losses agree closely, the later ones as curves do.
#[test]
fn training_follows_the_cpus_curve() {
    if device().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cpu = losses(TrainDevice::Cpu, folder.path(), "cpu");
    let gpu = losses(TrainDevice::Gpu, folder.path(), "gpu");
    assert_eq!(cpu.len(), 24);
    assert_eq!(gpu.len(), 24);
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
