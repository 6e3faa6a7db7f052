use addernet_graph::{ConvAttributes, GraphError, PoolAttributes};

use super::*;
use crate::method::MethodKind;
use crate::simulate::Simulator;
use crate::testing::{images, model, observations, provenance};

fn kernels() -> Kernels {
    Kernels {
        f32: addernet_kernels::select(None).unwrap(),
        u8: addernet_kernels::select_u8(None).unwrap(),
    }
}

/// Short tuning, with rates for a network this small.
fn settings(bits: [u8; 2], steps: usize) -> Reconstruction {
    let mut settings = Reconstruction::new(bits[0], bits[1]);
    settings.tuning = Tuning {
        steps,
        affine_rate: 0.005,
        weight_rate: 0.01,
        scale_rate: 0.005,
        temperature: 1.0,
        features: 1.0,
        mixup: 0.0,
        labels: 0.0,
    };
    settings
}

fn batch(step: usize) -> Result<Array4<f32>, GraphError> {
    Ok(images(16, step as f64))
}

fn run(settings: &Reconstruction) -> Result<QuantizedModel, QuantError> {
    let model = model();
    let provenance = provenance(MethodKind::Reconstruction, settings.weight_bits);
    reconstruct(
        &model,
        &observations(&model),
        settings,
        TrainingImages {
            search: images(32, 0.5),
            batch,
        },
        provenance,
        kernels(),
        &(),
    )
}

/// Keeps what the last BN gives: behind the pooling that follows, little is left of this network's images.
struct LastBn(Array4<f32>);

impl Hook for LastBn {
    fn output(&mut self, _: NodeId, node: &Node, output: &Array4<f32>) -> Result<(), HookError> {
        if node.name() == "bn3" {
            self.0 = output.clone();
        }
        Ok(())
    }
}

/// Squared error behind the last BN over the variance of the float network's, on new images.
fn error(quantized: &QuantizedModel) -> f32 {
    let model = model();
    let (mut expected, mut found) = (
        LastBn(Array4::default([0; 4])),
        LastBn(Array4::default([0; 4])),
    );
    let float = Executor::new(&model, kernels().f32).unwrap();
    float.run_with(images(32, 100.5), &mut expected).unwrap();
    let simulator = Simulator::new(quantized, kernels().f32).unwrap();
    simulator.run_with(images(32, 100.5), &mut found).unwrap();
    let mean = expected.0.mean().unwrap();
    let variance = (&expected.0 - mean).mapv(|v| v * v).sum();
    (found.0 - &expected.0).mapv(|v| v * v).sum() / variance
}

#[test]
fn eight_bits_reproduce_the_float_network() {
    let found = error(&run(&settings([8, 8], 0)).unwrap());
    assert!(found < 1e-3, "{found}");
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| run(&settings([3, 3], 3)).unwrap())
    };
    let (one, three) = (run(1), run(3));
    assert_eq!(one.layers(), three.layers());
    assert_eq!(one.model().parameters(), three.model().parameters());
}

#[test]
fn weights_and_activations_share_a_grid_at_different_bits() {
    for (bits, multipliers, levels) in [([2, 4], [5, 1], 15), ([4, 2], [1, 5], 15)] {
        let quantized = run(&settings(bits, 2)).unwrap();
        for layer in quantized.layers().values() {
            let formats = [layer.weight_format, layer.activation_format];
            assert_eq!(formats.map(|format| format.bits), bits);
            assert_eq!(formats.map(|format| format.multiplier), multipliers);
            assert!(layer.groups.iter().all(|group| group.levels == levels));
        }
    }
}

#[test]
fn layers_can_have_bits_of_their_own() {
    let mut settings = settings([4, 4], 0);
    settings.layer_bits.insert("conv3".to_owned(), [2, 3]);
    let quantized = run(&settings).unwrap();
    let bits = |name: &str| {
        let layer = &quantized.layers()[name];
        [layer.weight_format.bits, layer.activation_format.bits]
    };
    assert_eq!((bits("conv2"), bits("conv3")), ([4, 4], [2, 3]));

    settings.layer_bits.insert("bn1".to_owned(), [2, 3]);
    let error = run(&settings).unwrap_err().to_string();
    assert_eq!(
        error,
        "layer `bn1`: bits were given for it, but it is not an adder layer of the graph"
    );
}

