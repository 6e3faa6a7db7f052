//! The same bits from the reference and every kernel, on networks that nobody would build.

use crate::common::{self, Numbers};
use addernet_engine::{EngineError, Program};
use addernet_graph::{ConvAttributes, FeatureShape, Graph, GraphBuilder, Op, PoolAttributes};
use addernet_quant::{Method, Redistribution, SharedScale};
use proptest::prelude::*;

/// A network of `depth` random layers.
pub(crate) fn graph(depth: usize, numbers: &mut Numbers) -> Graph {
    let channels = 1 + numbers.below(4);
    let size = [6 + numbers.below(8), 6 + numbers.below(8)];
    let mut b = GraphBuilder::new("random", FeatureShape::new(channels, size[0], size[1]));
    let mut last = "input".to_owned();
    let mut shapes = vec![(last.clone(), FeatureShape::new(channels, size[0], size[1]))];
    for at in 0..depth {
        let shape = shapes.last().unwrap().1;
        let name = format!("n{at}");
        let kernel = [1, 3, 3, 5][numbers.below(4)]
            .min(shape.height)
            .min(shape.width);
        let stride = if shape.height.min(shape.width) > 4 {
            1 + numbers.below(2)
        } else {
            1
        };
        let out = [1, 3, 8, 16, 17, 32, 40][numbers.below(7)];
        let padding = numbers.below(kernel.div_ceil(2));
        let conv = ConvAttributes::square(shape.channels, out, kernel, stride, padding);
        let pool = PoolAttributes::square(kernel, stride, kernel / 2);
        let op = match numbers.below(12) {
            0 if at == 0 => Op::Conv(conv.with_bias()),
            1 => Op::Conv(conv),
            2 => Op::MaxPool(pool),
            3 => Op::AvgPool(pool),
            4 => Op::Relu,
            5 | 6 => {
                let same: Vec<_> = shapes.iter().filter(|(_, other)| *other == shape).collect();
                let other = same[numbers.below(same.len())].0.clone();
                last = b.add(name, Op::Add, &[&last, &other]).unwrap();
                shapes.push((last.clone(), shape));
                continue;
            }
            7 => Op::BatchNorm {
                channels: shape.channels,
                eps: 1e-5,
            },
            _ => Op::AdderConv(conv),
        };
        let adder = matches!(op, Op::AdderConv(_));
        let rows = |size: usize| (size + 2 * padding - kernel) / stride + 1;
        let shape = match &op {
            Op::AdderConv(_) | Op::Conv(_) => {
                FeatureShape::new(out, rows(shape.height), rows(shape.width))
            }
            Op::MaxPool(p) | Op::AvgPool(p) => {
                let rows = |size: usize| (size + 2 * p.padding[0] - kernel) / stride + 1;
                FeatureShape::new(shape.channels, rows(shape.height), rows(shape.width))
            }
            _ => shape,
        };
        last = b.add(name, op, &[&last]).unwrap();
        // Sums far from 0 saturate without it, which tests little.
        if adder && numbers.below(8) > 0 {
            let bn = Op::BatchNorm {
                channels: shape.channels,
                eps: 1e-5,
            };
            last = b.add(format!("n{at}.bn"), bn, &[&last]).unwrap();
            if numbers.below(4) > 0 {
                last = b.add(format!("n{at}.relu"), Op::Relu, &[&last]).unwrap();
            }
        }
        shapes.push((last.clone(), shape));
    }
    let shape = shapes.last().unwrap().1;
    let classes = 2 + numbers.below(9);
    match numbers.below(4) {
        0 => {
            last = b.add("flatten", Op::Flatten, &[&last]).unwrap();
            let linear = Op::Linear {
                in_features: shape.values(),
                out_features: classes,
                bias: true,
            };
            b.add("fc", linear, &[&last]).unwrap();
        }
        1 => {
            last = b.add("pool", Op::GlobalAvgPool, &[&last]).unwrap();
            let conv = ConvAttributes::square(shape.channels, classes, 1, 1, 0);
            last = b.add("fc", Op::Conv(conv), &[&last]).unwrap();
            b.add(
                "bn",
                Op::BatchNorm {
                    channels: classes,
                    eps: 1e-5,
                },
                &[&last],
            )
            .unwrap();
        }
        2 => {
            let conv = ConvAttributes::square(shape.channels, classes, 1, 1, 0);
            last = b.add("last", Op::AdderConv(conv), &[&last]).unwrap();
            b.add(
                "bn",
                Op::BatchNorm {
                    channels: classes,
                    eps: 1e-5,
                },
                &[&last],
            )
            .unwrap();
        }
        _ => {
            let conv = ConvAttributes::square(shape.channels, classes, 1, 1, 0);
            b.add("last", Op::AdderConv(conv), &[&last]).unwrap();
        }
    }
    b.build().unwrap()
}

