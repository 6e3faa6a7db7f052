use std::collections::BTreeMap;

use ndarray::{Array4, ArrayD, array};
use proptest::prelude::*;

use super::*;
use crate::graph::GraphBuilder;
use crate::model::Parameters;
use crate::op::PoolAttributes;

fn kernel() -> &'static dyn AdderKernelF32 {
    addernet_kernels::select(None).unwrap()
}

/// Deterministic values in −1..1 that no symmetry hides in.
fn wave(len: usize, phase: f64) -> Vec<f32> {
    (0..len)
        .map(|i| (0.37 * i as f64 + phase).sin() as f32)
        .collect()
}

fn single(op: Op, input: FeatureShape, parameters: Parameters) -> Model {
    let mut b = GraphBuilder::new("single", input);
    b.add("node", op, &["input"]).unwrap();
    Model::new(b.build().unwrap(), parameters).unwrap()
}

fn run(model: &Model, images: Array4<f32>) -> Array2<f32> {
    Executor::new(model, kernel()).unwrap().run(images).unwrap()
}

#[test]
fn max_and_average_pooling_treat_padding_as_pytorch_does() {
    let x = Array4::from_shape_vec((1, 2, 2, 1), vec![-1.0, -2.0, -3.0, -4.0]).unwrap();
    let pool = PoolAttributes::square(2, 1, 1);
    let input = FeatureShape::new(1, 2, 2);
    let max = run(
        &single(Op::MaxPool(pool), input, BTreeMap::new()),
        x.clone(),
    );
    assert_eq!(
        max,
        array![[-1.0, -1.0, -2.0, -1.0, -1.0, -2.0, -3.0, -3.0, -4.0]]
    );
    let average = run(
        &single(Op::AvgPool(pool), input, BTreeMap::new()),
        x.clone(),
    );
    assert_eq!(
        average,
        array![[-0.25, -0.75, -0.5, -1.0, -2.5, -1.5, -0.75, -1.75, -1.0]]
    );
    let global = run(&single(Op::GlobalAvgPool, input, BTreeMap::new()), x);
    assert_eq!(global, array![[-2.5]]);
}

#[test]
fn nan_passes_through_relu_and_pooling() {
    let x = || Array4::from_shape_vec((1, 1, 2, 1), vec![f32::NAN, 1.0]).unwrap();
    let input = FeatureShape::new(1, 1, 2);
    let pool = PoolAttributes {
        kernel: [1, 2],
        stride: [1, 1],
        padding: [0, 0],
    };
    let relu = run(&single(Op::Relu, input, BTreeMap::new()), x());
    assert!(relu[[0, 0]].is_nan() && relu[[0, 1]] == 1.0);
    for op in [Op::MaxPool(pool), Op::AvgPool(pool), Op::GlobalAvgPool] {
        assert!(run(&single(op, input, BTreeMap::new()), x())[[0, 0]].is_nan());
    }
}

#[test]
fn flatten_uses_pytorchs_order() {
    // NHWC value = 100·c + 10·row + column.
    let x = Array4::from_shape_fn((1, 2, 2, 2), |(_, h, w, c)| (100 * c + 10 * h + w) as f32);
    let y = run(
        &single(Op::Flatten, FeatureShape::new(2, 2, 2), BTreeMap::new()),
        x,
    );
    assert_eq!(
        y,
        array![[0.0, 1.0, 10.0, 11.0, 100.0, 101.0, 110.0, 111.0]]
    );
}

