//! Batches: order, determinism, errors.
// The lint's exception for tests does not reach the helper functions of test files.
#![allow(clippy::unwrap_used)]

use std::fs;

use addernet_data::{
    Augmentation, Batch, DataError, Dataset, DatasetKind, OpenOptions, ResizedCrop, Split,
    Transform, batches, calibration_indices, sequential_indices, shuffled_indices,
};

fn shapes(len: usize) -> Dataset {
    let options = OpenOptions {
        shapes_len: Some(len),
        ..OpenOptions::default()
    };
    Dataset::open(DatasetKind::Shapes, None, Split::Train, &options).unwrap()
}

fn collect(dataset: &Dataset, indices: &[usize], size: usize, transform: &Transform) -> Vec<Batch> {
    batches(dataset, indices, size, transform)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn batches_follow_the_indices() {
    let dataset = shapes(50);
    let indices = [7, 3, 3, 49, 0];
    let transform = Transform::eval(DatasetKind::Shapes);
    let iterator = batches(&dataset, &indices, 2, &transform).unwrap();
    assert_eq!(iterator.len(), 3);
    let batches: Vec<Batch> = iterator.collect::<Result<_, _>>().unwrap();
    assert_eq!(
        batches.iter().map(|b| b.labels.len()).collect::<Vec<_>>(),
        [2, 2, 1]
    );
    assert_eq!(batches[2].images.shape(), [1, 32, 32, 3]);
    let seen: Vec<usize> = batches.iter().flat_map(|b| b.indices.clone()).collect();
    assert_eq!(seen, indices);
    for batch in &batches {
        assert!(batch.images.is_standard_layout());
        for (i, &index) in batch.indices.iter().enumerate() {
            assert_eq!(batch.labels[i], dataset.labels()[index]);
            let pixels = dataset.image(index).unwrap();
            for (at, value) in batch
                .images
                .index_axis(ndarray::Axis(0), i)
                .iter()
                .enumerate()
            {
                assert_eq!(*value, (f32::from(pixels[at]) / 255.0 - 0.5) / 0.24);
            }
        }
    }
}

#[test]
fn windows_of_image_folders_are_resized_to_the_input() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("train/a")).unwrap();
    // Red tells the column, green the row.
    let image = image::RgbImage::from_fn(80, 60, |x, y| image::Rgb([x as u8, y as u8, 7]));
    image.save(temp.path().join("train/a/0.png")).unwrap();
    let options = OpenOptions {
        resize: 16,
        crop: 16,
        ..OpenOptions::default()
    };
    let folder = Some(temp.path());
    let kind = DatasetKind::ImageFolder;
    let dataset = Dataset::open(kind, folder, Split::Train, &options).unwrap();
    let transform = |smallest_area, epoch| {
        let mut transform = Transform::eval(kind);
        transform.normalization =
            addernet_data::Normalization::new(vec![0.0; 3], vec![1.0; 3]).unwrap();
        transform.augmentation = Some(Augmentation {
            resized_crop: Some(ResizedCrop { smallest_area }),
            crop_padding: 0,
            flip: false,
            seed: 2,
            epoch,
        });
        transform
    };
    let window = |epoch| {
        let images = collect(&dataset, &[0], 1, &transform(0.08, epoch))
            .remove(0)
            .images;
        let at = |row, column, channel| (255.0 * images[[0, row, column, channel]]).round();
        [at(0, 0, 0), at(15, 15, 0), at(0, 0, 1), at(15, 15, 1)]
    };
    let windows: Vec<[f32; 4]> = (0..40).map(window).collect();
    assert_eq!(window(3), windows[3]);
    for [left, right, top, bottom] in &windows {
        assert!(0.0 <= *left && left < right && *right < 80.0);
        assert!(0.0 <= *top && top < bottom && *bottom < 60.0);
    }
    // Small ones and large ones, left ones and right ones.
    let widths = windows.iter().map(|[left, right, ..]| right - left);
    assert!(widths.clone().fold(f32::MAX, f32::min) < 35.0);
    assert!(widths.fold(0.0, f32::max) > 55.0);
    assert!(windows.iter().any(|w| w[0] < 5.0) && windows.iter().any(|w| w[1] > 74.0));

    let refused = |dataset: &Dataset, smallest_area| {
        let transform = transform(smallest_area, 0);
        let error = batches(dataset, &[0], 1, &transform).err().unwrap();
        error.to_string()
    };
    assert!(refused(&dataset, 0.0).contains("use above 0 to 1"));
    assert!(refused(&shapes(5), 0.5).contains("only image folders"));
}

