//! An image file as the input of a given network.

use std::path::Path;

use image::RgbImage;

use super::decode::{check_sizes, decode, resize_and_crop};
use crate::error::DataError;

/// The side to resize to before `crop` pixels are cut out: the published evaluation of ImageNet resizes
/// to 256 and cuts out 224, other sizes keep that proportion.
///
/// ```
/// assert_eq!(addernet_data::default_resize(224), 256);
/// assert_eq!(addernet_data::default_resize(32), 37);
/// ```
pub fn default_resize(crop: u32) -> u32 {
    (f64::from(crop) * 256.0 / 224.0).round() as u32
}

/// Reads an image file as a network takes it: `input` is `[height, width, channels]`, and so many bytes
/// in HWC order are returned.
///
/// Without `resize`, an image that already has the input's height and width is taken as it is, and a
/// smaller one for a network of one channel is padded evenly with black, as MNIST's images are. Every
/// other image has its shorter side resized to `resize` pixels ([`default_resize`]), and the input is
/// cut from its centre, as [`load_image`](super::load_image) does. For one channel colours become grey by
/// the luma of ITU-R BT.601, as in Pillow.
///
/// # Errors
/// [`DataError::Image`] or [`DataError::Io`] if the file cannot be read, as
/// [`load_image`](super::load_image); [`DataError::InvalidOption`] if the network takes neither one nor
/// three channels, its input is not square and the image has another size, or `resize` is smaller than
/// the input or above 8,192.
pub fn load_image_for(
    path: &Path,
    input: [usize; 3],
    resize: Option<u32>,
) -> Result<Vec<u8>, DataError> {
    let [height, width, channels] = input;
    let invalid = |option, problem| DataError::InvalidOption { option, problem };
    if channels != 1 && channels != 3 {
        let problem =
            format!("the network takes {channels} channels, image files give 1 (grey) or 3 (RGB)");
        return Err(invalid("input", problem));
    }
    let crop = u32::try_from(height).unwrap_or(u32::MAX);
    let side = resize.unwrap_or_else(|| default_resize(crop));
    if height == width {
        check_sizes(side, crop)?;
    } else {
        let longer = u32::try_from(height.max(width)).unwrap_or(u32::MAX);
        check_sizes(longer, longer)?;
    }
    let image = decode(path)?;
    let (found_width, found_height) = (image.width() as usize, image.height() as usize);
    let pixels = if resize.is_none() && (found_height, found_width) == (height, width) {
        image.into_raw()
    } else if resize.is_none()
        && channels == 1
        && (1..=height).contains(&found_height)
        && (1..=width).contains(&found_width)
    {
        pad(&image, height, width)
    } else if height == width {
        resize_and_crop(&image, side, crop).map_err(|problem| DataError::Image {
            path: path.to_path_buf(),
            problem,
        })?
    } else {
        let path = path.display();
        let problem = format!(
            "the network takes {height}x{width} pixels (height x width), which are cut only from images \
             for square inputs; {path} has {found_height}x{found_width}, bring it to that size first"
        );
        return Err(invalid("input", problem));
    };
    Ok(match channels {
        1 => pixels.chunks_exact(3).map(luma).collect(),
        _ => pixels,
    })
}

/// Black around an image that is not larger; an odd pixel goes to the bottom and right.
fn pad(image: &RgbImage, height: usize, width: usize) -> Vec<u8> {
    let row = 3 * image.width() as usize;
    let top = (height - image.height() as usize) / 2;
    let left = (width - image.width() as usize) / 2;
    let mut padded = vec![0; 3 * height * width];
    for (y, from) in image.as_raw().chunks_exact(row).enumerate() {
        padded[3 * ((top + y) * width + left)..][..row].copy_from_slice(from);
    }
    padded
}

/// 0.299 R + 0.587 G + 0.114 B in the fixed point of Pillow's conversion to `L`.
fn luma(rgb: &[u8]) -> u8 {
    let weighted: u32 = rgb
        .iter()
        .zip([19_595, 38_470, 7_471])
        .map(|(&v, weight)| u32::from(v) * weight)
        .sum();
    ((weighted + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests;
