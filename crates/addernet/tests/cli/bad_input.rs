//! Files that are missing or not what they should be: one line that says which, why, and what to do.

use std::fs;

use addernet_graph::file::{ModelFile, StoredTensor};

use crate::common::{Folder, addernet, error, eval};
use crate::model::lenet;

#[test]
fn a_missing_data_set_names_what_was_looked_for_and_the_download() {
    let folder = Folder::new();
    fs::create_dir(folder.path("data")).unwrap();
    let data = folder.path("data");
    let data = data.to_str().unwrap();
    let flags = ["--dataset", "cifar10", "--data-dir", data];
    let message = error(addernet(
        [&["eval", folder.model().to_str().unwrap()], &flags[..]].concat(),
    ));
    for part in [
        "test_batch.bin",
        data,
        &format!("addernet download cifar10 --data-dir {data}"),
    ] {
        assert!(message.contains(part), "{message}");
    }
    let message = error(addernet([
        "eval",
        folder.model().to_str().unwrap(),
        "--dataset",
        "cifar10",
    ]));
    assert!(message.contains("--data-dir DIR"), "{message}");
    let mut command = addernet(["quantize".as_ref(), folder.model().as_os_str()]);
    command
        .args(["--bits", "4", "-o"])
        .arg(folder.path("q.safetensors"))
        .args(flags);
    let message = error(command);
    assert!(message.contains("data_batch_1.bin"), "{message}");
}

#[test]
fn a_data_set_of_other_images_is_refused() {
    let folder = Folder::new();
    let mut pixels = vec![0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28];
    pixels.extend([0; 28 * 28]);
    fs::write(folder.path("t10k-images-idx3-ubyte"), pixels).unwrap();
    fs::write(
        folder.path("t10k-labels-idx1-ubyte"),
        [0, 0, 8, 1, 0, 0, 0, 1, 7],
    )
    .unwrap();
    let mut command = addernet(["eval".as_ref(), folder.model().as_os_str()]);
    command
        .args(["--dataset", "mnist", "--data-dir"])
        .arg(folder.path(""));
    let message = error(command);
    assert!(message.contains("takes images of 32x32x3"), "{message}");
}

#[test]
fn missing_truncated_and_foreign_models_are_named() {
    let folder = Folder::new();
    let message = error(eval(&folder.path("none.pth"), &[]));
    assert!(message.contains("none.pth: No such file"), "{message}");

    let whole = fs::read(folder.model()).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        let path = folder.path("truncated.safetensors");
        fs::write(&path, &whole[..length]).unwrap();
        let message = error(eval(&path, &[]));
        assert!(
            message.contains("truncated.safetensors"),
            "{length}: {message}"
        );
    }
    let message = error(eval(&folder.path(""), &[]));
    assert!(
        message.contains(folder.path("").to_str().unwrap()),
        "{message}"
    );

    fs::write(folder.path("notes.pth"), "Dear diary,\n").unwrap();
    let message = error(eval(&folder.path("notes.pth"), &[]));
    assert!(message.contains("notes.pth"), "{message}");
}

#[test]
fn weights_that_are_not_numbers_name_the_layer() {
    let folder = Folder::new();
    let mut file = ModelFile::from(lenet());
    let Some(StoredTensor::F32(weights)) = file.tensors.get_mut("conv3.adder") else {
        panic!("the network has no layer conv3");
    };
    weights[[5, 3, 1, 2]] = f32::NAN;
    let path = folder.path("nan.safetensors");
    file.write(&path).unwrap();
    let message = error(eval(&path, &[]));
    for part in ["nan.safetensors", "conv3", "non-finite"] {
        assert!(message.contains(part), "{message}");
    }
}

/// The small network with all values of one parameter so large that sums of them overflow.
fn huge(folder: &Folder, parameter: &str) -> std::path::PathBuf {
    let mut file = ModelFile::from(lenet());
    let Some(StoredTensor::F32(values)) = file.tensors.get_mut(parameter) else {
        panic!("the network has no {parameter}");
    };
    values.fill(3e38);
    let path = folder.path("huge.safetensors");
    file.write(&path).unwrap();
    path
}

#[test]
fn logits_that_are_not_finite_name_the_image() {
    let folder = Folder::new();
    let model = huge(&folder, "fc2.weight");
    let message = error(eval(&model, &["--limit", "20"]));
    assert!(
        message.contains("image 0 of the test split of shapes"),
        "{message}"
    );
    assert!(message.contains("not finite"), "{message}");
}

#[test]
fn activations_that_are_not_finite_name_the_layer() {
    let folder = Folder::new();
    let model = huge(&folder, "conv1.weight");
    let mut command = addernet(["quantize".as_ref(), model.as_os_str()]);
    command
        .args(["--bits", "4", "--dataset", "shapes", "-o"])
        .arg(folder.path("q.safetensors"));
    let message = error(command);
    assert!(
        message.contains("conv2") && message.contains("not finite"),
        "{message}"
    );
    assert_eq!(folder.files(), ["huge.safetensors", "lenet.safetensors"]);
}

#[test]
fn quantizing_twice_or_too_many_images_is_refused() {
    let folder = Folder::new();
    folder.quantize("q.safetensors", &["--bits", "4", "--no-reestimate-bn"]);
    let quantize = |model: std::path::PathBuf, flags: &[&str]| {
        let mut command = addernet(["quantize".as_ref(), model.as_os_str()]);
        command
            .args(["--bits", "4", "--dataset", "shapes", "-o"])
            .arg(folder.path("q2.safetensors"));
        command.args(flags);
        error(command)
    };
    let message = quantize(folder.path("q.safetensors"), &[]);
    assert!(message.contains("is quantized already"), "{message}");
    let message = quantize(folder.model(), &["--calibration", "10001"]);
    assert!(
        message.contains("10000 or fewer, with --calibration"),
        "{message}"
    );
    let message = error(eval(&folder.model(), &["--arch", "resnet20"]));
    assert!(message.contains("lenet5-bn"), "{message}");
    let mut command = eval(&folder.model(), &["--logits"]);
    command.arg(folder.model());
    assert!(error(command).contains("is the model itself"));
}
