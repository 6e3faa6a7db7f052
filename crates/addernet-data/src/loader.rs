//! Batches.

use ndarray::Array4;
use rayon::prelude::*;

use crate::augmentation::ResizedCrop;
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::transform::{Prepared, Transform};

/// Images ready for a network, with their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Normalised images, NHWC, standard layout.
    pub images: Array4<f32>,
    /// One label per image.
    pub labels: Vec<u32>,
    /// One place in the data set per image.
    pub indices: Vec<usize>,
}

/// The iterator that [`batches`] makes.
pub struct Batches<'a> {
    dataset: &'a Dataset,
    prepared: Prepared<'a>,
    rest: &'a [usize],
    batch_size: usize,
}

/// Batches of `batch_size` images, in the order of `indices`; the last one may be smaller.
///
/// The images of a batch are prepared in parallel in rayon's current pool, with the same result for any
/// number of threads. A batch that cannot be prepared does not keep the next ones from being tried.
///
/// # Errors
/// [`DataError::InvalidOption`] if `batch_size` is 0 or the transform does not fit the images,
/// [`DataError::IndexOutOfRange`] if an index is. Items are errors where an image cannot be read, as for
/// [`Dataset::image`].
pub fn batches<'a>(
    dataset: &'a Dataset,
    indices: &'a [usize],
    batch_size: usize,
    transform: &'a Transform,
) -> Result<Batches<'a>, DataError> {
    if batch_size == 0 {
        let problem = "0 images per batch, use at least 1".to_owned();
        return Err(DataError::InvalidOption {
            option: "batch_size",
            problem,
        });
    }
    indices
        .iter()
        .try_for_each(|&index| dataset.check_index(index))?;
    let prepared = Prepared::new(transform, dataset.image_shape())?;
    let resized_crop = prepared.augmentation().and_then(|a| a.resized_crop);
    if let Some(ResizedCrop { smallest_area }) = resized_crop {
        let option = "resized_crop";
        if !(smallest_area > 0.0 && smallest_area <= 1.0) {
            let problem = format!("{smallest_area} of the image's area, use above 0 to 1");
            return Err(DataError::InvalidOption { option, problem });
        }
        if !dataset.has_windows() {
            let problem = format!(
                "the images of {} are as small as the input: only image folders have such windows, use crop_padding",
                dataset.kind()
            );
            return Err(DataError::InvalidOption { option, problem });
        }
    }
    Ok(Batches {
        dataset,
        prepared,
        rest: indices,
        batch_size,
    })
}

impl Batches<'_> {
    fn prepare(&self, indices: &[usize]) -> Result<Batch, DataError> {
        /// Images per task when preparing one is little more than a table look-up.
        const CHEAP_IMAGES: usize = 16;
        let [height, width, channels] = self.prepared.output_shape();
        let size = height * width * channels;
        let augmentation = self.prepared.augmentation();
        let mut values = vec![0.0; indices.len() * size];
        let done: Vec<Result<(), DataError>> = values
            .par_chunks_exact_mut(size)
            .zip(indices)
            .with_min_len(if self.dataset.is_lazy() {
                1
            } else {
                CHEAP_IMAGES
            })
            .map(|(out, &index)| {
                let image = self.dataset.augmented_image(index, augmentation)?;
                self.prepared.apply(&image, index, out);
                Ok(())
            })
            .collect();
        // Of several failures the first in order is reported, whichever thread was faster.
        done.into_iter().collect::<Result<(), _>>()?;
        let images = Array4::from_shape_vec((indices.len(), height, width, channels), values)
            .expect("the buffer was made for this shape");
        let labels = indices
            .iter()
            .map(|&index| self.dataset.labels()[index])
            .collect();
        Ok(Batch {
            images,
            labels,
            indices: indices.to_vec(),
        })
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (now, rest) = self.rest.split_at(self.batch_size.min(self.rest.len()));
        self.rest = rest;
        Some(self.prepare(now))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let batches = self.rest.len().div_ceil(self.batch_size);
        (batches, Some(batches))
    }
}

impl ExactSizeIterator for Batches<'_> {}
