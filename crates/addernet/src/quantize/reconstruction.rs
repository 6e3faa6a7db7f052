//! How a reconstruction gets its images and tells how far it is.

use std::cell::Cell;

use addernet_data::{Batch, DataError, Transform, batches, calibration_indices, mixup, shuffled};
use addernet_graph::Model;
use addernet_kernels::AdderKernelF32;
use addernet_quant::{
    Kernels, Observations, Provenance, QuantizedModel, Reconstruction, ReconstructionProgress,
    TrainingImages, Tuning, reconstruct,
};
use ndarray::Array4;

use super::QuantizeOptions;
use crate::error::Error;
use crate::images::Images;
use crate::mixed_precision::{BitAllocation, Budget, allocate_bits};
use crate::progress::{Progress, Stage};

/// Calibration images that scales are searched on; all of them are tuned with.
const SEARCH_IMAGES: usize = 256;

/// What a reconstruction runs on.
pub(super) struct ReconstructionRun<'a> {
    pub(super) training: &'a Images,
    pub(super) options: &'a QuantizeOptions,
    /// Of the result, but for the reconstruction's own settings.
    pub(super) provenance: Provenance,
    pub(super) kernel: &'static dyn AdderKernelF32,
    pub(super) progress: &'a dyn Progress,
}

impl ReconstructionRun<'_> {
    pub(super) fn reconstruct(
        &self,
        model: &Model,
        observations: &Observations,
        settings: &Reconstruction,
    ) -> Result<QuantizedModel, Error> {
        let Self {
            training, options, ..
        } = *self;
        let nodes = model.graph().adder_nodes();
        let bits = nodes.map(|(_, node, _)| settings.bits_of(node.name()));
        let most = bits.reduce(|[w, a], [w2, a2]| [w.max(w2), a.max(a2)]);
        let [weight_bits, activation_bits] = most.unwrap_or(self.options.method.bits());
        let provenance = Provenance {
            weight_bits,
            activation_bits,
            reconstruction: Some(settings.clone()),
            ..self.provenance.clone()
        };
        let count = options.calibration_images;
        let indices = calibration_indices(training.dataset(), count, options.seed)?;
        let searched = &indices[..count.min(SEARCH_IMAGES)];
        let images = self.batch(searched, training.transform())?.images;
        let layers = model.graph().adder_nodes().count();
        let steps = settings.tuning.steps;
        let listener = Listener {
            progress: self.progress,
            layers: Cell::new(layers * if steps > 0 { 2 } else { 1 }),
            images: steps * Tuning::BATCH,
        };
        self.progress
            .begin(Stage::ScaleSearch, listener.layers.get());
        let batch = Tuning::BATCH.min(count);
        let per_epoch = count / batch;
        let quantized = reconstruct(
            model,
            observations,
            settings,
            TrainingImages {
                search: images,
                batch: |step| {
                    let epoch = (step / per_epoch) as u64;
                    let order = shuffled(&indices, options.seed, epoch);
                    let place = step % per_epoch * batch;
                    let transform = training.augmented(options.seed, epoch);
                    let mut mixed = self.batch(&order[place..place + batch], &transform)?;
                    let share = settings.tuning.mixup.into();
                    mixup(&mut mixed, share, options.seed, step as u64);
                    Ok::<_, DataError>(mixed.images)
                },
            },
            provenance,
            Kernels {
                f32: self.kernel,
                u8: addernet_kernels::select_u8(Some(self.kernel.name()))?,
            },
            &listener,
        )?;
        self.progress.end();
        Ok(quantized)
    }

    /// Bits per layer within a budget, from what each layer alone costs when `settings` find its scale.
    pub(super) fn allocate(
        &self,
        model: &Model,
        observations: &Observations,
        settings: &Reconstruction,
        budget: &Budget,
    ) -> Result<BitAllocation, Error> {
        let quantized_at = |bits| {
            let settings = Reconstruction {
                weight_bits: bits,
                activation_bits: bits,
                tuning: Tuning {
                    steps: 0,
                    ..settings.tuning
                },
                ..settings.clone()
            };
            let quantized = self.reconstruct(model, observations, &settings)?;
            Ok(quantized.layers().clone())
        };
        let seed = self.options.seed;
        allocate_bits(
            model,
            self.training,
            budget,
            seed,
            self.kernel,
            self.progress,
            quantized_at,
        )
    }

    /// Images as one batch.
    fn batch(&self, indices: &[usize], transform: &Transform) -> Result<Batch, DataError> {
        let mut all = batches(self.training.dataset(), indices, indices.len(), transform)?;
        all.next().unwrap_or_else(|| {
            Ok(Batch {
                images: Array4::zeros((0, 0, 0, 0)),
                labels: Vec::new(),
                indices: Vec::new(),
            })
        })
    }
}

/// Turns a reconstruction's progress into stages.
struct Listener<'a> {
    progress: &'a dyn Progress,
    /// Layers that are still to come.
    layers: Cell<usize>,
    /// Images that will be learned from.
    images: usize,
}

impl ReconstructionProgress for Listener<'_> {
    fn layer(&self) {
        self.progress.advance(1);
        self.layers.set(self.layers.get().saturating_sub(1));
        if self.layers.get() == 0 && self.images > 0 {
            self.progress.end();
            self.progress.begin(Stage::Tuning, self.images);
        }
    }

    fn tuned(&self, images: usize) {
        self.progress.advance(images);
    }
}
