use super::*;
use crate::op::Op;

fn build(architecture: Architecture) -> Graph {
    architecture
        .graph(architecture.default_input(), architecture.default_classes())
        .unwrap()
}

/// Number of parameters that training learns: everything but BN's running statistics.
fn learned(graph: &Graph) -> usize {
    graph
        .parameters()
        .filter(|(name, _)| !name.contains(".running_"))
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum()
}

/// Multiply-accumulates (or |x − w| terms) of the network as a CNN.
fn terms(graph: &Graph) -> usize {
    let of = |node: &crate::Node| match node.op() {
        Op::AdderConv(conv) | Op::Conv(conv) => {
            node.shape().values() * conv.in_channels * conv.kernel[0] * conv.kernel[1]
        }
        Op::Linear {
            in_features,
            out_features,
            ..
        } => in_features * out_features,
        _ => 0,
    };
    graph.nodes().iter().map(of).sum()
}

#[test]
fn every_architecture_builds_and_round_trips_through_json() {
    for architecture in Architecture::ALL {
        let graph = build(architecture);
        assert_eq!(graph.classes(), architecture.default_classes());
        assert_eq!(graph.name(), architecture.name());
        assert_eq!(
            architecture.name().parse::<Architecture>().unwrap(),
            architecture
        );
        let json = serde_json::to_string(&graph).unwrap();
        assert_eq!(serde_json::from_str::<Graph>(&json).unwrap(), graph);
    }
}

#[test]
fn sizes_are_the_published_ones() {
    // He et al. 2016, table 6: 0.27M and 0.46M parameters; section 3.3: 1.8G and 3.8G FLOPs
    // (3.8G with the stride on the first 1x1 layer, 4.1G with torchvision's on the 3x3 one).
    // ResNet-18 and -50 have 11.69M and 25.56M parameters; the authors' classifier adds a BN (2,000).
    let resnet20 = build(Architecture::ResNet20);
    // Stem, then 6, 1 + 5 and 1 + 5 3x3 layers (half the terms where the stride is 2), two 1x1
    // shortcuts, the classifier.
    let full = 32 * 32 * 16 * 16 * 9;
    let expected = 32 * 32 * 16 * 27 + 6 * full + 2 * (full / 2 + 5 * full) + 2 * 131_072 + 640;
    assert_eq!(terms(&resnet20), expected);
    // Weights of those layers, then two values per BN channel.
    let weights = 432 + 6 * 2304 + (4608 + 5 * 9216 + 512) + (18432 + 5 * 36864 + 2048) + 640;
    assert_eq!(
        learned(&resnet20),
        weights + 2 * (7 * 16 + 7 * 32 + 7 * 64 + 10)
    );
    assert_eq!(resnet20.adder_nodes().count(), 20);
    assert_eq!(build(Architecture::ResNet32).adder_nodes().count(), 32);
    assert_eq!(learned(&build(Architecture::ResNet18)), 11_689_512 + 2_000);
    assert_eq!(learned(&build(Architecture::ResNet50)), 25_557_032 + 2_000);
    assert!((1.80e9..1.83e9).contains(&(terms(&build(Architecture::ResNet18)) as f64)));
    assert!((4.05e9..4.15e9).contains(&(terms(&build(Architecture::ResNet50)) as f64)));
}

#[test]
fn adder_layers_of_the_zoo_read_non_negative_activations() {
    for architecture in Architecture::ALL {
        let graph = build(architecture);
        for (_, node, _) in graph.adder_nodes() {
            let input = &graph.nodes()[node.inputs()[0]];
            assert!(
                input.is_non_negative(),
                "{architecture}: {} feeds {}",
                input.name(),
                node.name()
            );
        }
    }
}

#[test]
fn inputs_that_are_too_small_are_errors_that_name_the_layer() {
    let error = Architecture::LeNet5Bn
        .graph(FeatureShape::new(1, 20, 20), 10)
        .unwrap_err();
    assert!(error.to_string().contains("`conv3`"), "{error}");
    let error = Architecture::ResNet20
        .graph(FeatureShape::new(3, 0, 32), 10)
        .unwrap_err();
    assert!(error.to_string().contains("`conv1`"), "{error}");
    let error = "resnet21".parse::<Architecture>().unwrap_err();
    assert!(error.to_string().contains("resnet20, resnet32"), "{error}");
}
