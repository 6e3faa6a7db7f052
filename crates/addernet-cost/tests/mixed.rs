//! Precisions: of quantized models, per layer, and those that cannot be; energies layer by layer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test panics")]

use std::collections::BTreeMap;

use addernet_cost::{
    AdderForm, EnergyModel, LayerEnergies, LayerPrecision, Network, Part, Precision, compare,
    count, with_input,
};
use addernet_graph::zoo::Architecture;
use addernet_graph::{
    ConvAttributes, FeatureShape, Graph, GraphBuilder, Model, Op, Parameters, PoolAttributes,
};
use addernet_quant::{
    ActivationOriented, ActivationRange, Method, Observations, Provenance, QuantizedModel,
    Redistribution, SharedScale,
};
use proptest::prelude::*;

fn graph(architecture: Architecture) -> Graph {
    let (input, classes) = (architecture.default_input(), architecture.default_classes());
    architecture.graph(input, classes).unwrap()
}

/// ResNet-20 with weights from a formula, quantized with invented activation ranges.
fn quantized(method: &dyn Method) -> QuantizedModel {
    let graph = graph(Architecture::ResNet20);
    let parameters: Parameters = graph
        .parameters()
        .map(|(name, shape)| {
            let value = |i: usize| match name.ends_with("running_var") {
                true => 1.0,
                false => (0.37 * i as f32).sin() * (1.0 + (i / 200) as f32),
            };
            let values = (0..shape.iter().product()).map(value).collect();
            (
                name,
                ndarray::ArrayD::from_shape_vec(shape, values).unwrap(),
            )
        })
        .collect();
    let model = Model::new(graph, parameters).unwrap();
    let range = ActivationRange {
        min: 0.0,
        max: 4.0,
        bound: 3.0,
    };
    let layers = model
        .graph()
        .adder_nodes()
        .map(|(_, node, _)| (node.name().to_owned(), range))
        .collect();
    let observations = Observations {
        layers,
        images: 1,
        outlier_quantile: 1.0,
    };
    // As a model file has it: what was not recorded is left out.
    let provenance: Provenance = serde_json::from_value(serde_json::json!({
        "method": "test", "weight_bits": 4, "activation_bits": 4, "groups": 4, "weight_clamp": true,
        "outlier_quantile": 1.0, "calibration_images": 1, "bn_images": 0, "seed": 0,
    }))
    .unwrap();
    QuantizedModel::quantize(&model, &observations, method, provenance).unwrap()
}

fn layer<'a>(precision: &'a Precision, node: &str) -> &'a LayerPrecision {
    match precision {
        Precision::Integer(layers) => &layers[node],
        Precision::Float => panic!("it is quantized"),
    }
}

#[test]
fn quantized_models_say_what_they_are_made_of() {
    let unclamped = Redistribution {
        bits: 4,
        groups: 4,
        weight_clamp: false,
    };
    let model = quantized(&unclamped);
    let precision = Precision::of(&model);
    let conv = layer(&precision, "layer3.1.conv2");
    assert_eq!(
        (conv.weight_bits, conv.activation_bits, conv.grid_bits),
        (4, 4, 4)
    );
    assert_eq!(
        conv.scales.len(),
        model.layers()["layer3.1.conv2"].groups.len()
    );
    assert_eq!(conv.scales.len(), 4);
    // Groups whose kernels all reach beyond the activations are one.
    let clamped = Redistribution {
        weight_clamp: true,
        ..unclamped
    };
    let merged = Precision::of(&quantized(&clamped));
    assert_eq!(layer(&merged, "layer3.1.conv2").scales.len(), 1);
    let grid =
        |method: &dyn Method| layer(&Precision::of(&quantized(method)), "layer1.0.conv1").grid_bits;
    assert_eq!(grid(&SharedScale { bits: 6 }), 6);
    for (weight_bits, activation_bits, expected) in [(2, 4, 4), (4, 2, 4), (3, 4, 4), (8, 8, 8)] {
        let method = ActivationOriented {
            weight_bits,
            activation_bits,
        };
        assert_eq!(grid(&method), expected, "{weight_bits}/{activation_bits}");
    }
    assert_eq!(precision.bits(), "4");
    let json = serde_json::to_string(&precision).unwrap();
    assert_eq!(serde_json::from_str::<Precision>(&json).unwrap(), precision);
}

