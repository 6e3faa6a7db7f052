//! How fast a device trains.

use std::time::{Duration, Instant};

use addernet_data::Batch;
use addernet_graph::exec::geometry;
use addernet_graph::{Graph, Model};
use addernet_kernels::{AdderKernelF32, ConvGeometry, peak};
use burn::backend::{DispatchDevice, Flex};
use burn::tensor::TensorData;
use ndarray::Array4;

use crate::device::TrainDevice;
use crate::error::TrainError;
use crate::op::{AdderConvOptions, Passes};
use crate::recipe::Recipe;
use crate::trainer::{StepBench, TrainOptions};

/// Seconds of a training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTime {
    /// From the images, in the CPU's memory, to the logits.
    pub forward: f64,
    /// The whole step, with the optimizer, without making the batch.
    pub step: f64,
}

/// Seconds of an adder layer's passes, alone.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// The first layer of this shape.
    pub node: String,
    /// Layers that have this shape.
    pub layers: usize,
    /// The shape.
    pub geometry: ConvGeometry,
    /// `y = −Σ|x − w|`.
    pub forward: f64,
    /// `∂x`.
    pub grad_input: f64,
    /// `∂w`, with its normalisation.
    pub grad_weight: f64,
}

/// What a device reaches on registers alone, in terms per second; on the CPU, all of rayon's threads together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Products added up: half the number of floating point operations in a vendor's figure.
    pub products: f64,
    /// Absolute differences added up.
    pub absolute_differences: f64,
}

/// Steps of the recipe on a network of `model`, for about `min_time` each way. The images are noise.
///
/// # Errors
/// If the recipe is not valid, the graph cannot be trained, or the device is not there or fails.
pub fn step_time(
    recipe: &Recipe,
    model: &Model,
    options: TrainOptions,
    min_time: Duration,
) -> Result<StepTime, TrainError> {
    recipe.check(model.graph().name())?;
    let input = model.graph().input_shape();
    let shape = (recipe.batch, input.height, input.width, input.channels);
    let mut i = 0_u32;
    let images = Array4::from_shape_simple_fn(shape, || {
        i += 1;
        noise(i)
    });
    let classes = model.graph().classes() as u32;
    let batch = Batch {
        images,
        labels: (0..recipe.batch as u32).map(|i| i % classes).collect(),
        indices: (0..recipe.batch).collect(),
    };
    let mut bench = StepBench::new(recipe, model, options)?;
    let forward = seconds(min_time, |times| bench.forward(&batch, times))?;
    let step = seconds(min_time, |times| bench.steps(&batch, times))?;
    Ok(StepTime { forward, step })
}

/// The passes of each shape of adder layer in `graph`, for about `min_time` each.
///
/// # Errors
/// If the device is not there or fails, or `batch` images do not fit.
pub fn layer_times(
    graph: &Graph,
    batch: usize,
    options: TrainOptions,
    min_time: Duration,
) -> Result<Vec<LayerTime>, TrainError> {
    let mut layers: Vec<LayerTime> = Vec::new();
    for (_, node, attributes) in graph.adder_nodes() {
        let from = graph.nodes()[node.inputs()[0]].shape();
        let geometry = geometry(attributes, batch, from.height, from.width)?;
        if let Some(same) = layers.iter_mut().find(|layer| layer.geometry == geometry) {
            same.layers += 1;
            continue;
        }
        let conv = AdderConvOptions {
            kernel: options.kernel,
            ..AdderConvOptions::new(geometry.stride(), geometry.padding())
        };
        let [forward, grad_input, grad_weight] = passes(options.device, &geometry, conv, min_time)?;
        layers.push(LayerTime {
            node: node.name().to_owned(),
            layers: 1,
            geometry,
            forward,
            grad_input,
            grad_weight,
        });
    }
    Ok(layers)
}

