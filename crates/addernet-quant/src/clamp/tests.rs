use std::collections::BTreeMap;

use addernet_graph::{ConvAttributes, Executor, FeatureShape, GraphBuilder, Op};
use ndarray::Array4;
use proptest::prelude::*;

use super::*;

/// A layer whose weights lie far outside its inputs' range, and images inside that range.
#[derive(Clone, Debug)]
struct Problem {
    conv: ConvAttributes,
    lo: f32,
    hi: f32,
    weights: Vec<f32>,
    bias: Vec<f32>,
    images: Array4<f32>,
}

impl Problem {
    fn model(&self) -> Model {
        let (_, h, w, c) = self.images.dim();
        let mut b = GraphBuilder::new("layer", FeatureShape::new(c, h, w));
        b.add("conv", Op::AdderConv(self.conv), &["input"]).unwrap();
        let shape = self.conv.weight_shape().to_vec();
        let weights = ArrayD::from_shape_vec(shape, self.weights.clone()).unwrap();
        let mut parameters = BTreeMap::from([("conv.adder".to_owned(), weights)]);
        if self.conv.bias {
            let bias = ArrayD::from_shape_vec(vec![self.bias.len()], self.bias.clone()).unwrap();
            parameters.insert("conv.bias".to_owned(), bias);
        }
        Model::new(b.build().unwrap(), parameters).unwrap()
    }
}

fn run(model: &Model, images: Array4<f32>) -> Vec<f32> {
    let kernel = addernet_kernels::select(None).unwrap();
    Executor::new(model, kernel)
        .unwrap()
        .run(images)
        .unwrap()
        .into_iter()
        .collect()
}

fn problem() -> impl Strategy<Value = Problem> {
    let sizes = (
        1usize..3,
        1usize..6,
        1usize..20,
        1usize..4,
        1usize..3,
        0usize..2,
    );
    (sizes, 0.1f32..8.0, any::<bool>(), any::<bool>()).prop_flat_map(
        |((batch, c, o, kernel, stride, padding), m, signed, bias)| {
            let conv = ConvAttributes {
                bias,
                ..ConvAttributes::square(c, o, kernel, stride, padding)
            };
            let lo = if signed { -m } else { 0.0 };
            let weights = prop::collection::vec(-60.0f32..70.0, o * c * kernel * kernel);
            let images = prop::collection::vec(lo..=m, batch * 5 * 6 * c);
            let bias = prop::collection::vec(-9.0f32..9.0, o);
            (weights, images, bias).prop_map(move |(weights, images, bias)| {
                let images = Array4::from_shape_vec((batch, 5, 6, c), images).unwrap();
                Problem {
                    conv,
                    lo,
                    hi: m,
                    weights,
                    bias,
                    images,
                }
            })
        },
    )
}

proptest! {
    /// Outputs of the clamped weights plus bias are those of the original weights for every input
    /// in the range, [0, m] or [−m, m], up to f32's rounding of sums of up to 70·taps.
    #[test]
    fn nothing_is_lost_inside_the_range(problem in problem()) {
        let model = problem.model();
        let clamped = clamp_weights(&model, |_| Ok((problem.lo, problem.hi))).unwrap();
        let node = clamped.graph().node("conv").unwrap();
        let weights = clamped.values(node, "adder").unwrap();
        prop_assert!(weights.iter().all(|w| (problem.lo..=problem.hi).contains(w)));
        let before = run(&model, problem.images.clone());
        let after = run(&clamped, problem.images.clone());
        let taps = (problem.weights.len() / problem.conv.out_channels) as f32;
        let tolerance = 80.0 * taps * taps.sqrt().max(2.0) * f32::EPSILON;
        for (a, b) in before.iter().zip(&after) {
            prop_assert!((a - b).abs() <= tolerance, "{a} against {b}, tolerance {tolerance}");
        }
    }

    /// The same identity on one kernel in f64, without a network around it.
    #[test]
    fn one_kernels_bias_is_the_clamped_excess(
        weights in prop::collection::vec(-60.0f32..70.0, 1..64),
        x in prop::collection::vec(0.0f32..=1.0, 64),
        m in 0.1f32..5.0,
    ) {
        let sum = |w: &[f32]| -> f64 {
            w.iter().zip(&x).map(|(&w, &x)| (f64::from(x * m) - f64::from(w)).abs()).sum()
        };
        let mut clamped = weights.clone();
        let bias = clamp_kernel(&mut clamped, 0.0, m);
        let (before, after) = (-sum(&weights), -sum(&clamped) + f64::from(bias));
        prop_assert!((before - after).abs() <= 1e-6 * before.abs().max(1.0), "{before} {after}");
    }
}

#[test]
fn values_beyond_the_range_do_change_the_output() {
    // What makes the property above a real one: outside the range the identity fails.
    let mut weights = [5.0];
    let bias = clamp_kernel(&mut weights, 0.0, 1.0);
    let y = |x: f32| -(x - weights[0]).abs() + bias;
    assert_eq!(y(0.5), -(0.5f32 - 5.0).abs());
    assert_ne!(y(3.0), -(3.0f32 - 5.0).abs());
}

#[test]
fn empty_ranges_are_errors_that_name_the_layer() {
    let conv = ConvAttributes::square(1, 1, 1, 1, 0);
    let images = Array4::zeros((1, 5, 6, 1));
    let problem = Problem {
        conv,
        lo: 0.0,
        hi: 1.0,
        weights: vec![2.0],
        bias: vec![0.0],
        images,
    };
    for range in [(1.0, 0.0), (f32::NAN, 1.0), (0.0, f32::INFINITY)] {
        let error = clamp_weights(&problem.model(), |_| Ok(range))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("layer `conv`: the range"), "{error}");
    }
}
