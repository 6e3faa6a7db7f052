//! From pixels to normalised floats.

use crate::augmentation::{Augmentation, Choice};
use crate::error::DataError;
use crate::kind::DatasetKind;
use crate::normalization::Normalization;

/// What is done to an image before a network sees it: pad, augment, normalise, in this order.
///
/// The order is torchvision's (`Pad`, `RandomCrop`, `RandomHorizontalFlip`, `ToTensor`, `Normalize`):
/// padding is black, so in the output it has the value (0 − mean) / std of its channel, not 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Transform {
    /// Per-channel mean and deviation.
    pub normalization: Normalization,
    /// `[height, width]` to which smaller images are padded evenly with black; an odd pixel goes to the
    /// bottom and right.
    pub pad_to: Option<[usize; 2]>,
    /// Random crop and flip, for training.
    pub augmentation: Option<Augmentation>,
}

impl Transform {
    /// For evaluation and calibration: the published normalisation, and for the MNIST family padding from
    /// 28x28 to the 32x32 that LeNet-5 takes (LeCun et al., "Gradient-based learning applied to document
    /// recognition", 1998, section II.B).
    pub fn eval(kind: DatasetKind) -> Self {
        let pad_to = match kind {
            DatasetKind::Mnist | DatasetKind::FashionMnist => Some([32, 32]),
            _ => None,
        };
        Self {
            normalization: Normalization::published(kind),
            pad_to,
            augmentation: None,
        }
    }

    /// For training: as [`eval`](Self::eval), with [`Augmentation::published`].
    pub fn train(kind: DatasetKind, seed: u64, epoch: u64) -> Self {
        let augmentation = Some(Augmentation::published(kind, seed, epoch));
        Self {
            augmentation,
            ..Self::eval(kind)
        }
    }

    /// `[height, width, channels]` of the result for images of `image_shape`.
    ///
    /// # Errors
    /// [`DataError::InvalidOption`] if the normalisation has another number of channels, `pad_to` is
    /// smaller than the image, or the crop padding is larger than the result.
    pub fn output_shape(&self, image_shape: [usize; 3]) -> Result<[usize; 3], DataError> {
        let [height, width, channels] = image_shape;
        if self.normalization.channels() != channels {
            let problem = format!(
                "has {} channels, the images have {channels}",
                self.normalization.channels()
            );
            return Err(DataError::InvalidOption {
                option: "normalization",
                problem,
            });
        }
        let [out_height, out_width] = self.pad_to.unwrap_or([height, width]);
        if out_height < height || out_width < width {
            let problem = format!(
                "{out_height}x{out_width} is smaller than the images' {height}x{width}, \
                 give at least their size"
            );
            return Err(DataError::InvalidOption {
                option: "pad_to",
                problem,
            });
        }
        let padding = self.augmentation.as_ref().map_or(0, |a| a.crop_padding);
        if padding > out_height.min(out_width) {
            let problem = format!(
                "{padding} pixels of padding for images of {out_height}x{out_width}, \
                 use no more than their side"
            );
            return Err(DataError::InvalidOption {
                option: "crop_padding",
                problem,
            });
        }
        Ok([out_height, out_width, channels])
    }

    /// Transforms one image: `image` has `image_shape` in HWC order, `out` the
    /// [`output_shape`](Self::output_shape), also in HWC order. `index` is the image's place in its data
    /// set, from which the augmentation derives its choices.
    ///
    /// # Errors
    /// Those of [`output_shape`](Self::output_shape), and [`DataError::InvalidOption`] if a slice has the
    /// wrong length.
    ///
    /// ```
    /// use addernet_data::{DatasetKind, Transform};
    ///
    /// let mut out = vec![0.0; 32 * 32];
    /// Transform::eval(DatasetKind::Mnist).apply(&[255; 28 * 28], [28, 28, 1], 0, &mut out)?;
    /// assert_eq!(out[0], (0.0 - 0.1307) / 0.3081); // padding
    /// assert_eq!(out[2 * 32 + 2], (1.0 - 0.1307) / 0.3081);
    /// # Ok::<(), addernet_data::DataError>(())
    /// ```
    pub fn apply(
        &self,
        image: &[u8],
        image_shape: [usize; 3],
        index: usize,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        let prepared = Prepared::new(self, image_shape)?;
        for (option, got, shape) in [
            ("image", image.len(), image_shape),
            ("out", out.len(), prepared.output_shape()),
        ] {
            if got != shape.iter().product::<usize>() {
                let problem = format!("has {got} elements, the shape is {shape:?}");
                return Err(DataError::InvalidOption { option, problem });
            }
        }
        prepared.apply(image, index, out);
        Ok(())
    }
}

/// A transform for images of one shape, with its table of normalised values.
pub(crate) struct Prepared<'a> {
    transform: &'a Transform,
    image_shape: [usize; 3],
    output_shape: [usize; 3],
    /// Value of byte v in channel c at `v * channels + c`.
    table: Vec<f32>,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(
        transform: &'a Transform,
        image_shape: [usize; 3],
    ) -> Result<Self, DataError> {
        let output_shape = transform.output_shape(image_shape)?;
        let (mean, std) = (
            transform.normalization.mean(),
            transform.normalization.std(),
        );
        let table = (0..=255u8)
            .flat_map(|v| {
                mean.iter()
                    .zip(std)
                    .map(move |(m, s)| (f32::from(v) / 255.0 - m) / s)
            })
            .collect();
        Ok(Self {
            transform,
            image_shape,
            output_shape,
            table,
        })
    }

    pub(crate) fn output_shape(&self) -> [usize; 3] {
        self.output_shape
    }

    pub(crate) fn augmentation(&self) -> Option<&'a Augmentation> {
        self.transform.augmentation.as_ref()
    }

    /// The lengths of `image` and `out` are the products of the two shapes.
    pub(crate) fn apply(&self, image: &[u8], index: usize, out: &mut [f32]) {
        let [height, width, channels] = self.image_shape;
        let [out_height, out_width, _] = self.output_shape;
        let choice = self
            .transform
            .augmentation
            .as_ref()
            .map_or(Choice::NONE, |a| a.choose(index));
        // Row r of the window is row r + down of the padded image, so r + down - top of the image itself.
        let top = choice.down - ((out_height - height) / 2) as isize;
        let left = choice.right - ((out_width - width) / 2) as isize;

        let inside = |at: usize, shift: isize, size: usize| {
            at.checked_add_signed(shift).filter(|&source| source < size)
        };
        for (row, out_row) in out.chunks_exact_mut(out_width * channels).enumerate() {
            let source_row = inside(row, top, height)
                .map(|source| &image[source * width * channels..][..width * channels]);
            for (column, pixel) in out_row.chunks_exact_mut(channels).enumerate() {
                let column = if choice.flip {
                    out_width - 1 - column
                } else {
                    column
                };
                let source = source_row.zip(inside(column, left, width));
                for (channel, value) in pixel.iter_mut().enumerate() {
                    let byte = source.map_or(0, |(line, at)| line[at * channels + channel]);
                    *value = self.table[usize::from(byte) * channels + channel];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