#[test]
fn every_scale_costs_another_quantization() {
    let graph = graph(Architecture::ResNet20);
    let model = EnergyModel::named(EnergyModel::DEFAULT).unwrap();
    let costs: Vec<_> = [1, 2, 4]
        .into_iter()
        .map(|groups| {
            let precision = Precision::uniform(&graph, 4, 4, groups).unwrap();
            compare(&graph, &precision, &model, AdderForm::Difference).unwrap()
        })
        .collect();
    for pair in costs.windows(2) {
        assert_eq!(pair[0].cnn, pair[1].cnn);
        assert_eq!(pair[0].adder.energy.taps, pair[1].adder.energy.taps);
        let requantize = |i: usize| pair[i].adder.part(Part::Requantize);
        assert!(requantize(1) > requantize(0));
        assert!(pair[1].adder.energy.traffic > pair[0].adder.energy.traffic);
        let parts: f64 = pair[0]
            .adder
            .energy
            .parts
            .iter()
            .map(|p| p.energy.picojoules())
            .sum();
        assert!((parts / pair[0].adder.energy.arithmetic.picojoules() - 1.0).abs() < 1e-12);
    }
    // A layer has no more scales than kernels, of which the narrowest has 16.
    let most = Precision::uniform(&graph, 4, 4, 255).unwrap();
    assert_eq!(layer(&most, "layer1.0.conv1").scales.len(), 16);
}

