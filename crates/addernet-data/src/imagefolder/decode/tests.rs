use std::fs;

use image::{ExtendedColorType, GrayImage, ImageFormat, Luma, RgbImage, Rgba, RgbaImage};

use super::*;

/// Something with edges and gradients, a little different in each channel.
fn pattern(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([0, 1, 2].map(|c| {
            let value = if (x / 4 + y / 3) % 2 == 1 {
                x * x * 3 + y * y * 5 + x * y * 7 + c * 85
            } else {
                x * 9 + y * 4 + c * 40
            };
            (value % 256) as u8
        }))
    })
}

// What Pillow 12 makes of the pattern as torchvision calls it: 37x29 pixels, and 5x7, with the shorter side
// resized to 9, and 6x6 cut from the centre.
#[rustfmt::skip]
const DOWN: [u8; 108] = [
    120, 135, 156, 133, 147, 158, 145, 169, 147, 166, 178, 73, 159, 99, 105, 137, 69, 101,
    121, 136, 148, 125, 157, 168, 147, 178, 162, 165, 133, 96, 191, 51, 90, 96, 90, 148,
    115, 149, 165, 131, 158, 178, 153, 172, 91, 180, 128, 72, 140, 63, 117, 86, 77, 125,
    124, 150, 173, 155, 162, 147, 169, 157, 62, 193, 56, 89, 123, 67, 106, 93, 121, 127,
    145, 155, 183, 167, 170, 107, 186, 116, 71, 165, 57, 92, 79, 107, 108, 76, 121, 133,
    155, 163, 130, 173, 160, 63, 165, 91, 83, 88, 90, 93, 69, 105, 118, 89, 127, 130,
];
#[rustfmt::skip]
const UP: [u8; 108] = [
    14, 54, 94, 19, 59, 99, 24, 64, 104, 29, 69, 109, 41, 86, 116, 80, 150, 128,
    22, 68, 114, 29, 74, 106, 35, 81, 94, 42, 88, 101, 55, 104, 100, 92, 160, 69,
    51, 123, 195, 64, 136, 128, 78, 150, 40, 93, 165, 56, 102, 171, 72, 82, 141, 91,
    78, 163, 182, 95, 180, 110, 113, 198, 27, 134, 178, 48, 140, 153, 73, 83, 113, 108,
    103, 188, 73, 121, 206, 53, 142, 227, 56, 165, 126, 79, 170, 50, 102, 95, 76, 120,
    131, 216, 61, 153, 185, 67, 175, 143, 89, 136, 92, 115, 99, 55, 135, 71, 79, 134,
];

#[test]
fn agrees_with_pillow_and_torchvision() {
    for (width, height, expected) in [(37, 29, DOWN), (5, 7, UP)] {
        let pixels = resize_and_crop(&pattern(width, height), 9, 6).unwrap();
        for (i, (got, expected)) in pixels.iter().zip(expected).enumerate() {
            assert!(
                got.abs_diff(expected) <= 1,
                "{width}x{height}, {i}: {got}, Pillow has {expected}"
            );
        }
    }
}

#[test]
fn an_image_of_the_right_size_is_only_cut() {
    let image = pattern(20, 20);
    let pixels = resize_and_crop(&image, 20, 10).unwrap();
    let cut = image::imageops::crop_imm(&image, 5, 5, 10, 10).to_image();
    assert_eq!(pixels, cut.into_raw());
}

#[test]
fn a_thin_image_does_not_grow_into_a_huge_one() {
    // Resized whole, this would have 256 x 16,777,216 pixels.
    let image = RgbImage::from_pixel(1, MAX_SIDE, image::Rgb([9, 8, 7]));
    let pixels = resize_and_crop(&image, 256, 224).unwrap();
    assert_eq!(pixels.len(), 224 * 224 * 3);
    assert!(pixels.chunks(3).all(|pixel| pixel == [9, 8, 7]));
}

