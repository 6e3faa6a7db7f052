//! A small network and images for this crate's tests.

use addernet_graph::{
    ConvAttributes, Executor, FeatureShape, GraphBuilder, GraphError, Model, Op, Parameters,
};
use ndarray::{Array4, ArrayD};

use crate::method::{ActivationOriented, Method, MethodKind, Redistribution, SharedScale};
use crate::model::{Provenance, QuantizedModel};
use crate::observer::{Observations, calibrate};
use crate::reconstruct::{Kernels, Reconstruction, TrainingImages, reconstruct};

/// Deterministic values in −1..1 that no symmetry hides in.
pub(crate) fn wave(len: usize, phase: f64) -> Vec<f32> {
    (0..len)
        .map(|i| (0.37 * i as f64 + phase).sin() as f32)
        .collect()
}

/// conv1 – bn1 – relu1 – adder conv2 – bn2 – relu2 – adder conv3 (stride 2) – bn3 – pool, weights of
/// the adder layers far outside the activations' range, as in trained networks.
pub(crate) fn model() -> Model {
    let mut b = GraphBuilder::new("small", FeatureShape::new(3, 6, 6));
    let layers = [
        Op::Conv(ConvAttributes::square(3, 5, 3, 1, 1)),
        Op::AdderConv(ConvAttributes::square(5, 8, 3, 1, 1)),
        Op::AdderConv(ConvAttributes::square(8, 6, 3, 2, 1)),
    ];
    let mut x = "input".to_owned();
    for (i, op) in layers.into_iter().enumerate() {
        let n = i + 1;
        let channels = [5, 8, 6][i];
        x = b.add(format!("conv{n}"), op, &[&x]).unwrap();
        x = b
            .add(
                format!("bn{n}"),
                Op::BatchNorm {
                    channels,
                    eps: 1e-5,
                },
                &[&x],
            )
            .unwrap();
        if n < 3 {
            x = b.add(format!("relu{n}"), Op::Relu, &[&x]).unwrap();
        }
    }
    b.add("pool", Op::GlobalAvgPool, &[&x]).unwrap();
    let graph = b.build().unwrap();
    let parameters: Parameters = graph
        .parameters()
        .enumerate()
        .map(|(t, (name, shape))| {
            let len = shape.iter().product();
            let values: Vec<f32> = match name.rsplit('.').next().unwrap() {
                "adder" => wave(len, t as f64)
                    .iter()
                    .map(|v| 20.0 * v * v * v)
                    .collect(),
                "running_var" => wave(len, t as f64)
                    .iter()
                    .map(|v| 900.0 + 100.0 * v)
                    .collect(),
                "running_mean" if name != "bn1.running_mean" => vec![-250.0; len],
                _ => wave(len, t as f64),
            };
            (name, ArrayD::from_shape_vec(shape, values).unwrap())
        })
        .collect();
    Model::new(graph, parameters).unwrap()
}

pub(crate) fn images(count: usize, phase: f64) -> Array4<f32> {
    Array4::from_shape_vec((count, 6, 6, 3), wave(count * 108, phase)).unwrap()
}

pub(crate) fn observations(model: &Model) -> Observations {
    let executor = Executor::new(model, addernet_kernels::select(None).unwrap()).unwrap();
    calibrate(&executor, [Ok::<_, GraphError>(images(4, 0.5))], 0.999).unwrap()
}

pub(crate) fn provenance(method: MethodKind, bits: u8) -> Provenance {
    Provenance {
        method: method.name().to_owned(),
        weight_bits: bits,
        activation_bits: bits,
        groups: 3,
        weight_clamp: true,
        outlier_quantile: 0.999,
        calibration_images: 4,
        bn_images: 0,
        seed: 0,
        reconstruction: None,
    }
}

/// The small network, quantized.
pub(crate) fn quantized(kind: MethodKind, bits: u8) -> QuantizedModel {
    let model = model();
    let observations = observations(&model);
    let method: Box<dyn Method> = match kind {
        MethodKind::Redistribution => Box::new(Redistribution {
            bits,
            groups: 3,
            weight_clamp: true,
        }),
        MethodKind::SharedScale => Box::new(SharedScale { bits }),
        MethodKind::ActivationOriented => Box::new(ActivationOriented {
            weight_bits: bits,
            activation_bits: bits,
        }),
        MethodKind::Reconstruction => {
            let mut settings = Reconstruction::new(bits, bits);
            settings.tuning.steps = 2;
            let kernels = Kernels {
                f32: addernet_kernels::select(None).unwrap(),
                u8: addernet_kernels::select_u8(None).unwrap(),
            };
            let training = TrainingImages {
                search: images(4, 0.5),
                batch: |step| Ok::<_, GraphError>(images(8, step as f64)),
            };
            let provenance = provenance(kind, bits);
            return reconstruct(
                &model,
                &observations,
                &settings,
                training,
                provenance,
                kernels,
                &(),
            )
            .unwrap();
        }
    };
    QuantizedModel::quantize(&model, &observations, &*method, provenance(kind, bits)).unwrap()
}