#[test]
fn batch_norm_and_linear_follow_their_definitions() {
    let parameter = |v: &[f32]| ArrayD::from_shape_vec(vec![v.len()], v.to_vec()).unwrap();
    let parameters = BTreeMap::from([
        ("node.weight".to_owned(), parameter(&[2.0, 1.0])),
        ("node.bias".to_owned(), parameter(&[0.5, -1.0])),
        ("node.running_mean".to_owned(), parameter(&[1.0, 0.0])),
        ("node.running_var".to_owned(), parameter(&[3.0, 0.0])),
    ]);
    let op = Op::BatchNorm {
        channels: 2,
        eps: 1.0,
    };
    let x = Array4::from_shape_vec((1, 1, 1, 2), vec![3.0, 4.0]).unwrap();
    let y = run(
        &single(op, FeatureShape::new(2, 1, 1), parameters),
        x.clone(),
    );
    assert_eq!(y, array![[2.0 * (3.0 - 1.0) / 2.0 + 0.5, 4.0 - 1.0]]);

    let weight = ArrayD::from_shape_vec(vec![1, 2], vec![10.0, 1.0]).unwrap();
    let parameters = BTreeMap::from([
        ("node.weight".to_owned(), weight),
        ("node.bias".to_owned(), parameter(&[0.25])),
    ]);
    let op = Op::Linear {
        in_features: 2,
        out_features: 1,
        bias: true,
    };
    assert_eq!(
        run(&single(op, FeatureShape::new(2, 1, 1), parameters), x),
        array![[34.25]]
    );
}

#[test]
fn a_sum_of_a_node_with_itself_doubles_it() {
    let mut b = GraphBuilder::new("double", FeatureShape::new(1, 1, 2));
    b.add("relu", Op::Relu, &["input"]).unwrap();
    b.add("sum", Op::Add, &["relu", "relu"]).unwrap();
    let model = Model::new(b.build().unwrap(), BTreeMap::new()).unwrap();
    let x = Array4::from_shape_vec((1, 1, 2, 1), vec![3.0, -4.0]).unwrap();
    assert_eq!(run(&model, x), array![[6.0, 0.0]]);
}

/// A convolution problem with its own reference: the sum over taps, written out.
#[derive(Clone, Debug)]
struct Problem {
    conv: ConvAttributes,
    batch: usize,
    height: usize,
    width: usize,
    adder: bool,
}

impl Problem {
    fn input(&self) -> FeatureShape {
        FeatureShape::new(self.conv.in_channels, self.height, self.width)
    }

    fn images(&self) -> Array4<f32> {
        let dims = (self.batch, self.height, self.width, self.conv.in_channels);
        let values = wave(dims.0 * dims.1 * dims.2 * dims.3, 0.1);
        Array4::from_shape_vec(dims, values).unwrap()
    }

    fn model(&self) -> Model {
        let [o, c, kh, kw] = self.conv.weight_shape();
        let weight =
            ArrayD::from_shape_vec(vec![o, c, kh, kw], wave(o * c * kh * kw, 2.0)).unwrap();
        let (op, name) = match self.adder {
            true => (Op::AdderConv(self.conv), "node.adder"),
            false => (Op::Conv(self.conv), "node.weight"),
        };
        let mut parameters = BTreeMap::from([(name.to_owned(), weight)]);
        if self.conv.bias {
            let bias = ArrayD::from_shape_vec(vec![o], wave(o, 5.0)).unwrap();
            parameters.insert("node.bias".to_owned(), bias);
        }
        single(op, self.input(), parameters)
    }

    fn reference(&self, model: &Model) -> Array4<f32> {
        let node = model.graph().node("node").unwrap();
        let weight = model
            .parameter(node, if self.adder { "adder" } else { "weight" })
            .unwrap();
        let out = node.shape();
        let x = self.images();
        let tap = |n: usize, o: usize, i: usize, j: usize| {
            let mut sum = 0.0f64;
            for c in 0..self.conv.in_channels {
                for u in 0..self.conv.kernel[0] {
                    for v in 0..self.conv.kernel[1] {
                        let row = (i * self.conv.stride[0] + u) as isize;
                        let column = (j * self.conv.stride[1] + v) as isize;
                        let row = row - self.conv.padding[0] as isize;
                        let column = column - self.conv.padding[1] as isize;
                        let inside = (0..self.height as isize).contains(&row)
                            && (0..self.width as isize).contains(&column);
                        let x = if inside {
                            x[[n, row as usize, column as usize, c]]
                        } else {
                            0.0
                        };
                        let (x, w) = (f64::from(x), f64::from(weight[[o, c, u, v]]));
                        sum += if self.adder { -(x - w).abs() } else { x * w };
                    }
                }
            }
            let bias = if self.conv.bias {
                model.values(node, "bias").unwrap()[o]
            } else {
                0.0
            };
            (sum + f64::from(bias)) as f32
        };
        Array4::from_shape_fn(
            (self.batch, out.height, out.width, out.channels),
            |(n, i, j, o)| tap(n, o, i, j),
        )
    }
}

