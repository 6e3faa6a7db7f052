//! Which network a state dict belongs to, and what becomes of its names and shapes.

use std::path::Path;

use addernet_graph::import::{self, ImportOptions};
use addernet_graph::zoo::Architecture;
use addernet_graph::{FeatureShape, GraphError, Parameters};
use ndarray::{ArrayD, IxDyn};

use crate::common::{numbers, shared};

#[test]
fn the_published_checkpoint_is_recognised() {
    let Some(path) = shared("models/resnet20-addernet-cifar10.pth") else {
        return;
    };
    let parameters = import::state_dict(&path).unwrap();
    assert!(parameters.contains_key("layer1.0.conv1.adder"));
    let (architecture, graph) = import::detect(&parameters).unwrap();
    assert_eq!(architecture, Architecture::ResNet20);
    assert_eq!(graph.classes(), 10);
    let model = import::load(&path, &ImportOptions::default()).unwrap();
    assert_eq!(model.parameters(), &parameters);
    // Its adder weights span −58..+70.
    let values = model
        .parameters()
        .iter()
        .filter(|(name, _)| name.ends_with(".adder"));
    let (low, high) = values
        .flat_map(|(_, values)| values)
        .fold((0.0f32, 0.0f32), |(l, h), &v| (l.min(v), h.max(v)));
    assert!(
        (-59.0..-57.0).contains(&low) && (69.0..71.0).contains(&high),
        "{low} {high}"
    );
    // As another network it does not load, and the error says why.
    let options = ImportOptions {
        architecture: Some(Architecture::ResNet32),
        ..ImportOptions::default()
    };
    let error = import::load(&path, &options).unwrap_err().to_string();
    assert!(
        error.contains("resnet32") && error.contains("missing (layer1.3.conv1.adder"),
        "{error}"
    );
}

/// Parameters of the architecture's graph: distinct values, so that a mix-up shows.
fn parameters(architecture: Architecture, input: FeatureShape, classes: usize) -> Parameters {
    let graph = architecture.graph(input, classes).unwrap();
    graph
        .parameters()
        .enumerate()
        .map(|(i, (name, shape))| {
            let start = f32::from(u16::try_from(i).unwrap());
            let mut value = start;
            let values = ArrayD::from_shape_simple_fn(shape, || {
                value += 0.25;
                value
            });
            (name, values)
        })
        .collect()
}

#[test]
fn every_architecture_is_recognised_with_its_classes_and_input() {
    for (architecture, input, classes) in [
        (Architecture::LeNet5Bn, FeatureShape::new(1, 32, 32), 10),
        (Architecture::LeNet5Bn, FeatureShape::new(3, 64, 64), 7),
        (Architecture::VggSmall, FeatureShape::new(3, 32, 32), 100),
        (Architecture::VggSmall, FeatureShape::new(1, 64, 64), 2),
        (Architecture::ResNet20, FeatureShape::new(3, 32, 32), 100),
        (Architecture::ResNet32, FeatureShape::new(1, 32, 32), 10),
        (Architecture::ResNet18, FeatureShape::new(3, 224, 224), 1000),
    ] {
        let (found, graph) = import::detect(&parameters(architecture, input, classes)).unwrap();
        assert_eq!(found, architecture);
        let expected = architecture.graph(input, classes).unwrap();
        assert_eq!(graph, expected, "{architecture} {input}");
    }
}

