//! Decoding an image file and bringing it to a fixed size.

use std::io::BufReader;
use std::path::Path;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{ImageReader, Limits, RgbImage};

use crate::augmentation::Window;
use crate::error::DataError;
use crate::files;

/// Largest image file, in bytes: decoders may hold a whole file in memory.
const MAX_FILE: u64 = 1 << 28;
/// Memory a decoder may take, in bytes; the largest image of ImageNet needs 183 million.
const MAX_ALLOC: u64 = 1 << 28;
/// Largest width and height, in pixels.
const MAX_SIDE: u32 = 1 << 16;
/// Largest `resize`: its square is still a reasonable size for one image.
const MAX_RESIZE: u32 = 1 << 13;

/// Checks the two sizes of [`load_image`].
pub(super) fn check_sizes(resize: u32, crop: u32) -> Result<(), DataError> {
    let (option, problem) = if resize == 0 || resize > MAX_RESIZE {
        ("resize", format!("{resize} pixels, use 1 to {MAX_RESIZE}"))
    } else if crop == 0 || crop > resize {
        (
            "crop",
            format!("{crop} pixels, use 1 to the {resize} of the resized image"),
        )
    } else {
        return Ok(());
    };
    Err(DataError::InvalidOption { option, problem })
}

/// Reads an image file (JPEG, PNG, BMP, PNM or WebP, whatever its name says) as image folders do: RGB,
/// the shorter side resized to `resize` pixels, then a square of `crop` pixels cut from the centre.
/// Gives `crop` x `crop` x 3 bytes in HWC order.
///
/// This is torchvision's `Resize` and `CenterCrop` on a PIL image, bilinear with antialiasing: the same
/// pixels within one level of 255 from lossless files, within a few from JPEG, whose decoders differ. An
/// alpha channel is dropped and the EXIF orientation ignored, as there.
///
/// # Errors
/// [`DataError::Image`] if the file cannot be decoded or is too large (256 MiB as a file or decoded,
/// 65,536 pixels on a side), [`DataError::InvalidOption`] if not 1 ≤ `crop` ≤ `resize` ≤ 8,192,
/// [`DataError::Io`] if it cannot be read.
pub fn load_image(path: &Path, resize: u32, crop: u32) -> Result<Vec<u8>, DataError> {
    check_sizes(resize, crop)?;
    let image = decode(path)?;
    resize_and_crop(&image, resize, crop).map_err(|problem| DataError::Image {
        path: path.to_path_buf(),
        problem,
    })
}

pub(super) fn decode(path: &Path) -> Result<RgbImage, DataError> {
    let failed = |problem: String| DataError::Image {
        path: path.to_path_buf(),
        problem,
    };
    let (file, size) = files::open(path)?;
    if size > MAX_FILE {
        return Err(failed(format!(
            "the file has {size} bytes, more than {MAX_FILE} are not read"
        )));
    }
    let mut reader = ImageReader::new(BufReader::new(file))
        .with_guessed_format()
        .map_err(DataError::io(path, "read"))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_ALLOC);
    reader.limits(limits);
    Ok(reader
        .decode()
        .map_err(|e| failed(e.to_string()))?
        .into_rgb8())
}

/// Reads an image file as [`load_image`] does, but resizes the window that `choose` picks, given the image's width and
/// height, to `side` x `side` pixels, whatever its shape.
pub(super) fn load_window(
    path: &Path,
    side: u32,
    choose: impl FnOnce([u32; 2]) -> Window,
) -> Result<Vec<u8>, DataError> {
    let image = decode(path)?;
    let (width, height) = image.dimensions();
    let resized = match width.min(height) {
        0 => Err("it has no pixels".to_owned()),
        _ => resample(&image, choose([width, height]).map(f64::from), side),
    };
    resized.map_err(|problem| DataError::Image {
        path: path.to_path_buf(),
        problem,
    })
}

/// Only the pixels inside the crop are computed: each side is resized on its own, so cutting first and
/// resizing the piece gives the same, and a thin image does not grow into a huge one.
pub(super) fn resize_and_crop(image: &RgbImage, resize: u32, crop: u32) -> Result<Vec<u8>, String> {
    let (width, height) = image.dimensions();
    let shorter = width.min(height);
    if shorter == 0 {
        return Err("it has no pixels".to_owned());
    }
    let resized = |side: u32| u64::from(side) * u64::from(resize) / u64::from(shorter);
    let piece = |side: u32| {
        let resized = resized(side);
        let scale = f64::from(side) / resized as f64;
        // torchvision's CenterCrop rounds half a pixel to even.
        let start = ((resized - u64::from(crop)) as f64 / 2.0).round_ties_even() * scale;
        (
            start,
            (f64::from(crop) * scale).min(f64::from(side) - start),
        )
    };
    let ((left, cut_width), (top, cut_height)) = (piece(width), piece(height));
    resample(image, [left, top, cut_width, cut_height], crop)
}

/// The part of an image with this left and upper edge, width and height, resized to a square; bilinear with antialiasing.
fn resample(
    image: &RgbImage,
    [left, top, cut_width, cut_height]: [f64; 4],
    crop: u32,
) -> Result<Vec<u8>, String> {
    let (width, height) = image.dimensions();
    // The typed interface: the dynamic one would compile every pixel type for every instruction set,
    // minutes of it, for the one that is used.
    let source = TypedImageRef::<U8x3>::from_buffer(width, height, image.as_raw())
        .map_err(|e| e.to_string())?;
    let mut pixels = vec![0; crop as usize * crop as usize * 3];
    let mut result =
        TypedImage::<U8x3>::from_buffer(crop, crop, &mut pixels).map_err(|e| e.to_string())?;
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(left, top, cut_width, cut_height);
    Resizer::new()
        .resize_typed(&source, &mut result, &options)
        .map_err(|e| e.to_string())?;
    drop(result);
    Ok(pixels)
}

#[cfg(test)]
mod tests;
