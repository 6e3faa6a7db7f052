use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    bytes.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
    bytes.extend(data);
    bytes
}

/// Two images of 2x3 pixels with labels 7 and 0.
fn write_test_set(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    let pixels: Vec<u8> = (1..=12).collect();
    fs::write(dir.join("t10k-images-idx3-ubyte"), idx(&[2, 2, 3], &pixels)).unwrap();
    fs::write(dir.join("t10k-labels-idx1-ubyte"), idx(&[2], &[7, 0])).unwrap();
}

fn test_set(kind: DatasetKind, dir: &Path) -> Result<GreyImages, DataError> {
    open(kind, dir, Split::Test)
}

#[test]
fn found_in_the_usual_folders() {
    for (kind, folders) in [
        (DatasetKind::Mnist, MNIST_FOLDERS),
        (DatasetKind::FashionMnist, FASHION_FOLDERS),
    ] {
        for folder in folders {
            let temp = tempfile::tempdir().unwrap();
            write_test_set(&temp.path().join(folder));
            let set = test_set(kind, temp.path()).unwrap();
            assert_eq!((set.height, set.width), (2, 3));
            assert_eq!(set.images, (1..=12).collect::<Vec<u8>>());
            assert_eq!(set.labels, [7, 0]);
        }
    }
}

#[test]
fn gzipped_and_dotted_names() {
    let temp = tempfile::tempdir().unwrap();
    write_test_set(temp.path());
    let images = temp.path().join("t10k-images-idx3-ubyte");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&fs::read(&images).unwrap()).unwrap();
    fs::write(
        temp.path().join("t10k-images-idx3-ubyte.gz"),
        encoder.finish().unwrap(),
    )
    .unwrap();
    fs::remove_file(images).unwrap();
    let labels = temp.path().join("t10k-labels-idx1-ubyte");
    fs::rename(labels, temp.path().join("t10k-labels.idx1-ubyte")).unwrap();
    assert_eq!(
        test_set(DatasetKind::Mnist, temp.path()).unwrap().labels,
        [7, 0]
    );
}

#[test]
fn complaints_name_file_and_offset() {
    let images = "t10k-images-idx3-ubyte";
    let labels = "t10k-labels-idx1-ubyte";
    for (file, contents, message) in [
        (
            labels,
            idx(&[2], &[7, 10]),
            "t10k-labels-idx1-ubyte: byte 9: label 10 of image 1, mnist has",
        ),
        (
            labels,
            idx(&[3], &[1, 2, 3]),
            "do not belong together: 2 images, 3 labels",
        ),
        (
            labels,
            idx(&[2, 1], &[1, 2]),
            "t10k-labels-idx1-ubyte: byte 3: 2 dimensions, labels need 1",
        ),
        (
            images,
            idx(&[2], &[1, 2]),
            "t10k-images-idx3-ubyte: byte 3: 1 dimensions, images need 3",
        ),
        (
            images,
            idx(&[2, 0, 3], &[]),
            "t10k-images-idx3-ubyte: byte 4: 2 images of 0x3",
        ),
        (
            images,
            idx(&[2, 2, 3], &[1; 11]),
            "t10k-images-idx3-ubyte: byte 27: the file ends here",
        ),
    ] {
        let temp = tempfile::tempdir().unwrap();
        write_test_set(temp.path());
        fs::write(temp.path().join(file), contents).unwrap();
        let error = test_set(DatasetKind::Mnist, temp.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn the_training_files_are_named_when_missing() {
    let temp = tempfile::tempdir().unwrap();
    write_test_set(temp.path());
    let error = open(DatasetKind::FashionMnist, temp.path(), Split::Train)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(
            "looked for train-images-idx3-ubyte, train-labels-idx1-ubyte in it or fashion-mnist/"
        ),
        "{error}"
    );
    assert!(
        error.contains("addernet download fashion-mnist --data-dir"),
        "{error}"
    );
}