fn problem() -> impl Strategy<Value = Problem> {
    let geometry = (1usize..4, 1usize..4, 1usize..3, 1usize..3);
    let sizes = (1usize..3, 3usize..8, 3usize..8, 1usize..5, 1usize..20);
    (geometry, sizes, any::<[bool; 2]>(), 0usize..2).prop_map(
        |((kh, kw, sh, sw), (batch, height, width, c, o), [adder, bias], pad)| {
            let padding = [pad.min(kh - 1), pad.min(kw - 1)];
            let conv = ConvAttributes {
                in_channels: c,
                out_channels: o,
                kernel: [kh, kw],
                stride: [sh, sw],
                padding,
                bias,
            };
            Problem {
                conv,
                batch,
                height,
                width,
                adder,
            }
        },
    )
}

proptest! {
    #[test]
    fn convolutions_match_their_definition(problem in problem()) {
        let model = problem.model();
        let expected = problem.reference(&model);
        let y = run(&model, problem.images());
        let expected: Vec<f32> = expected.into_iter().collect();
        for (a, b) in y.iter().zip(&expected) {
            prop_assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{a} against {b}");
        }
    }
}

/// Counts calls and replaces ReLUs by their negative.
#[derive(Default)]
struct Spy {
    seen: Vec<String>,
    inputs: Vec<f32>,
}

impl Hook for Spy {
    fn inputs(&mut self, _: NodeId, node: &Node, inputs: &[&Array4<f32>]) -> Result<(), HookError> {
        self.seen.push(node.name().to_owned());
        self.inputs.push(inputs[0][[0, 0, 0, 0]]);
        Ok(())
    }

    fn replace(
        &mut self,
        _: NodeId,
        node: &Node,
        inputs: &[&Array4<f32>],
    ) -> Result<Option<Array4<f32>>, HookError> {
        match node.name() {
            "refused" => Err("no".into()),
            "relu" => Ok(Some(inputs[0].mapv(|v| -v))),
            _ => Ok(None),
        }
    }
}

#[test]
fn hooks_see_and_replace_nodes_and_their_errors_name_the_node() {
    let build = |last: &str| {
        let mut b = GraphBuilder::new("hooked", FeatureShape::new(1, 1, 1));
        b.add("relu", Op::Relu, &["input"]).unwrap();
        b.add(last, Op::Relu, &["relu"]).unwrap();
        Model::new(b.build().unwrap(), BTreeMap::new()).unwrap()
    };
    let x = || Array4::from_elem((1, 1, 1, 1), -3.0);
    let model = build("last");
    let mut spy = Spy::default();
    let y = Executor::new(&model, kernel())
        .unwrap()
        .run_with(x(), &mut spy)
        .unwrap();
    assert_eq!(y, array![[3.0]]);
    assert_eq!(
        (spy.seen, spy.inputs),
        (vec!["relu".into(), "last".into()], vec![-3.0, 3.0])
    );

    let model = build("refused");
    let executor = Executor::new(&model, kernel()).unwrap();
    let error = executor.run_with(x(), &mut Spy::default()).unwrap_err();
    assert_eq!(error.to_string(), "node `refused`: no");
}

#[test]
fn images_of_another_shape_are_an_error() {
    let model = single(Op::Relu, FeatureShape::new(3, 4, 5), BTreeMap::new());
    let executor = Executor::new(&model, kernel()).unwrap();
    let error = executor.run(Array4::zeros((2, 5, 4, 3))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "input batch: expected images of 4x5x3 (height x width x channels), got 2 of 5x4x3"
    );
    assert!(executor.run(Array4::zeros((0, 4, 5, 3))).is_err());
}