/// The graph with an adder layer in it, or none if chance put none there.
pub(crate) fn has_adder(graph: &Graph) -> bool {
    graph.adder_nodes().next().is_some()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn every_kernel_gives_the_bits_of_the_reference(seed: u64, depth in 1..9usize, bits in 2..9u8, groups in 1..4usize) {
        let mut numbers = Numbers::new(seed);
        let graph = graph(depth, &mut numbers);
        prop_assume!(has_adder(&graph));
        let model = common::model(graph, &mut numbers);
        let fewest = model.graph().adder_nodes().map(|(_, _, a)| a.out_channels).min().unwrap_or(1);
        let redistribution = Redistribution { bits, groups: groups.min(fewest), weight_clamp: true };
        let shared = SharedScale { bits };
        let method: &dyn Method = if seed.is_multiple_of(3) { &shared } else { &redistribution };
        let quantized = common::quantize(&model, method, &mut numbers);
        // What could overflow is refused; that is another test's matter.
        prop_assume!(!matches!(Program::lower(&quantized), Err(EngineError::Overflow { .. })));
        let pixels = numbers.pixels(3 * model.graph().input_shape().values());
        common::same_logits_everywhere(&quantized, &pixels, 1, &[1, 2]);
    }
}

#[test]
fn random_graphs_are_not_constant() {
    // Saturated everywhere, all images would have the same logits, and the test above would be worth little.
    let (mut graphs, mut distinct) = (0, 0);
    for seed in 0..24 {
        let mut numbers = Numbers::new(seed);
        let graph = graph(6, &mut numbers);
        if !has_adder(&graph) {
            continue;
        }
        graphs += 1;
        let model = common::model(graph, &mut numbers);
        let method = Redistribution {
            bits: 8,
            groups: 1,
            weight_clamp: true,
        };
        let quantized = common::quantize(&model, &method, &mut numbers);
        let pixels = numbers.pixels(2 * model.graph().input_shape().values());
        let logits = common::same_logits_everywhere(&quantized, &pixels, 1, &[1]);
        distinct += usize::from(logits[..logits.len() / 2] != logits[logits.len() / 2..]);
    }
    assert!(2 * distinct > graphs, "{distinct} of {graphs}");
}

#[test]
fn what_could_overflow_is_refused_with_the_layers_name() {
    let conv = ConvAttributes::square(16, 16, 3, 1, 1);
    let mut b = GraphBuilder::new("steep", FeatureShape::new(16, 8, 8));
    b.add("adder", Op::AdderConv(conv), &["input"]).unwrap();
    let bn = Op::BatchNorm {
        channels: 16,
        eps: 1e-5,
    };
    b.add("bn", bn, &["adder"]).unwrap();
    let model = common::model(b.build().unwrap(), &mut Numbers::new(1));
    let (graph, mut parameters, info) = model.into_parts();
    parameters.get_mut("bn.weight").unwrap().fill(1e30);
    let model = addernet_graph::Model::new(graph, parameters).unwrap();
    let model = model.with_info(info).unwrap();
    let method = SharedScale { bits: 8 };
    let quantized = common::quantize(&model, &method, &mut Numbers::new(2));
    let error = Program::lower(&quantized).unwrap_err();
    assert!(matches!(error, EngineError::Overflow { .. }), "{error}");
    assert!(error.to_string().contains("`bn`"), "{error}");
}
