//! Post-training quantization, from training images to a quantized model.

use addernet_data::{Dataset, batches, calibration_indices, shuffled_indices};
use addernet_graph::{Executor, Model};
use addernet_kernels::AdderKernelF32;
use addernet_quant::{
    BITS, Method, MethodKind, Observations, Provenance, QuantError, QuantizedModel, Redistribution,
    SharedScale, Simulator, calibrate, group_kernels, reestimate_bn,
};

use crate::error::Error;
use crate::images::Images;
use crate::progress::{Progress, Stage};

/// Images per batch in calibration and BN re-estimation. It is part of the published recipe (Nie et al.
/// 2022, section 4): the outlier clamp and BN statistics are taken batch by batch.
pub const CALIBRATION_BATCH: usize = 128;

/// A method with its own settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodSettings {
    /// The paper's method.
    Redistribution(Redistribution),
    /// One scale per layer.
    SharedScale(SharedScale),
}

impl MethodSettings {
    /// Which method it is.
    pub fn kind(&self) -> MethodKind {
        match self {
            MethodSettings::Redistribution(_) => MethodKind::Redistribution,
            MethodSettings::SharedScale(_) => MethodKind::SharedScale,
        }
    }

    /// Bits of weights and activations.
    pub fn bits(&self) -> u8 {
        match self {
            MethodSettings::Redistribution(method) => method.bits,
            MethodSettings::SharedScale(method) => method.bits,
        }
    }

    /// Groups asked for per layer.
    pub fn groups(&self) -> usize {
        match self {
            MethodSettings::Redistribution(method) => method.groups,
            MethodSettings::SharedScale(_) => 1,
        }
    }

    fn weight_clamp(&self) -> bool {
        matches!(
            self,
            MethodSettings::Redistribution(Redistribution {
                weight_clamp: true,
                ..
            })
        )
    }

    fn method(&self) -> &dyn Method {
        match self {
            MethodSettings::Redistribution(method) => method,
            MethodSettings::SharedScale(method) => method,
        }
    }

    /// Checks the settings against a model, before any work is done.
    fn check(&self, model: &Model) -> Result<(), Error> {
        if !BITS.contains(&self.bits()) {
            let reason = format!("must be 2 to 8, got {}", self.bits());
            return Err(QuantError::Config {
                setting: "bits",
                reason,
            }
            .into());
        }
        for (_, node, attributes) in model.graph().adder_nodes() {
            group_kernels(
                node.name(),
                &vec![1.0; attributes.out_channels],
                self.groups(),
            )?;
        }
        Ok(())
    }
}

/// How to quantize.
///
/// [`QuantizeOptions::new`] gives the published recipe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantizeOptions {
    /// The method.
    pub method: MethodSettings,
    /// Quantile of the outlier clamp, in (0, 1]; 1 clamps no activation.
    pub outlier_quantile: f64,
    /// Number of training images that activation ranges are observed on, balanced over the classes.
    pub calibration_images: usize,
    /// Number of augmented training images for BN re-estimation; 0 leaves BN as it is.
    pub bn_images: usize,
    /// Seed of the choice of images and of their augmentation.
    pub seed: u64,
}

impl QuantizeOptions {
    /// 2,048 calibration images, and BN re-estimation on 200 batches of 128 (Nie et al. 2022, section 4).
    /// The outlier clamp belongs to the paper's method; the baseline has none.
    pub fn new(method: MethodSettings) -> Self {
        let outlier_quantile = match method {
            MethodSettings::Redistribution(_) => addernet_quant::PUBLISHED_OUTLIER_QUANTILE,
            MethodSettings::SharedScale(_) => 1.0,
        };
        Self {
            method,
            outlier_quantile,
            calibration_images: 2048,
            bn_images: 200 * CALIBRATION_BATCH,
            seed: 0,
        }
    }
}

/// A model, quantized.
#[derive(Clone, Debug)]
pub struct Quantization {
    /// With the float model's BN statistics.
    pub without_bn_reestimation: QuantizedModel,
    /// With re-estimated ones, if they were asked for.
    pub with_bn_reestimation: Option<QuantizedModel>,
    /// What calibration saw.
    pub observations: Observations,
}

impl Quantization {
    /// The model that was asked for.
    pub fn result(&self) -> &QuantizedModel {
        self.with_bn_reestimation
            .as_ref()
            .unwrap_or(&self.without_bn_reestimation)
    }
}

