use sha2::{Digest, Sha256};

use super::*;

fn images(shapes: &Shapes, labels: &[u32]) -> Vec<Vec<u8>> {
    labels
        .iter()
        .enumerate()
        .map(|(i, &label)| shapes.image(i, label))
        .collect()
}

/// The set is part of the published results: it must not change with a dependency or a machine.
#[test]
fn the_images_are_fixed_to_the_bit() {
    let mut hasher = Sha256::new();
    for split in [Split::Train, Split::Test] {
        let (shapes, labels) = Shapes::new(0, split, 100);
        for (image, label) in images(&shapes, &labels).iter().zip(&labels) {
            hasher.update(label.to_le_bytes());
            hasher.update(image);
        }
    }
    let sum: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        sum,
        "e913668f5bc042a29dae8a29ac7815bc388a406c57885a8f21a49f2020906bcc"
    );
}

#[test]
fn every_ten_images_hold_each_class_once() {
    let (_, labels) = Shapes::new(3, Split::Train, 1000);
    for group in labels.chunks(10) {
        let mut sorted = group.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<u32>>());
    }
    assert_ne!(labels[..10], labels[10..20]);
}

#[test]
fn a_shorter_set_is_a_prefix_and_seeds_and_splits_differ() {
    let (_, long) = Shapes::new(1, Split::Train, 57);
    let (shapes, short) = Shapes::new(1, Split::Train, 23);
    assert_eq!(long[..23], short);
    let train = shapes.image(0, 4);
    assert_ne!(train, Shapes::new(2, Split::Train, 1).0.image(0, 4));
    assert_ne!(train, Shapes::new(1, Split::Test, 1).0.image(0, 4));
    assert_ne!(train, shapes.image(1, 4));
}

/// Areas of the outlines, by counting points, against the areas known from geometry.
#[test]
fn outlines_have_their_areas() {
    use std::f64::consts::PI;
    let n = 1000;
    for (label, expected) in [
        (0, 0.72 * PI),
        (1, 0.62 * PI),
        (2, 3.0f64.sqrt() * 0.75),
        (3, 1.96),
        (4, 1.9 * 0.56),
        // Pentagram of circumradius 1.
        (5, 1.122_57),
        (6, 2.0 * 1.9 * 0.52 - 0.52 * 0.52),
        (8, 0.405 * PI),
        // Shaft up to the head, and the head; they overlap by 0.1.
        (9, 0.36 * 0.95 + 0.95 * 0.95 * 0.7),
    ] {
        let mut count = 0;
        for i in 0..n * n {
            let at = |k: usize| ((k as f32 + 0.5) / n as f32 - 0.5) * 2.4;
            count += usize::from(outline::contains(label, at(i % n), at(i / n)));
        }
        let area = count as f64 * 2.4 * 2.4 / (n * n) as f64;
        let name = SHAPES_CLASSES[label as usize];
        assert!(
            (area - expected).abs() < 0.01,
            "{name}: {area}, expected {expected}"
        );
    }
}

#[test]
fn outlines_stay_in_the_unit_circle() {
    for label in 0..10 {
        for i in 0..200 * 200 {
            let (x, y) = ((i % 200) as f32 / 50.0 - 2.0, (i / 200) as f32 / 50.0 - 2.0);
            if x * x + y * y > 1.03 {
                assert!(!outline::contains(label, x, y), "{label} ({x}, {y})");
            }
        }
    }
}

/// The published normalisation of the set fits what is drawn.
#[test]
fn pixels_are_centred_and_spread_as_the_normalisation_says() {
    let (shapes, labels) = Shapes::new(0, Split::Train, 500);
    let pixels: Vec<f64> = images(&shapes, &labels)
        .into_iter()
        .flatten()
        .map(|v| f64::from(v) / 255.0)
        .collect();
    let mean = pixels.iter().sum::<f64>() / pixels.len() as f64;
    let variance = pixels.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / pixels.len() as f64;
    assert!((mean - 0.5).abs() < 0.02, "{mean}");
    assert!((variance.sqrt() - 0.24).abs() < 0.02, "{}", variance.sqrt());
}