/// The limits of a device, measured for about `min_time` each.
///
/// # Errors
/// If the device is not there or fails.
pub fn peak(
    device: TrainDevice,
    kernel: &dyn AdderKernelF32,
    min_time: Duration,
) -> Result<Peak, TrainError> {
    match device.open()?.as_dispatch() {
        #[cfg(feature = "gpu")]
        DispatchDevice::Cube(device) => {
            let [products, absolute_differences] = crate::gpu::peak::per_second(device, min_time)?;
            Ok(Peak {
                products,
                absolute_differences,
            })
        }
        _ => {
            let threads = rayon::current_num_threads() as f64;
            Ok(Peak {
                products: threads * peak::fma_elements_per_second(kernel, min_time),
                absolute_differences: threads * peak::l1_elements_per_second(kernel, min_time),
            })
        }
    }
}

/// Seconds of the three passes.
fn passes(
    device: TrainDevice,
    geometry: &ConvGeometry,
    options: AdderConvOptions,
    min_time: Duration,
) -> Result<[f64; 3], TrainError> {
    match device.open()?.as_dispatch() {
        #[cfg(feature = "gpu")]
        DispatchDevice::Cube(device) => {
            passes_on::<burn::backend::Cube>(device, geometry, options, min_time)
        }
        DispatchDevice::Flex(device) => passes_on::<Flex>(device, geometry, options, min_time),
        other => Err(TrainError::Device {
            reason: format!("{other:?} has no adder convolution"),
        }),
    }
}

fn passes_on<B: Passes>(
    device: &B::Device,
    geometry: &ConvGeometry,
    options: AdderConvOptions,
    min_time: Duration,
) -> Result<[f64; 3], TrainError> {
    let g = geometry;
    let tensor = |shape: [usize; 4]| {
        let values: Vec<f32> = (0..shape.iter().product::<usize>() as u32)
            .map(noise)
            .collect();
        B::float_from_data(TensorData::new(values, shape), device)
    };
    let x = tensor([g.batch(), g.in_height(), g.in_width(), g.in_channels()]);
    let w = tensor(g.weight_shape());
    let grad = tensor([g.batch(), g.out_height(), g.out_width(), g.out_channels()]);
    let time = |run: &dyn Fn()| {
        seconds(min_time, |times| {
            (0..times).for_each(|_| run());
            B::sync(device).map_err(TrainError::device)
        })
    };
    let gradient =
        |needed: [bool; 2]| time(&|| drop(B::gradients(&x, &w, grad.clone(), options, needed)));
    Ok([
        time(&|| drop(B::forward(&x, &w, options)))?,
        gradient([true, false])?,
        gradient([false, true])?,
    ])
}

/// Seconds per time of `run`, which is told how many times: the median of five measurements that take about `min_time`
/// together, after one to warm up.
fn seconds(
    min_time: Duration,
    mut run: impl FnMut(usize) -> Result<(), TrainError>,
) -> Result<f64, TrainError> {
    const MEASUREMENTS: usize = 5;
    run(1)?;
    let mut measure = |times: usize| -> Result<f64, TrainError> {
        let start = Instant::now();
        run(times)?;
        Ok(start.elapsed().as_secs_f64() / times as f64)
    };
    let once = measure(1)?;
    let each = min_time.as_secs_f64() / MEASUREMENTS as f64;
    let times = ((each / once.max(1e-9)) as usize).clamp(1, 10_000);
    let mut measured = (0..MEASUREMENTS)
        .map(|_| measure(times))
        .collect::<Result<Vec<_>, _>>()?;
    measured.sort_by(f64::total_cmp);
    Ok(measured[MEASUREMENTS / 2])
}

/// A number in [−1, 1) for a place: the high bits of a multiplicative (Fibonacci) hash.
fn noise(i: u32) -> f32 {
    (i.wrapping_mul(2_654_435_769) >> 8) as f32 / (1_u32 << 23) as f32 - 1.0
}