/// Quantizes `model` on images of the training split.
///
/// The same options give the same result, whatever the number of threads. The quantized model carries
/// the normalisation of `training` and its class names.
///
/// # Errors
/// If the settings suit no model or not this one, there are fewer training images than asked for, or
/// calibration fails (NaN activations, dead layers); errors name the layer.
pub fn quantize(
    model: &Model,
    training: &Images,
    options: &QuantizeOptions,
    kernel: &'static dyn AdderKernelF32,
    progress: &dyn Progress,
) -> Result<Quantization, Error> {
    options.method.check(model)?;
    let model = model.clone().with_info(training.model_info(model))?;
    let observations = observe(
        &model,
        training,
        options.calibration_images,
        options.outlier_quantile,
        options.seed,
        kernel,
        progress,
    )?;
    let provenance = Provenance {
        method: options.method.kind().name().to_owned(),
        weight_bits: options.method.bits(),
        activation_bits: options.method.bits(),
        groups: options.method.groups(),
        weight_clamp: options.method.weight_clamp(),
        outlier_quantile: options.outlier_quantile,
        calibration_images: options.calibration_images,
        bn_images: 0,
        seed: options.seed,
    };
    let quantized =
        QuantizedModel::quantize(&model, &observations, options.method.method(), provenance)?;
    let with_bn_reestimation = match options.bn_images {
        0 => None,
        images => Some(with_new_bn(
            &quantized,
            training,
            images,
            options.seed,
            kernel,
            progress,
        )?),
    };
    Ok(Quantization {
        without_bn_reestimation: quantized,
        with_bn_reestimation,
        observations,
    })
}

/// Runs the float `model` on `count` training images, balanced over the classes, and observes the
/// activation range of every adder layer.
///
/// # Errors
/// If there are fewer images, the quantile is out of range, or an activation is not finite.
pub fn observe(
    model: &Model,
    training: &Images,
    count: usize,
    outlier_quantile: f64,
    seed: u64,
    kernel: &'static dyn AdderKernelF32,
    progress: &dyn Progress,
) -> Result<Observations, Error> {
    let executor = Executor::new(model, kernel)?;
    let indices = calibration_indices(training.dataset(), count, seed)?;
    progress.begin(Stage::Calibration, count);
    let batches = training.batches(&indices, CALIBRATION_BATCH)?.map(|batch| {
        let batch = batch?;
        progress.advance(batch.labels.len());
        Ok::<_, addernet_data::DataError>(batch.images)
    });
    let observations = calibrate(&executor, batches, outlier_quantile)?;
    progress.end();
    Ok(observations)
}

fn with_new_bn(
    quantized: &QuantizedModel,
    training: &Images,
    count: usize,
    seed: u64,
    kernel: &'static dyn AdderKernelF32,
    progress: &dyn Progress,
) -> Result<QuantizedModel, Error> {
    let simulator = Simulator::new(quantized, kernel)?;
    progress.begin(Stage::BnReestimation, count);
    let batches = bn_batches(training.dataset(), count, seed).filter_map(|(epoch, indices)| {
        let transform = training.augmented(seed, epoch);
        progress.advance(indices.len());
        match batches(training.dataset(), &indices, indices.len(), &transform) {
            Ok(mut only) => only.next().map(|batch| batch.map(|batch| batch.images)),
            Err(error) => Some(Err(error)),
        }
    });
    let reestimated = reestimate_bn(&simulator, quantized, batches)?;
    progress.end();
    Ok(reestimated)
}

/// Batches for BN re-estimation as (epoch, places): `count` images, in random order, over as many
/// epochs as that takes. Within an epoch the batches are of about equal size, at most
/// [`CALIBRATION_BATCH`], since each of them has the same weight in the mean statistics.
fn bn_batches(
    dataset: &Dataset,
    count: usize,
    seed: u64,
) -> impl Iterator<Item = (u64, Vec<usize>)> + '_ {
    let epochs = count.div_ceil(dataset.len());
    (0..epochs).flat_map(move |epoch| {
        let images = dataset.len().min(count - epoch * dataset.len());
        let indices = shuffled_indices(dataset, seed, epoch as u64);
        let parts = images.div_ceil(CALIBRATION_BATCH);
        (0..parts)
            .map(|part| {
                let place = |part: usize| part * images / parts;
                (epoch as u64, indices[place(part)..place(part + 1)].to_vec())
            })
            .collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests;