#[test]
fn augmented_images_do_not_depend_on_batches_order_or_threads() {
    let dataset = shapes(64);
    let transform = Transform::train(DatasetKind::Shapes, 5, 2);
    let forward: Vec<usize> = (0..64).collect();
    let backward: Vec<usize> = (0..64).rev().collect();
    let pool = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    };
    let reference = pool(1).install(|| collect(&dataset, &forward, 64, &transform));
    for (threads, indices, size) in [(4, &forward, 64), (3, &forward, 7), (2, &backward, 10)] {
        let batches = pool(threads).install(|| collect(&dataset, indices, size, &transform));
        for batch in batches {
            for (i, &index) in batch.indices.iter().enumerate() {
                let axis = ndarray::Axis(0);
                let (got, expected) = (
                    batch.images.index_axis(axis, i),
                    reference[0].images.index_axis(axis, index),
                );
                assert_eq!(got, expected, "{threads} threads, image {index}");
            }
        }
    }
    let other = Transform::train(DatasetKind::Shapes, 5, 3);
    assert_ne!(collect(&dataset, &forward, 64, &other), reference);
}

#[test]
fn orders() {
    let dataset = shapes(100);
    assert_eq!(
        sequential_indices(&dataset, None),
        (0..100).collect::<Vec<_>>()
    );
    assert_eq!(sequential_indices(&dataset, Some(3)), [0, 1, 2]);
    assert_eq!(sequential_indices(&dataset, Some(1000)).len(), 100);

    let epoch = shuffled_indices(&dataset, 1, 0);
    assert_eq!(epoch, shuffled_indices(&dataset, 1, 0));
    assert_ne!(epoch, shuffled_indices(&dataset, 1, 1));
    assert_ne!(epoch, shuffled_indices(&dataset, 2, 0));
    let mut sorted = epoch;
    sorted.sort_unstable();
    assert_eq!(sorted, sequential_indices(&dataset, None));

    let calibration = calibration_indices(&dataset, 30, 4).unwrap();
    for class in 0..10 {
        assert_eq!(
            calibration
                .iter()
                .filter(|&&i| dataset.labels()[i] == class)
                .count(),
            3
        );
    }
    let error = calibration_indices(&dataset, 101, 4)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "101 images were asked for, but the train split of shapes has 100: ask for 100 or fewer"
    );
}

#[test]
fn impossible_requests_are_errors_at_once() {
    let dataset = shapes(10);
    let eval = Transform::eval(DatasetKind::Shapes);
    let error = batches(&dataset, &[0], 0, &eval).err().unwrap();
    assert!(
        error.to_string().starts_with("batch_size: 0 images"),
        "{error}"
    );
    let error = batches(&dataset, &[0, 10], 1, &eval).err().unwrap();
    assert!(
        matches!(
            error,
            DataError::IndexOutOfRange {
                index: 10,
                len: 10,
                ..
            }
        ),
        "{error}"
    );
    let grey = Transform::eval(DatasetKind::Mnist);
    let error = batches(&dataset, &[0], 1, &grey).err().unwrap();
    assert!(
        error
            .to_string()
            .starts_with("normalization: has 1 channels"),
        "{error}"
    );
    assert_eq!(batches(&dataset, &[], 8, &eval).unwrap().count(), 0);
}

#[test]
fn an_unreadable_image_fails_its_batch_only_and_the_first_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let class = temp.path().join("class");
    fs::create_dir(&class).unwrap();
    for name in ["0.png", "1.png", "2.png", "3.png"] {
        image::GrayImage::from_pixel(8, 8, image::Luma([100]))
            .save(class.join(name))
            .unwrap();
    }
    let options = OpenOptions {
        resize: 8,
        crop: 8,
        ..OpenOptions::default()
    };
    let dataset = Dataset::open(
        DatasetKind::ImageFolder,
        Some(temp.path()),
        Split::Test,
        &options,
    )
    .unwrap();
    fs::write(class.join("0.png"), "broken").unwrap();
    fs::write(class.join("1.png"), "broken").unwrap();
    let transform = Transform::eval(DatasetKind::ImageFolder);
    let results: Vec<_> = batches(&dataset, &[0, 1, 2, 3], 2, &transform)
        .unwrap()
        .collect();
    let error = results[0].as_ref().unwrap_err().to_string();
    assert!(error.contains("0.png"), "{error}");
    assert_eq!(results[1].as_ref().unwrap().labels, [0, 0]);
}
