use image::{GrayImage, Luma, Rgb};

use super::super::load_image;
use super::*;

fn colours(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 7) as u8, (y * 5) as u8, (x * y) as u8])
    })
}

#[test]
fn an_image_of_the_inputs_size_is_taken_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let image = colours(32, 20);
    image.save(&path).unwrap();
    assert_eq!(
        load_image_for(&path, [20, 32, 3], None).unwrap(),
        image.into_raw()
    );
}

#[test]
fn other_sizes_are_resized_and_cut_as_image_folders_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    colours(60, 45).save(&path).unwrap();
    for (resize, same) in [(None, 37), (Some(40), 40)] {
        let expected = load_image(&path, same, 32).unwrap();
        assert_eq!(
            load_image_for(&path, [32, 32, 3], resize).unwrap(),
            expected
        );
    }
    // Asked for, it happens to an image of the right size too.
    colours(32, 32).save(&path).unwrap();
    let expected = load_image(&path, 40, 32).unwrap();
    assert_eq!(
        load_image_for(&path, [32, 32, 3], Some(40)).unwrap(),
        expected
    );
}

#[test]
fn grey_networks_get_grey_images_padded_like_mnist() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let digit = GrayImage::from_fn(28, 27, |x, y| Luma([(x * 9 + y) as u8 | 1]));
    digit.save(&path).unwrap();
    let pixels = load_image_for(&path, [32, 32, 1], None).unwrap();
    for y in 0..32 {
        for x in 0..32 {
            let inside = (2..29).contains(&y) && (2..30).contains(&x);
            let expected = match inside {
                true => digit.get_pixel(x - 2, y - 2).0[0],
                false => 0,
            };
            assert_eq!(pixels[(y * 32 + x) as usize], expected, "{x}, {y}");
        }
    }
    // Pillow 12: Image.new("RGB", (1, 1), colour).convert("L").
    for (colour, grey) in [
        ([255, 0, 0], 76),
        ([0, 255, 0], 150),
        ([0, 0, 255], 29),
        ([255, 255, 255], 255),
        ([10, 200, 90], 131),
    ] {
        assert_eq!(luma(&colour), grey, "{colour:?}");
    }
}

#[test]
fn what_cannot_be_an_input_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    colours(60, 45).save(&path).unwrap();
    let error = |input, resize| {
        load_image_for(&path, input, resize)
            .unwrap_err()
            .to_string()
    };
    assert!(error([32, 32, 4], None).contains("takes 4 channels"));
    let message = error([20, 32, 3], None);
    assert!(message.contains("a.png has 45x60"), "{message}");
    assert!(error([32, 32, 3], Some(20)).contains("crop"));
    assert!(error([32, 32, 3], Some(100_000)).contains("resize"));
    assert!(error([100_000, 100_000, 3], None).contains("resize"));
}