#[test]
fn impossible_settings_are_errors() {
    let error = run(&settings([9, 4], 0)).unwrap_err().to_string();
    assert_eq!(error, "bits: must be 2 to 8, got 9");
    let mut cold = settings([4, 4], 1);
    cold.tuning.temperature = 0.0;
    let error = run(&cold).unwrap_err().to_string();
    assert!(error.contains("the temperature above 0"), "{error}");
    let mut mixed = settings([4, 4], 1);
    mixed.tuning.mixup = 1.5;
    let error = run(&mixed).unwrap_err().to_string();
    assert!(error.contains("mixed images 0 to 1"), "{error}");
    (mixed.tuning.mixup, mixed.tuning.labels) = (0.5, 0.5);
    let error = run(&mixed).unwrap_err().to_string();
    assert!(
        error.contains("mixup and labels exclude each other"),
        "{error}"
    );
}

#[test]
fn a_source_that_fails_is_named() {
    let model = model();
    let failing = |_| -> Result<Array4<f32>, std::io::Error> { Err(std::io::Error::other("gone")) };
    let result = reconstruct(
        &model,
        &observations(&model),
        &settings([4, 4], 1),
        TrainingImages {
            search: images(8, 0.5),
            batch: failing,
        },
        provenance(MethodKind::Reconstruction, 4),
        kernels(),
        &(),
    );
    assert_eq!(result.unwrap_err().to_string(), "training images: gone");
}

/// The backward passes of ordinary layers against finite differences of their forward passes.
#[test]
fn ordinary_layers_have_the_gradients_of_finite_differences() {
    use addernet_graph::{FeatureShape, GraphBuilder};
    let pool = PoolAttributes::square(3, 2, 1);
    for op in [
        Op::Relu,
        Op::MaxPool(pool),
        Op::AvgPool(pool),
        Op::GlobalAvgPool,
        Op::Flatten,
        Op::Conv(ConvAttributes::square(3, 4, 3, 2, 1)),
        Op::Linear {
            in_features: 3,
            out_features: 5,
            bias: true,
        },
    ] {
        let side = if matches!(op, Op::Linear { .. }) {
            1
        } else {
            6
        };
        let mut builder = GraphBuilder::new("one", FeatureShape::new(3, side, side));
        builder.add("node", op.clone(), &["input"]).unwrap();
        let graph = builder.build().unwrap();
        let parameters = graph
            .parameters()
            .map(|(name, shape)| {
                let values = crate::testing::wave(shape.iter().product(), 0.3);
                (name, ArrayD::from_shape_vec(shape, values).unwrap())
            })
            .collect();
        let model = Model::new(graph, parameters).unwrap();
        let executor = Executor::new(&model, kernels().f32).unwrap();
        let student = Student::new(&executor, kernels().u8).unwrap();
        let node = model.graph().output();
        let count = 2 * 3 * side * side;
        // All different, and further apart than the difference that is taken: largest values stay so.
        let value = |i: usize| (i * 37 % count) as f32 / count as f32 * 4.0 - 1.99;
        let values = (0..count).map(value).collect();
        let x = Array4::from_shape_vec((2, side, side, 3), values).unwrap();
        let output = |x: &Array4<f32>| student.node(1, node, &[x]).unwrap().0;
        let y = output(&x);
        let weights = crate::testing::wave(y.len(), 2.9);
        let grad_y = Array4::from_shape_vec(y.dim(), weights).unwrap();
        let loss = |x: &Array4<f32>| {
            (output(x) * &grad_y)
                .iter()
                .map(|&v| f64::from(v))
                .sum::<f64>()
        };
        let grad = match student.states.get(&1) {
            Some(State::Linear(state)) => backward::linear_backward(&x, state, &grad_y).0,
            _ => backward::fixed(&model, node, &op, &x, &y, grad_y.clone()).unwrap(),
        };
        for (place, &found) in grad.indexed_iter() {
            let moved = |by: f32| {
                let mut x = x.clone();
                x[place] += by;
                loss(&x)
            };
            let expected = (moved(1e-3) - moved(-1e-3)) / 2e-3;
            let found = f64::from(found);
            assert!(
                (found - expected).abs() < 5e-3,
                "{op:?} at {place:?}: {found}, expected {expected}"
            );
        }
    }
}
