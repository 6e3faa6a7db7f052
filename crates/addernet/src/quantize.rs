//! Post-training quantization, from training images to a quantized model.

mod reconstruction;

use addernet_data::{Dataset, batches, calibration_indices, shuffled_indices};
use addernet_graph::{Executor, Model};
use addernet_kernels::AdderKernelF32;
use addernet_quant::{
    ActivationOriented, BITS, Method, MethodKind, Observations, Provenance, QuantError,
    QuantizedModel, Reconstruction, Redistribution, SharedScale, Simulator, calibrate,
    group_kernels, reestimate_bn,
};

use self::reconstruction::ReconstructionRun;

use crate::error::Error;
use crate::images::Images;
use crate::mixed_precision::{BitAllocation, Budget};
use crate::progress::{Progress, Stage};

/// Images per batch in calibration and BN re-estimation. It is part of the published recipe (Nie et al.
/// 2022, section 4): the outlier clamp and BN statistics are taken batch by batch.
pub const CALIBRATION_BATCH: usize = 128;

/// A method with its own settings.
#[derive(Clone, Debug, PartialEq)]
pub enum MethodSettings {
    /// Our own method.
    Reconstruction(Reconstruction),
    /// The paper's method.
    Redistribution(Redistribution),
    /// Weights on the activations' grid.
    ActivationOriented(ActivationOriented),
    /// One scale per layer.
    SharedScale(SharedScale),
}

impl MethodSettings {
    /// Which method it is.
    pub fn kind(&self) -> MethodKind {
        match self {
            MethodSettings::Reconstruction(_) => MethodKind::Reconstruction,
            MethodSettings::Redistribution(_) => MethodKind::Redistribution,
            MethodSettings::ActivationOriented(_) => MethodKind::ActivationOriented,
            MethodSettings::SharedScale(_) => MethodKind::SharedScale,
        }
    }

    /// Bits of weights and of activations.
    pub fn bits(&self) -> [u8; 2] {
        match self {
            MethodSettings::Reconstruction(method) => [method.weight_bits, method.activation_bits],
            MethodSettings::ActivationOriented(method) => {
                [method.weight_bits, method.activation_bits]
            }
            MethodSettings::Redistribution(method) => [method.bits; 2],
            MethodSettings::SharedScale(method) => [method.bits; 2],
        }
    }

    /// Groups asked for per layer.
    pub fn groups(&self) -> usize {
        match self {
            MethodSettings::Redistribution(method) => method.groups,
            _ => 1,
        }
    }

    fn weight_clamp(&self) -> bool {
        match self {
            MethodSettings::Redistribution(method) => method.weight_clamp,
            MethodSettings::SharedScale(_) => false,
            MethodSettings::Reconstruction(_) | MethodSettings::ActivationOriented(_) => true,
        }
    }

    /// Checks the settings against a model, before any work is done.
    fn check(&self, model: &Model) -> Result<(), Error> {
        if let Some(bits) = self.bits().into_iter().find(|bits| !BITS.contains(bits)) {
            let reason = format!("must be 2 to 8, got {bits}");
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
/// [`QuantizeOptions::new`] gives the recommended recipe of each method.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizeOptions {
    /// The method.
    pub method: MethodSettings,
    /// Quantile of the outlier clamp, in (0, 1]; 1 clamps no activation.
    pub outlier_quantile: f64,
    /// Number of training images that activation ranges are observed on, and that the reconstruction
    /// tunes with (augmented), balanced over the classes.
    pub calibration_images: usize,
    /// Number of augmented training images for BN re-estimation; 0 leaves BN as it is.
    pub bn_images: usize,
    /// Seed of the choice of images and of their augmentation.
    pub seed: u64,
    /// Bits per layer are chosen within this budget instead of those of the method, which must be the
    /// reconstruction.
    pub budget: Option<Budget>,
}

impl QuantizeOptions {
    /// 2,048 calibration images, and BN re-estimation on 200 batches of 128 (Nie et al. 2022, section 4);
    /// none for the reconstruction, which tunes BN itself. The outlier clamp belongs to the paper's
    /// method and to weights on the activations' grid.
    pub fn new(method: MethodSettings) -> Self {
        let outlier_quantile = match method {
            MethodSettings::Redistribution(_) | MethodSettings::ActivationOriented(_) => {
                addernet_quant::PUBLISHED_OUTLIER_QUANTILE
            }
            MethodSettings::SharedScale(_) | MethodSettings::Reconstruction(_) => 1.0,
        };
        let bn_images = match method {
            MethodSettings::Reconstruction(_) => 0,
            _ => 200 * CALIBRATION_BATCH,
        };
        Self {
            method,
            outlier_quantile,
            calibration_images: 2048,
            bn_images,
            seed: 0,
            budget: None,
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
    /// Bits per layer, if there was a budget.
    pub allocation: Option<BitAllocation>,
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
    if let Some(budget) = &options.budget {
        budget.check()?;
        if options.method.kind() != MethodKind::Reconstruction {
            let reason = format!("{} has the same bits in every layer", options.method.kind());
            let setting = "budget";
            return Err(QuantError::Config { setting, reason }.into());
        }
    }
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
    let [weight_bits, activation_bits] = options.method.bits();
    let provenance = Provenance {
        method: options.method.kind().name().to_owned(),
        weight_bits,
        activation_bits,
        groups: options.method.groups(),
        weight_clamp: options.method.weight_clamp(),
        outlier_quantile: options.outlier_quantile,
        calibration_images: options.calibration_images,
        bn_images: 0,
        seed: options.seed,
        reconstruction: None,
    };
    let mut allocation = None;
    let by_layer = |method: &dyn Method| -> Result<QuantizedModel, Error> {
        Ok(QuantizedModel::quantize(
            &model,
            &observations,
            method,
            provenance.clone(),
        )?)
    };
    let quantized = match &options.method {
        MethodSettings::Redistribution(method) => by_layer(method)?,
        MethodSettings::ActivationOriented(method) => by_layer(method)?,
        MethodSettings::SharedScale(method) => by_layer(method)?,
        MethodSettings::Reconstruction(method) => {
            let run = ReconstructionRun {
                training,
                options,
                provenance,
                kernel,
                progress,
            };
            let mut settings = method.clone();
            if let Some(budget) = &options.budget {
                let chosen = run.allocate(&model, &observations, method, budget)?;
                settings.layer_bits = chosen.layer_bits();
                allocation = Some(chosen);
            }
            run.reconstruct(&model, &observations, &settings)?
        }
    };
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
        allocation,
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
