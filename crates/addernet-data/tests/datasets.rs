//! Opening data sets from small files made here.
// The lint's exception for tests does not reach the helper functions of test files.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use addernet_data::{DataError, Dataset, DatasetKind, OpenOptions, Split};

/// A record of CIFAR's binary version: label bytes, then planes of one colour each.
fn record(labels: &[u8], colour: [u8; 3]) -> Vec<u8> {
    let mut bytes = labels.to_vec();
    bytes.extend(colour.iter().flat_map(|&value| [value; 1024]));
    bytes
}

fn open(kind: DatasetKind, dir: &Path, split: Split) -> Result<Dataset, DataError> {
    Dataset::open(kind, Some(dir), split, &OpenOptions::default())
}

/// Five training batches of two images each, and a test batch of one.
fn write_cifar10(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for batch in 1..=5u8 {
        let records = [record(&[batch], [batch, 0, 0]), record(&[0], [batch, 1, 0])].concat();
        fs::write(dir.join(format!("data_batch_{batch}.bin")), records).unwrap();
    }
    fs::write(dir.join("test_batch.bin"), record(&[9], [7, 8, 9])).unwrap();
}

#[test]
fn cifar10_binary_from_its_folder_or_the_parent() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("cifar-10-batches-bin");
    write_cifar10(&dir);
    for given in [temp.path(), &dir] {
        let train = open(DatasetKind::Cifar10, given, Split::Train).unwrap();
        assert_eq!(train.labels(), [1, 0, 2, 0, 3, 0, 4, 0, 5, 0]);
        assert_eq!(train.len(), 10);
        assert_eq!(train.dir(), Some(&*dir));
        assert_eq!(train.image_shape(), [32, 32, 3]);
        assert_eq!(train.num_classes(), 10);
        assert_eq!(train.class_names()[3], "cat");
        assert_eq!(train.file_name(0), None);
        assert_eq!(train.image(5).unwrap()[..6], [3, 1, 0, 3, 1, 0]);
        assert_eq!(train.image(9).unwrap().len(), 3072);

        let test = open(DatasetKind::Cifar10, given, Split::Test).unwrap();
        assert_eq!(test.labels(), [9]);
        assert_eq!(test.image(0).unwrap().as_ref(), [7, 8, 9].repeat(1024));
        let error = test.image(1).unwrap_err().to_string();
        assert_eq!(
            error,
            "image 1 does not exist: the test split of cifar10 has 1 images"
        );
    }
}

#[test]
fn a_missing_batch_is_named_with_the_command() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("cifar-10-batches-bin");
    write_cifar10(&dir);
    fs::remove_file(dir.join("data_batch_4.bin")).unwrap();
    let error = open(DatasetKind::Cifar10, temp.path(), Split::Train)
        .unwrap_err()
        .to_string();
    let dir = temp.path().display();
    assert_eq!(
        error,
        format!(
            "the train split of cifar10 was not found in {dir}: looked for data_batch_4.bin in \
             cifar-10-batches-bin/, missing beside the other files there; to fetch it: addernet download \
             cifar10 --data-dir {dir}"
        )
    );
    assert!(open(DatasetKind::Cifar10, temp.path(), Split::Test).is_ok());
}

#[test]
fn an_empty_folder_says_what_was_looked_for_and_where() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().display();
    let error = open(DatasetKind::Cifar100, temp.path(), Split::Test)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        format!(
            "the test split of cifar100 was not found in {dir}: looked for test.bin in it or \
             cifar-100-binary/; test in it or cifar-100-python/; to fetch it: addernet download cifar100 \
             --data-dir {dir}"
        )
    );
    let error = Dataset::open(
        DatasetKind::Mnist,
        None,
        Split::Test,
        &OpenOptions::default(),
    )
    .unwrap_err()
    .to_string();
    assert!(error.starts_with("mnist needs --data-dir DIR"), "{error}");
    assert!(
        error.ends_with("addernet download mnist --data-dir DIR"),
        "{error}"
    );
}

#[test]
fn a_short_or_mislabelled_batch_is_named() {
    for (contents, complaint) in [
        (
            record(&[10], [0; 3]),
            "test_batch.bin: byte 0: label 10, cifar10 has classes 0 to 9",
        ),
        (
            record(&[1], [0; 3])[..3000].to_vec(),
            "test_batch.bin: byte 0: a record of cifar10 has 3073",
        ),
        (
            vec![],
            "test_batch.bin: byte 0: a record of cifar10 has 3073",
        ),
        // A CIFAR-100 file under the wrong name.
        (
            record(&[1, 2], [0; 3]),
            "test_batch.bin: byte 3073: a record of cifar10 has 3073",
        ),
    ] {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("test_batch.bin"), contents).unwrap();
        let error = open(DatasetKind::Cifar10, temp.path(), Split::Test)
            .unwrap_err()
            .to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn cifar100_binary() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("cifar-100-binary");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("test.bin"), record(&[19, 99], [1, 2, 3])).unwrap();
    let test = open(DatasetKind::Cifar100, temp.path(), Split::Test).unwrap();
    assert_eq!(test.labels(), [99]);
    assert_eq!(test.num_classes(), 100);
    assert_eq!(test.class_names()[99], "worm");
}