#[test]
fn what_cannot_be_is_refused() {
    let graph = graph(Architecture::LeNet5Bn);
    for (bits, groups, expected) in [
        ([1, 4], 1, "bits: must be 2 to 8, got 1"),
        ([4, 9], 1, "bits: must be 2 to 8, got 9"),
        ([4, 4], 0, "groups: must be 1 to 255, got 0"),
        ([4, 4], 256, "groups: must be 1 to 255, got 256"),
    ] {
        let error = Precision::uniform(&graph, bits[0], bits[1], groups).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let mut bits = BTreeMap::from([("conv2".to_owned(), [4, 4]), ("conv3".to_owned(), [4, 4])]);
    let error = Precision::per_layer(&graph, &bits, 1).unwrap_err();
    assert_eq!(error.to_string(), "layer `fc1`: no bits were given for it");
    bits.insert("fc2".to_owned(), [4, 4]);
    let error = Precision::per_layer(&graph, &bits, 1).unwrap_err();
    assert!(
        error.to_string().contains("`fc2`: it is no adder layer"),
        "{error}"
    );
    let error = count(
        &graph,
        &Precision::Integer(BTreeMap::new()),
        Network::Adder,
        AdderForm::Difference,
    );
    assert!(error.unwrap_err().to_string().contains("`conv2`"));
    let model = EnergyModel::named(EnergyModel::DEFAULT).unwrap();
    let energies = LayerEnergies::new(&graph, &model, 1).unwrap();
    assert!(energies.layer("fc2", 4, 4).is_err());
    assert!(energies.layer("conv2", 4, 1).is_err());
    assert!(energies.total(&BTreeMap::new()).is_err());
    // Its linear layer fits maps of one size only.
    let larger = FeatureShape::new(1, 64, 64);
    let error = with_input(&graph, larger).unwrap_err();
    assert!(error.to_string().contains("`fc1`"), "{error}");
}

#[test]
fn another_input_size_is_another_cost() {
    let graph = graph(Architecture::ResNet20);
    let larger = with_input(&graph, FeatureShape::new(3, 64, 64)).unwrap();
    let taps = |graph: &Graph| {
        let work = count(
            graph,
            &Precision::Float,
            Network::Cnn,
            AdderForm::Difference,
        )
        .unwrap();
        work.taps.multiplications
    };
    // Four times the places; the classifier sees their mean.
    assert_eq!(taps(&larger) - 640, 4 * (taps(&graph) - 640));
}

/// Operations of every kind, in an order that no zoo network has.
fn odd_graph() -> Graph {
    let mut b = GraphBuilder::new("odd", FeatureShape::new(3, 9, 9));
    let adder = |i, o| Op::AdderConv(ConvAttributes::square(i, o, 3, 1, 1).with_bias());
    let bn = |channels| Op::BatchNorm {
        channels,
        eps: 1e-5,
    };
    b.add("first", adder(3, 4), &["input"]).unwrap();
    b.add("relu", Op::Relu, &["first"]).unwrap();
    b.add("relu2", Op::Relu, &["relu"]).unwrap();
    b.add("bn", bn(4), &["relu2"]).unwrap();
    b.add("second", adder(4, 4), &["bn"]).unwrap();
    b.add("twice", Op::Add, &["second", "second"]).unwrap();
    b.add("third", adder(4, 4), &["twice"]).unwrap();
    b.add("sum", Op::Add, &["third", "bn"]).unwrap();
    b.add("sum2", Op::Add, &["sum", "twice"]).unwrap();
    b.add(
        "mean",
        Op::AvgPool(PoolAttributes::square(2, 2, 0)),
        &["sum2"],
    )
    .unwrap();
    b.add(
        "max",
        Op::MaxPool(PoolAttributes::square(1, 1, 0)),
        &["mean"],
    )
    .unwrap();
    b.add("flat", Op::Flatten, &["max"]).unwrap();
    b.add(
        "last",
        Op::AdderConv(ConvAttributes::square(64, 5, 1, 1, 0)),
        &["flat"],
    )
    .unwrap();
    b.build().unwrap()
}

#[test]
fn odd_graphs_are_counted() {
    let graph = odd_graph();
    let model = EnergyModel::named(EnergyModel::DEFAULT).unwrap();
    let integer = Precision::uniform(&graph, 4, 4, 2).unwrap();
    for precision in [&Precision::Float, &integer] {
        for form in [AdderForm::Difference, AdderForm::Maximum] {
            let cost = compare(&graph, precision, &model, form).unwrap();
            for network in [&cost.adder, &cost.cnn] {
                let work = &network.work;
                assert!(network.energy.total.picojoules().is_finite());
                let residual = work.nodes.iter().flat_map(|n| &n.work);
                let residual: u64 = residual
                    .filter(|w| w.part == Part::Residual)
                    .map(|w| w.count)
                    .sum();
                assert_eq!(residual, 3 * 4 * 81);
                let named = |name: &str| work.nodes.iter().find(|n| n.node == name);
                assert!(named("flat").is_none() && named("input").is_none());
                // A BN on its own is not folded into anything.
                assert_eq!(named("bn").unwrap().counts.multiplications, 4 * 81);
                assert!(work.peak_activation_bytes > 0);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn energies_of_layers_add_up(seed in proptest::collection::vec((2u8..=8, 2u8..=8), 20), groups in 1usize..5) {
        let graph = graph(Architecture::ResNet20);
        let model = EnergyModel::named(EnergyModel::DEFAULT).unwrap();
        let energies = LayerEnergies::new(&graph, &model, groups).unwrap();
        let bits: BTreeMap<String, [u8; 2]> = graph
            .adder_nodes()
            .zip(seed)
            .map(|((_, node, _), (w, a))| (node.name().to_owned(), [w, a]))
            .collect();
        let precision = Precision::per_layer(&graph, &bits, groups).unwrap();
        let whole = compare(&graph, &precision, &model, AdderForm::Difference).unwrap();
        let expected = whole.adder.energy.arithmetic.picojoules();
        let found = energies.total(&bits).unwrap().picojoules();
        prop_assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
    }
}
