//! Every node of a lowered network, computed from its own integer inputs, is the simulated node rounded.
//!
//! A network amplifies a first difference of one code, so that whole runs on integers and in simulation drift apart by
//! chance. Here nothing drifts: simulation, whose code is another (float parameters, float BN, the float operator on codes),
//! computes each node from the integers that its inputs have, and must arrive at the node's integers up to rounding.

use std::collections::BTreeMap;

use addernet_engine::{EngineError, Program, reference};
use addernet_graph::{Model, NodeId, Op, Preprocessing};
use addernet_quant::{Method, QuantizedModel, Redistribution, SharedScale, Simulator};
use ndarray::{Array4, s};

use crate::common::{self, Numbers};
use crate::{random_graphs, resnet20};

/// How far integers are from the real values that they should be, in units of the last place.
#[derive(Clone, Copy, Debug)]
struct Distance {
    /// What none may exceed, but for the rounding of floats.
    limit: f64,
    values: usize,
    /// Σ (integer − real).
    signed: f64,
    /// Σ |integer − real|.
    magnitude: f64,
    /// How many are not the nearest integer.
    not_nearest: usize,
}

impl Distance {
    fn up_to(limit: f64) -> Self {
        Self {
            limit,
            values: 0,
            signed: 0.0,
            magnitude: 0.0,
            not_nearest: 0,
        }
    }

    fn mean(&self) -> f64 {
        self.magnitude / self.values as f64
    }

    fn bias(&self) -> f64 {
        (self.signed / self.values as f64).abs()
    }

    fn share_not_nearest(&self) -> f64 {
        self.not_nearest as f64 / self.values as f64
    }
}

/// Distances of maps and logits, and of codes.
#[derive(Clone, Copy, Debug)]
struct Distances {
    maps: Distance,
    codes: Distance,
}

impl Distances {
    /// A value is rounded once, by half a unit at most; what is left of 0.7 is for the rounding of multipliers, which
    /// tells far from a BN's mean. Codes have fewer bits, where that is less of a unit.
    fn new() -> Self {
        Self {
            maps: Distance::up_to(0.7),
            codes: Distance::up_to(0.51),
        }
    }
}

/// What kernels of an adder layer read, as real values.
struct Read {
    /// Their output channels.
    channels: Vec<usize>,
    x: Array4<f32>,
}

/// Means that are whole pixels: a padded tap of the first convolution is then exactly what it is in simulation.
fn with_whole_means(model: Model) -> Model {
    let channels = model.graph().input_shape().channels;
    let preprocessing = Preprocessing {
        mean: (0..channels)
            .map(|c| (110 + 7 * c) as f32 / 255.0)
            .collect(),
        std: (0..channels).map(|c| 0.2 + 0.03 * c as f32).collect(),
    };
    let info = addernet_graph::ModelInfo {
        preprocessing: Some(preprocessing),
        ..model.info().clone()
    };
    model.with_info(info).unwrap()
}

/// Follows one image through the network, node by node, from the integers of each node's inputs.
fn measure(
    quantized: &QuantizedModel,
    program: &Program,
    pixels: &[u8],
    distances: &mut Distances,
) {
    let graph = quantized.model().graph();
    let simulator = Simulator::new(quantized, addernet_kernels::select(None).unwrap()).unwrap();
    let (mut maps, mut codes) = (BTreeMap::new(), BTreeMap::<NodeId, Vec<_>>::new());
    for values in reference::trace(program, pixels).unwrap() {
        // Maps and logits have negative values, codes do not.
        if values.range[0] == 0 {
            codes.entry(values.node).or_default().push(values);
        } else {
            assert!(maps.insert(values.node, values).is_none());
        }
    }
    let mut read = BTreeMap::<NodeId, Vec<Read>>::new();
    let mut values: Vec<Array4<f32>> = Vec::new();
    for (id, node) in graph.nodes().iter().enumerate() {
        let input = |at: usize| &values[node.inputs()[at]];
        let mut computed = match (node.op(), read.get(&id)) {
            (Op::Input, _) => image(program, pixels),
            (Op::AdderConv(_), Some(groups)) => {
                let shape = node.shape();
                let mut y = Array4::zeros((1, shape.height, shape.width, shape.channels));
                for Read { channels, x } in groups {
                    let part = simulator.node(id, &[x]).unwrap();
                    for &c in channels {
                        y.slice_mut(s![.., .., .., c])
                            .assign(&part.slice(s![.., .., .., c]));
                    }
                }
                y
            }
            _ => {
                let inputs: Vec<_> = (0..node.inputs().len()).map(input).collect();
                simulator.node(id, &inputs).unwrap()
            }
        };
        if let Some(map) = maps.get(&id) {
            compare(map, &mut computed, &mut distances.maps);
        }
        for codes in codes.get(&id).into_iter().flatten() {
            let mut exact = computed.clone();
            compare(codes, &mut exact, &mut distances.codes);
            for (reader, channels) in &codes.readers {
                let (channels, x) = (channels.clone(), exact.clone());
                let read = read.entry(*reader).or_default();
                read.push(Read { channels, x });
            }
        }
        values.push(computed);
    }
}

