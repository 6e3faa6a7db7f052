//! A data set, prepared for one network.

use std::path::Path;

use addernet_data::{
    Augmentation, Batches, DataError, Dataset, DatasetKind, Normalization, OpenOptions, Split,
    Transform, batches, default_resize, sequential_indices,
};
use addernet_graph::{FeatureShape, Model, ModelInfo, Preprocessing};

use crate::error::Error;

/// A split of a data set with what has to be done to its images before a given network sees them.
#[derive(Debug)]
pub struct Images {
    dataset: Dataset,
    transform: Transform,
}

impl Images {
    /// Opens `split` of a data set for `model`.
    ///
    /// The normalisation is the one that the model carries, or else the data set's published one.
    /// Smaller grey images (MNIST) are padded to the network's input; images from a folder are resized so
    /// that their shorter side is `resize` (by default 256 for every 224 pixels of the network's
    /// input) and cut to the network's input.
    ///
    /// # Errors
    /// If the data set cannot be opened, or its images or classes do not fit the network.
    pub fn open(
        model: &Model,
        kind: DatasetKind,
        data_dir: Option<&Path>,
        split: Split,
        resize: Option<u32>,
    ) -> Result<Self, Error> {
        let graph = model.graph();
        let input = graph.input_shape();
        let options = match kind {
            DatasetKind::ImageFolder => folder_options(input, resize),
            _ => OpenOptions::default(),
        };
        let dataset = Dataset::open(kind, data_dir, split, &options)?;
        let mut transform = Transform::eval(kind);
        if let Some(Preprocessing { mean, std }) = &model.info().preprocessing {
            transform.normalization = Normalization::new(mean.clone(), std.clone())?;
        }
        let [height, width, channels] = dataset.image_shape();
        transform.pad_to = transform
            .pad_to
            .filter(|_| input.height > height || input.width > width)
            .map(|_| [input.height.max(height), input.width.max(width)]);
        let [out_height, out_width] = transform.pad_to.unwrap_or([height, width]);
        if (out_height, out_width, channels) != (input.height, input.width, input.channels) {
            return Err(Error::ImageShape {
                graph: graph.name().to_owned(),
                expected: input.to_string(),
                dataset: kind,
                found: FeatureShape::new(channels, out_height, out_width).to_string(),
            });
        }
        if dataset.num_classes() != graph.classes() {
            return Err(Error::Classes {
                graph: graph.name().to_owned(),
                expected: graph.classes(),
                dataset: kind,
                found: dataset.num_classes(),
            });
        }
        Ok(Self { dataset, transform })
    }

    /// The data set.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// What is done to each image, without augmentation.
    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    /// The same with the published training augmentation.
    pub fn augmented(&self, seed: u64, epoch: u64) -> Transform {
        let augmentation = Augmentation::published(self.dataset.kind(), seed, epoch);
        Transform {
            augmentation: Some(augmentation),
            ..self.transform.clone()
        }
    }

    /// The places of the first `limit` images, or of all.
    pub fn first(&self, limit: Option<usize>) -> Vec<usize> {
        sequential_indices(&self.dataset, limit)
    }

    /// Batches without augmentation.
    ///
    /// # Errors
    /// As [`batches`].
    pub fn batches<'a>(
        &'a self,
        indices: &'a [usize],
        batch_size: usize,
    ) -> Result<Batches<'a>, DataError> {
        batches(&self.dataset, indices, batch_size, &self.transform)
    }

    /// What the file of `model` should say once it was used with these images: their normalisation, and
    /// names of the classes, unless it has its own.
    pub fn model_info(&self, model: &Model) -> ModelInfo {
        let normalization = &self.transform.normalization;
        let names = match model.info().class_names.as_slice() {
            [] => self.dataset.class_names(),
            names => names,
        };
        ModelInfo {
            preprocessing: Some(Preprocessing {
                mean: normalization.mean().to_vec(),
                std: normalization.std().to_vec(),
            }),
            class_names: names.to_vec(),
        }
    }
}

fn folder_options(input: FeatureShape, resize: Option<u32>) -> OpenOptions {
    let crop = u32::try_from(input.height.min(input.width)).unwrap_or(u32::MAX);
    OpenOptions {
        resize: resize.unwrap_or(default_resize(crop)),
        crop,
        ..OpenOptions::default()
    }
}

#[cfg(test)]
mod tests;
