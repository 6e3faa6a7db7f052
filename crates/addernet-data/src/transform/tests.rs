use proptest::prelude::*;

use super::*;

/// 1 means "pixel value as it is": mean 0, deviation 1/255 turns byte v into v.
fn plain(channels: usize) -> Normalization {
    Normalization::new(vec![0.0; channels], vec![1.0 / 255.0; channels]).unwrap()
}

fn apply(transform: &Transform, image: &[u8], shape: [usize; 3], index: usize) -> Vec<f32> {
    let out_shape = transform.output_shape(shape).unwrap();
    let mut out = vec![f32::NAN; out_shape.iter().product()];
    transform.apply(image, shape, index, &mut out).unwrap();
    out
}

/// torchvision's steps one by one on a padded copy: pad to size, pad for the crop, cut, mirror, normalise.
fn step_by_step(transform: &Transform, image: &[u8], shape: [usize; 3], index: usize) -> Vec<f32> {
    let [h, w, c] = shape;
    let [oh, ow] = transform.pad_to.unwrap_or([h, w]);
    let crop = transform
        .augmentation
        .as_ref()
        .map_or(0, |a| a.crop_padding);
    let (ph, pw) = (oh + 2 * crop, ow + 2 * crop);
    let mut padded = vec![0u8; ph * pw * c];
    for y in 0..h {
        for x in 0..w {
            for ch in 0..c {
                let (py, px) = (y + (oh - h) / 2 + crop, x + (ow - w) / 2 + crop);
                padded[(py * pw + px) * c + ch] = image[(y * w + x) * c + ch];
            }
        }
    }
    let choice = transform
        .augmentation
        .as_ref()
        .map_or(Choice::NONE, |a| a.choose(index));
    let (y0, x0) = (
        (crop as isize + choice.down) as usize,
        (crop as isize + choice.right) as usize,
    );
    let n = &transform.normalization;
    let mut out = Vec::new();
    for y in 0..oh {
        for x in 0..ow {
            let x = if choice.flip { ow - 1 - x } else { x };
            for ch in 0..c {
                let v = f32::from(padded[((y0 + y) * pw + x0 + x) * c + ch]) / 255.0;
                out.push((v - n.mean()[ch]) / n.std()[ch]);
            }
        }
    }
    out
}

#[test]
fn normalises_each_channel_like_torchvision() {
    // Computed with numpy in f32 as torchvision does: (v / 255 - mean) / std.
    let out = apply(
        &Transform::eval(DatasetKind::Cifar10),
        &[255, 128, 0],
        [1, 1, 3],
        0,
    );
    assert_eq!(out, [2.514_088, 0.099_101_394, -2.221_393]);
}

#[test]
fn mnist_gets_two_pixels_of_black_on_each_side() {
    let image: Vec<u8> = (0..28 * 28).map(|i| (i % 255 + 1) as u8).collect();
    let transform = Transform {
        normalization: plain(1),
        ..Transform::eval(DatasetKind::Mnist)
    };
    let out = apply(&transform, &image, [28, 28, 1], 0);
    for (i, value) in out.iter().enumerate() {
        let (y, x) = (i / 32, i % 32);
        let inside = (2..30).contains(&y) && (2..30).contains(&x);
        let expected = if inside {
            f32::from(image[(y - 2) * 28 + x - 2])
        } else {
            0.0
        };
        assert!(
            (value - expected).abs() < 1e-3,
            "({y}, {x}): {value}, expected {expected}"
        );
    }
}

#[test]
fn crop_padding_is_black_before_normalisation() {
    let augmentation = Augmentation {
        resized_crop: None,
        crop_padding: 4,
        flip: false,
        seed: 0,
        epoch: 0,
    };
    let index = (0..).find(|&i| augmentation.choose(i).down == -4).unwrap();
    let transform = Transform {
        augmentation: Some(augmentation),
        ..Transform::eval(DatasetKind::Cifar10)
    };
    let out = apply(&transform, &[255; 32 * 32 * 3], [32, 32, 3], index);
    assert_eq!(out[0], (0.0 - 0.4914) / 0.2023);
    let row4 = &out[4 * 32 * 3..][..32 * 3];
    assert!(row4.contains(&((1.0 - 0.4914) / 0.2023)));
}

#[test]
fn what_does_not_fit_is_an_error() {
    let eval = Transform::eval(DatasetKind::Cifar10);
    let grey = eval.output_shape([32, 32, 1]).unwrap_err().to_string();
    assert_eq!(grey, "normalization: has 3 channels, the images have 1");
    let small = Transform {
        pad_to: Some([32, 16]),
        ..eval.clone()
    };
    let small = small.output_shape([32, 32, 3]).unwrap_err().to_string();
    assert!(
        small.starts_with("pad_to: 32x16 is smaller than the images' 32x32"),
        "{small}"
    );
    let wide = Augmentation {
        resized_crop: None,
        crop_padding: usize::MAX,
        flip: true,
        seed: 0,
        epoch: 0,
    };
    let wide = Transform {
        augmentation: Some(wide),
        ..eval.clone()
    };
    assert!(wide.output_shape([32, 32, 3]).is_err());
    for (image, out) in [(3071, 3072), (3072, 3071)] {
        let result = eval.apply(&vec![0; image], [32, 32, 3], 0, &mut vec![0.0; out]);
        assert!(result.is_err(), "{image} {out}");
    }
}

proptest! {
    #[test]
    fn agrees_with_the_steps_one_by_one(
        h in 1usize..7, w in 1usize..7, c in 1usize..4,
        more_h in 0usize..4, more_w in 0usize..4,
        crop in 0usize..5, flip: bool, seed: u64, epoch in 0u64..5, index in 0usize..100,
    ) {
        let image: Vec<u8> = (0..h * w * c).map(|i| (i * 37 + seed as usize % 251) as u8).collect();
        let mean = (0..c).map(|i| 0.1 * i as f32 + 0.3).collect();
        let std = (0..c).map(|i| 0.1 * i as f32 + 0.2).collect();
        let side = (h + more_h).min(w + more_w);
        let transform = Transform {
            normalization: Normalization::new(mean, std).unwrap(),
            pad_to: Some([h + more_h, w + more_w]),
            augmentation: Some(Augmentation { resized_crop: None, crop_padding: crop.min(side), flip, seed, epoch }),
        };
        let shape = [h, w, c];
        prop_assert_eq!(
            apply(&transform, &image, shape, index),
            step_by_step(&transform, &image, shape, index)
        );
    }
}