/// Measures how far the integers of a node are from the computed values, and puts what they stand for in their place.
fn compare(node: &reference::NodeValues, computed: &mut Array4<f32>, distance: &mut Distance) {
    assert_eq!(node.integers.len(), computed.len());
    let [low, high] = node.range.map(f64::from);
    // What operations of 24 bits leave open. Logits have many units, and a BN before them subtracts what is
    // nearly equal.
    let float = if high > 32_767.0 { 4e-5 } else { 4e-6 };
    for ((&integer, real), value) in node.integers.iter().zip(node.reals()).zip(computed) {
        let expected = (f64::from(*value) / node.unit + f64::from(node.zero)).clamp(low, high);
        let off = f64::from(integer) - expected;
        assert!(
            off.abs() <= distance.limit + float * expected.abs(),
            "node {}: {integer} instead of {expected}",
            node.node
        );
        distance.values += 1;
        distance.signed += off;
        distance.magnitude += off.abs();
        distance.not_nearest += usize::from(off.abs() > 0.5 + float * expected.abs());
        *value = real as f32;
    }
}

/// The normalised image.
fn image(program: &Program, pixels: &[u8]) -> Array4<f32> {
    let shape = program.graph().input_shape();
    let Preprocessing { mean, std } = program.preprocessing();
    let value = |i: usize| {
        let c = i % shape.channels;
        ((f64::from(pixels[i]) / 255.0 - f64::from(mean[c])) / f64::from(std[c])) as f32
    };
    let all: Vec<f32> = (0..shape.values()).map(value).collect();
    Array4::from_shape_vec((1, shape.height, shape.width, shape.channels), all).unwrap()
}

#[test]
fn resnet20_is_its_simulation_rounded_node_by_node() {
    let Some(model) = resnet20::checkpoint() else {
        return;
    };
    let model = with_whole_means(model);
    for (bits, groups, weight_clamp) in [(8, 4, true), (6, 4, false), (5, 4, true), (4, 4, true)] {
        let mut numbers = Numbers::new(u64::from(bits));
        let method = Redistribution {
            bits,
            groups,
            weight_clamp,
        };
        let quantized = common::quantize(&model, &method, &mut numbers);
        let program = Program::lower(&quantized).unwrap();
        let mut found = Distances::new();
        measure(
            &quantized,
            &program,
            &numbers.pixels(32 * 32 * 3),
            &mut found,
        );
        let Distances { maps, codes } = found;
        eprintln!("{bits} bits: {found:?}");
        // The mean of what rounding to the nearest leaves is a quarter.
        assert!(maps.mean() < 0.25 && maps.bias() < 0.005, "{maps:?}");
        assert!(maps.share_not_nearest() < 0.01, "{maps:?}");
        assert!(codes.mean() < 0.25 && codes.bias() < 0.02, "{codes:?}");
        assert!(codes.share_not_nearest() < 0.0005, "{codes:?}");
    }
}

#[test]
fn random_graphs_are_their_simulations_rounded_node_by_node() {
    let mut found = Distances::new();
    let mut graphs = 0;
    for seed in 0..96 {
        let mut numbers = Numbers::new(seed);
        let graph = random_graphs::graph(6, &mut numbers);
        if !random_graphs::has_adder(&graph) {
            continue;
        }
        let model = with_whole_means(common::model(graph, &mut numbers));
        let bits = 2 + (seed % 7) as u8;
        let redistribution = Redistribution {
            bits,
            groups: 1,
            weight_clamp: true,
        };
        let shared = SharedScale { bits };
        let method: &dyn Method = match seed % 3 {
            0 => &shared,
            _ => &redistribution,
        };
        let quantized = common::quantize(&model, method, &mut numbers);
        let program = match Program::lower(&quantized) {
            Ok(program) => program,
            Err(EngineError::Overflow { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        let pixels = numbers.pixels(program.graph().input_shape().values());
        measure(&quantized, &program, &pixels, &mut found);
        graphs += 1;
    }
    let Distances { maps, codes } = found;
    eprintln!("{graphs} graphs: {found:?}");
    assert!(graphs > 60, "{graphs}");
    assert!(maps.mean() < 0.25 && maps.bias() < 0.01, "{maps:?}");
    assert!(codes.mean() < 0.25 && codes.bias() < 0.01, "{codes:?}");
    assert!(
        codes.share_not_nearest() < 0.0005 && maps.share_not_nearest() < 0.01,
        "{found:?}"
    );
}
