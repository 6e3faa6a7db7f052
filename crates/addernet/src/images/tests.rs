use std::fs;

use addernet_graph::FeatureShape;
use addernet_graph::zoo::Architecture;
use ndarray::ArrayD;

use super::*;
use crate::testing::lenet;

fn shapes(model: &Model) -> Result<Images, Error> {
    Images::open(model, DatasetKind::Shapes, None, Split::Test, None)
}

fn network(architecture: Architecture, input: FeatureShape, classes: usize) -> Model {
    let graph = architecture.graph(input, classes).unwrap();
    let parameters = graph
        .parameters()
        .map(|(n, shape)| (n, ArrayD::ones(shape)))
        .collect();
    Model::new(graph, parameters).unwrap()
}

#[test]
fn the_models_own_normalisation_comes_before_the_published_one() {
    let published = shapes(&lenet()).unwrap();
    assert_eq!(
        published.transform().normalization,
        Normalization::published(DatasetKind::Shapes)
    );
    let info = ModelInfo {
        preprocessing: Some(Preprocessing {
            mean: vec![0.1, 0.2, 0.3],
            std: vec![0.5; 3],
        }),
        class_names: (0..10).map(|i| format!("class {i}")).collect(),
    };
    let model = lenet().with_info(info.clone()).unwrap();
    let own = shapes(&model).unwrap();
    assert_eq!(own.transform().normalization.mean(), [0.1, 0.2, 0.3]);
    assert_eq!(own.model_info(&model), info);
    assert_eq!(
        own.model_info(&lenet()).class_names,
        own.dataset().class_names()
    );
}

#[test]
fn augmentation_changes_images_and_nothing_else() {
    let images = shapes(&lenet()).unwrap();
    let augmented = images.augmented(1, 2);
    assert_eq!(
        augmented.augmentation,
        Some(Augmentation::published(DatasetKind::Shapes, 1, 2))
    );
    assert_eq!(
        &Transform {
            augmentation: None,
            ..augmented
        },
        images.transform()
    );
}

#[test]
fn other_images_or_classes_are_refused_by_name() {
    let grey = network(Architecture::LeNet5Bn, FeatureShape::new(1, 32, 32), 10);
    let error = shapes(&grey).unwrap_err().to_string();
    assert!(
        error.contains("lenet5-bn") && error.contains("32x32x1"),
        "{error}"
    );
    assert!(error.contains("shapes has 32x32x3"), "{error}");
    let seven = network(Architecture::LeNet5Bn, FeatureShape::new(3, 32, 32), 7);
    let error = shapes(&seven).unwrap_err().to_string();
    assert!(
        error.contains("tells 7 classes apart, but shapes has 10"),
        "{error}"
    );
}

#[test]
fn digits_are_padded_to_the_networks_input_and_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let mut pixels = vec![0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28];
    pixels.extend([255; 28 * 28]);
    fs::write(folder.path().join("t10k-images-idx3-ubyte"), pixels).unwrap();
    fs::write(
        folder.path().join("t10k-labels-idx1-ubyte"),
        [0, 0, 8, 1, 0, 0, 0, 1, 7],
    )
    .unwrap();
    for side in [28, 32, 36] {
        let model = network(Architecture::ResNet20, FeatureShape::new(1, side, side), 10);
        let images = Images::open(
            &model,
            DatasetKind::Mnist,
            Some(folder.path()),
            Split::Test,
            None,
        )
        .unwrap();
        let batch = images.batches(&[0], 1).unwrap().next().unwrap().unwrap();
        assert_eq!(batch.images.dim(), (1, side, side, 1));
        let white = batch.images.iter().filter(|&&v| v > 0.0).count();
        assert_eq!(white, 28 * 28);
    }
    let small = network(Architecture::ResNet20, FeatureShape::new(1, 24, 24), 10);
    let error = Images::open(
        &small,
        DatasetKind::Mnist,
        Some(folder.path()),
        Split::Test,
        None,
    );
    assert!(matches!(error, Err(Error::ImageShape { .. })));
}

#[test]
fn folders_are_resized_in_the_published_proportion() {
    let options = |side, resize| folder_options(FeatureShape::new(3, side, side), resize);
    assert_eq!(
        (options(224, None).resize, options(224, None).crop),
        (256, 224)
    );
    assert_eq!((options(32, None).resize, options(32, None).crop), (37, 32));
    assert_eq!(
        (options(32, Some(32)).resize, options(32, Some(32)).crop),
        (32, 32)
    );
}