#[test]
fn every_format_is_read_by_content_and_becomes_rgb() {
    let temp = tempfile::tempdir().unwrap();
    let image = pattern(24, 24);
    let cut = image::imageops::crop_imm(&image, 2, 2, 20, 20)
        .to_image()
        .into_raw();
    for (format, exact) in [
        (ImageFormat::Png, true),
        (ImageFormat::Bmp, true),
        (ImageFormat::Pnm, true),
        (ImageFormat::WebP, true),
        (ImageFormat::Jpeg, false),
    ] {
        // The name lies about the format.
        let path = temp.path().join("image.jpg");
        image.save_with_format(&path, format).unwrap();
        let pixels = load_image(&path, 24, 20).unwrap();
        if exact {
            assert_eq!(pixels, cut, "{format:?}");
        } else {
            let error: f64 = pixels
                .iter()
                .zip(&cut)
                .map(|(a, b)| f64::from(a.abs_diff(*b)))
                .sum::<f64>()
                / 1200.0;
            assert!(error < 40.0, "{format:?}: {error}");
        }
    }

    let path = temp.path().join("image.png");
    GrayImage::from_pixel(8, 8, Luma([77])).save(&path).unwrap();
    assert_eq!(load_image(&path, 8, 8).unwrap(), [77; 192]);
    // Transparency is dropped, not blended.
    RgbaImage::from_pixel(8, 8, Rgba([1, 2, 3, 0]))
        .save(&path)
        .unwrap();
    assert_eq!(load_image(&path, 8, 8).unwrap(), [1, 2, 3].repeat(64));
}

#[test]
fn unusable_files_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("bad.png");
    let complaint = || load_image(&path, 24, 20).unwrap_err().to_string();

    assert!(complaint().contains("bad.png"), "{}", complaint());
    fs::write(&path, "not an image").unwrap();
    assert!(
        complaint().contains("bad.png: not a usable image"),
        "{}",
        complaint()
    );

    let mut png = Vec::new();
    let image = pattern(24, 24);
    image
        .write_to(&mut std::io::Cursor::new(&mut png), ImageFormat::Png)
        .unwrap();
    fs::write(&path, &png[..png.len() / 2]).unwrap();
    assert!(
        complaint().contains("bad.png: not a usable image"),
        "{}",
        complaint()
    );

    fs::File::create(&path)
        .unwrap()
        .set_len(MAX_FILE + 1)
        .unwrap();
    assert!(
        complaint().contains("has 268435457 bytes"),
        "{}",
        complaint()
    );
}

/// A few bytes that promise 65,000 x 65,000 pixels: 12 GB if believed.
#[test]
fn a_decompression_bomb_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("bomb.ppm");
    fs::write(&path, "P6 65000 65000 255\n").unwrap();
    let error = load_image(&path, 256, 224).unwrap_err().to_string();
    assert!(error.contains("limit"), "{error}");
    fs::write(&path, "P6 70000 1 255\n").unwrap();
    let error = load_image(&path, 256, 224).unwrap_err().to_string();
    assert!(error.contains("limit"), "{error}");

    // The same in JPEG, by patching the frame header of a small image.
    let path = temp.path().join("bomb.jpg");
    pattern(16, 16).save(&path).unwrap();
    let mut jpeg = fs::read(&path).unwrap();
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xfd, 0xe8, 0xfd, 0xe8]);
    fs::write(&path, jpeg).unwrap();
    let error = load_image(&path, 256, 224).unwrap_err().to_string();
    assert!(error.contains("limit"), "{error}");

    // The same in PNG, whose small files really unpack to something large.
    let path = temp.path().join("bomb.png");
    let zeros = vec![0; 12_000 * 12_000 * 3];
    image::save_buffer(&path, &zeros, 12_000, 12_000, ExtendedColorType::Rgb8).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 10 << 20);
    let error = load_image(&path, 256, 224).unwrap_err().to_string();
    assert!(error.contains("limit"), "{error}");
}

#[test]
fn sizes_are_checked() {
    for (resize, crop, option) in [
        (0, 0, "resize"),
        (8193, 1, "resize"),
        (256, 257, "crop"),
        (256, 0, "crop"),
    ] {
        let error = load_image(Path::new("any"), resize, crop)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(option), "{error}");
    }
    assert!(check_sizes(8192, 8192).is_ok());
}