/// Writes parameters as a plain safetensors file.
fn write_safetensors(path: &Path, parameters: &Parameters) {
    let views: Vec<(&str, Vec<u8>, Vec<usize>)> = parameters
        .iter()
        .map(|(name, values)| {
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name.as_str(), bytes, values.shape().to_vec())
        })
        .collect();
    let views = views.iter().map(|(name, bytes, shape)| {
        let dtype = safetensors::Dtype::F32;
        (
            *name,
            safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes).unwrap(),
        )
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn foreign_names_and_shapes_are_adapted() {
    let input = FeatureShape::new(3, 32, 32);
    let expected = parameters(Architecture::ResNet20, input, 10);
    let foreign: Parameters = expected
        .iter()
        .map(|(name, values)| {
            let name = name
                .replace(".adder", ".weight")
                .replace(".downsample.", ".shortcut.");
            let values = match name.as_str() {
                "fc.weight" => values.clone().into_shape_with_order(vec![10, 64]).unwrap(),
                _ => values.clone(),
            };
            (format!("module._orig_mod.{name}"), values)
        })
        .chain([(
            "module._orig_mod.bn1.num_batches_tracked".to_owned(),
            numbers(&[]),
        )])
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign.safetensors");
    write_safetensors(&path, &foreign);
    let model = import::load(&path, &ImportOptions::default()).unwrap();
    assert_eq!(
        model.graph(),
        &Architecture::ResNet20.graph(input, 10).unwrap()
    );
    assert_eq!(model.parameters(), &expected);

    let options = ImportOptions {
        input: Some((24, 40)),
        ..ImportOptions::default()
    };
    let model = import::load(&path, &options).unwrap();
    assert_eq!(model.graph().input_shape(), FeatureShape::new(3, 24, 40));

    // What is loaded as a model file again must agree with the options.
    let written = folder.path().join("written.safetensors");
    addernet_graph::file::ModelFile::from(model)
        .write(&written)
        .unwrap();
    assert!(import::load(&written, &options).is_ok());
    assert!(import::load(&written, &ImportOptions::default()).is_ok());
    for (wrong, said) in [
        (
            ImportOptions {
                input: Some((32, 32)),
                ..options
            },
            "24x40",
        ),
        (
            ImportOptions {
                architecture: Some(Architecture::ResNet32),
                ..options
            },
            "`resnet20`",
        ),
    ] {
        let error = import::load(&written, &wrong).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let error = import::state_dict(&written).unwrap_err().to_string();
    assert!(error.contains("not a state dict"), "{error}");
}

#[test]
fn only_extents_of_one_may_differ() {
    let mut parameters = parameters(Architecture::ResNet20, FeatureShape::new(3, 32, 32), 10);
    let transposed = parameters["fc.weight"]
        .clone()
        .into_shape_with_order(vec![64, 10])
        .unwrap();
    parameters.insert("fc.weight".into(), transposed);
    let GraphError::UnknownModel {
        closest, mismatch, ..
    } = import::detect(&parameters).unwrap_err()
    else {
        panic!("not an unknown model");
    };
    assert_eq!(closest, Architecture::ResNet20);
    // The classifier says 64 classes of 10 features each; its BN says 10.
    assert!(
        mismatch
            .misshapen
            .iter()
            .any(|(name, ..)| name == "fc.weight"),
        "{mismatch}"
    );
}

#[test]
fn the_closest_architecture_and_its_mismatch_are_named() {
    let mut parameters = parameters(Architecture::ResNet20, FeatureShape::new(3, 32, 32), 10);
    parameters.remove("layer2.0.bn1.weight").unwrap();
    parameters.insert("head.weight".into(), numbers(&[2]));
    parameters.insert("bn1.bias".into(), numbers(&[17]));
    let error = import::detect(&parameters).unwrap_err();
    let GraphError::UnknownModel {
        closest, mismatch, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(*closest, Architecture::ResNet20);
    assert_eq!(mismatch.missing, ["layer2.0.bn1.weight"]);
    assert_eq!(mismatch.unexpected, ["head.weight"]);
    assert_eq!(
        mismatch.misshapen,
        [("bn1.bias".to_owned(), vec![16], vec![17])]
    );
    for part in [
        "the closest is resnet20",
        "layer2.0.bn1.weight",
        "head.weight",
        "lenet5-bn",
    ] {
        assert!(
            error.to_string().contains(part),
            "`{part}` is not in: {error}"
        );
    }
}

#[test]
fn impossible_extents_are_a_mismatch() {
    let mut parameters = parameters(Architecture::ResNet20, FeatureShape::new(3, 32, 32), 10);
    parameters.insert("fc.weight".into(), ArrayD::zeros(IxDyn(&[0, 64, 1, 1])));
    assert!(matches!(
        import::detect(&parameters),
        Err(GraphError::UnknownModel { .. })
    ));
    assert!(matches!(
        import::detect(&Parameters::new()),
        Err(GraphError::UnknownModel { .. })
    ));
}

#[test]
fn values_that_are_not_finite_name_node_and_file() {
    let mut parameters = parameters(Architecture::LeNet5Bn, FeatureShape::new(1, 32, 32), 10);
    parameters.get_mut("conv2.adder").unwrap()[[3, 2, 1, 0]] = f32::NAN;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nan.safetensors");
    write_safetensors(&path, &parameters);
    let error = import::load(&path, &ImportOptions::default())
        .unwrap_err()
        .to_string();
    for part in [
        "nan.safetensors",
        "`conv2`",
        "conv2.adder",
        "1 non-finite",
        "index 505",
    ] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}