#[test]
fn python_versions() {
    let pickle = include_bytes!("fixtures/cifar-protocol4.pickle");
    let temp = tempfile::tempdir().unwrap();
    for (kind, folder, file, label) in [
        (DatasetKind::Cifar10, "cifar-10-batches-py", "test_batch", 6),
        (DatasetKind::Cifar100, "cifar-100-python", "test", 98),
    ] {
        let dir = temp.path().join(folder);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(file), pickle).unwrap();
        for given in [temp.path(), &dir] {
            let test = open(kind, given, Split::Test).unwrap();
            assert_eq!(test.labels(), [label]);
            assert_eq!(
                test.image(0).unwrap()[..3],
                [0, (1024 * 7 % 251) as u8, (2048 * 7 % 251) as u8]
            );
        }
    }
    // With both there, the binary version is read.
    write_cifar10(&temp.path().join("cifar-10-batches-bin"));
    assert_eq!(
        open(DatasetKind::Cifar10, temp.path(), Split::Test)
            .unwrap()
            .labels(),
        [9]
    );
}

#[test]
fn a_pickle_that_calls_the_system_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let marker = temp.path().join("executed");
    let command = format!("touch {}", marker.display());
    let mut pickle = b"\x80\x02cposix\nsystem\nX".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.as_bytes());
    pickle.extend(b"\x85R.");
    fs::write(temp.path().join("test_batch"), pickle).unwrap();
    let error = open(DatasetKind::Cifar10, temp.path(), Split::Test)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("byte 2: it refers to `posix.system`"),
        "{error}"
    );
    assert!(!marker.exists());
}

#[test]
fn image_folders_decode_when_asked() {
    let temp = tempfile::tempdir().unwrap();
    for (class, grey) in [("ant", 10), ("bee", 20)] {
        let dir = temp.path().join("train").join(class);
        fs::create_dir_all(&dir).unwrap();
        image::GrayImage::from_pixel(300, 260, image::Luma([grey]))
            .save(dir.join("1.png"))
            .unwrap();
    }
    let train = open(DatasetKind::ImageFolder, temp.path(), Split::Train).unwrap();
    assert_eq!(train.image_shape(), [224, 224, 3]);
    assert_eq!(train.class_names(), ["ant", "bee"]);
    assert_eq!(train.labels(), [0, 1]);
    assert_eq!(
        train.file_name(1),
        Some(&*temp.path().join("train/bee/1.png"))
    );
    assert_eq!(train.image(1).unwrap().as_ref(), [20; 224 * 224 * 3]);

    let small = OpenOptions {
        resize: 32,
        crop: 28,
        ..OpenOptions::default()
    };
    let train = Dataset::open(
        DatasetKind::ImageFolder,
        Some(temp.path()),
        Split::Train,
        &small,
    )
    .unwrap();
    assert_eq!(train.image_shape(), [28, 28, 3]);
    // A file that breaks after opening is reported when it is its turn.
    fs::write(temp.path().join("train/ant/1.png"), "broken").unwrap();
    assert!(train.image(1).is_ok());
    let error = train.image(0).unwrap_err().to_string();
    assert!(error.contains("ant/1.png: not a usable image"), "{error}");
}

#[test]
fn shapes_need_no_files() {
    let open = |split, len| {
        let options = OpenOptions {
            shapes_len: len,
            ..OpenOptions::default()
        };
        Dataset::open(DatasetKind::Shapes, None, split, &options)
    };
    let train = open(Split::Train, None).unwrap();
    let test = open(Split::Test, None).unwrap();
    assert_eq!((train.len(), test.len()), (10_000, 2_000));
    assert_eq!(train.image_shape(), [32, 32, 3]);
    assert_eq!(train.class_names()[5], "star");
    let longer = open(Split::Test, Some(2_001)).unwrap();
    assert_eq!(longer.labels()[..2_000], *test.labels());
    assert_eq!(longer.image(1_999).unwrap(), test.image(1_999).unwrap());
    assert!(open(Split::Test, Some(0)).is_err());
}
