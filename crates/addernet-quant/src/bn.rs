//! BN re-estimation: statistics of the network as it is after quantization, or after a step of training.

use std::collections::BTreeMap;

use addernet_graph::exec::affine;
use addernet_graph::{Executor, Hook, HookError, Model, Node, NodeId, Op, Parameters};
use ndarray::{Array4, ArrayD};
use rayon::prelude::*;

use crate::error::QuantError;
use crate::model::{Provenance, QuantizedModel};
use crate::simulate::Simulator;

/// Runs training batches (N,H,W,C) through the simulated model with BN in training mode and
/// replaces the running statistics by the batches' mean ones.
///
/// Each BN layer normalises by its batch's own statistics, so that the layers behind it see what they
/// would in training; the mean over all batches (not a moving average, whose result hangs on the last
/// few) of the means and of the unbiased variances becomes the running statistics. Published recipe:
/// about 200 batches of 128 augmented images (Nie et al. 2022, section 4).
///
/// # Errors
/// If there is no batch, or one of a single value per channel (its variance is undefined).
pub fn reestimate_bn<E>(
    simulator: &Simulator<'_>,
    quantized: &QuantizedModel,
    batches: impl IntoIterator<Item = Result<Array4<f32>, E>>,
) -> Result<QuantizedModel, QuantError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let run = |batch, estimator: &mut Estimator<'_>| {
        simulator.run_with(batch, estimator)?;
        Ok(())
    };
    let (model, images) = estimate(quantized.model(), batches, run)?;
    let provenance = Provenance {
        bn_images: images,
        ..quantized.provenance().clone()
    };
    Ok(quantized.with_model(model, provenance))
}

/// The same for a network in floating point. Running averages of training lag behind weights that move fast, as those
/// of adder layers do early in training, whose sums' means are many times their deviations.
///
/// # Errors
/// As [`reestimate_bn`].
pub fn reestimate_float_bn<E>(
    executor: &Executor<'_>,
    batches: impl IntoIterator<Item = Result<Array4<f32>, E>>,
) -> Result<Model, QuantError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let run = |batch, estimator: &mut Estimator<'_>| {
        executor.run_with(batch, estimator)?;
        Ok(())
    };
    Ok(estimate(executor.model(), batches, run)?.0)
}

/// `model` with the statistics that `run` shows an estimator, and the number of images.
fn estimate<E>(
    model: &Model,
    batches: impl IntoIterator<Item = Result<Array4<f32>, E>>,
    run: impl Fn(Array4<f32>, &mut Estimator<'_>) -> Result<(), QuantError>,
) -> Result<(Model, usize), QuantError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut estimator = Estimator {
        model,
        statistics: BTreeMap::new(),
        batches: 0,
    };
    let mut images = 0;
    for batch in batches {
        let batch = batch.map_err(|e| QuantError::Images {
            source: Box::new(e),
        })?;
        images += batch.dim().0;
        run(batch, &mut estimator)?;
        estimator.batches += 1;
    }
    if estimator.batches == 0 {
        return Err(QuantError::config(
            "BN re-estimation",
            "needs at least one batch of images",
        ));
    }
    let (graph, mut parameters, info) = model.clone().into_parts();
    estimator.write_into(&mut parameters)?;
    let model = Model::new(graph, parameters)?.with_info(info)?;
    Ok((model, images))
}

/// Sums of the batches' statistics, per channel.
struct Sums {
    mean: Vec<f64>,
    var: Vec<f64>,
}

struct Estimator<'m> {
    model: &'m Model,
    /// By BN node name.
    statistics: BTreeMap<String, Sums>,
    batches: usize,
}

impl Hook for Estimator<'_> {
    fn replace(
        &mut self,
        _: NodeId,
        node: &Node,
        inputs: &[&Array4<f32>],
    ) -> Result<Option<Array4<f32>>, HookError> {
        let (Op::BatchNorm { channels, eps }, [x]) = (node.op(), inputs) else {
            return Ok(None);
        };
        let count = x.len() / channels;
        if count < 2 {
            return Err("BN needs at least two values per channel: use larger batches".into());
        }
        let (mean, var) = batch_statistics(x);
        let sums = self
            .statistics
            .entry(node.name().to_owned())
            .or_insert_with(|| Sums {
                mean: vec![0.0; *channels],
                var: vec![0.0; *channels],
            });
        let unbiased = count as f64 / (count - 1) as f64;
        for c in 0..*channels {
            sums.mean[c] += mean[c];
            sums.var[c] += var[c] * unbiased;
        }
        let weight = self.model.values(node, "weight")?;
        let bias = self.model.values(node, "bias")?;
        let (factor, offset): (Vec<f32>, Vec<f32>) = (0..*channels)
            .map(|c| {
                let factor = f64::from(weight[c]) / (var[c] + f64::from(*eps)).sqrt();
                (
                    factor as f32,
                    (f64::from(bias[c]) - mean[c] * factor) as f32,
                )
            })
            .unzip();
        let mut y = (*x).clone();
        affine(&mut y, &factor, &offset);
        Ok(Some(y))
    }
}

impl Estimator<'_> {
    fn write_into(self, parameters: &mut Parameters) -> Result<(), QuantError> {
        for (node, sums) in self.statistics {
            for (suffix, sums) in [("running_mean", sums.mean), ("running_var", sums.var)] {
                let mean: Vec<f32> = sums
                    .iter()
                    .map(|sum| (sum / self.batches as f64) as f32)
                    .collect();
                let array = ArrayD::from_shape_vec(vec![mean.len()], mean)
                    .map_err(|e| QuantError::layer(&node, e.to_string()))?;
                parameters.insert(format!("{node}.{suffix}"), array);
            }
        }
        Ok(())
    }
}

/// Pixels per parallel piece. Pieces are fixed, and their sums added in order, so that the result
/// does not depend on the number of threads.
const PIECE_PIXELS: usize = 4096;

/// Mean and biased variance of each channel of `x` (N,H,W,C) over N, H and W, in f64.
pub(crate) fn batch_statistics(x: &Array4<f32>) -> (Vec<f64>, Vec<f64>) {
    let channels = x.dim().3;
    let x = x.as_standard_layout();
    let values = x.as_slice().unwrap_or(&[]);
    let mean = channel_means(values, channels, |_, v| f64::from(v));
    let var = channel_means(values, channels, |c, v| {
        let deviation = f64::from(v) - mean[c];
        deviation * deviation
    });
    (mean, var)
}

/// Mean over all pixels of `f(channel, value)`, per channel.
fn channel_means(
    values: &[f32],
    channels: usize,
    f: impl Fn(usize, f32) -> f64 + Sync,
) -> Vec<f64> {
    let pieces: Vec<Vec<f64>> = values
        .par_chunks(channels * PIECE_PIXELS)
        .map(|piece| {
            let mut sums = vec![0.0f64; channels];
            for pixel in piece.chunks_exact(channels) {
                for (c, (sum, &v)) in sums.iter_mut().zip(pixel).enumerate() {
                    *sum += f(c, v);
                }
            }
            sums
        })
        .collect();
    let mut means = vec![0.0f64; channels];
    for piece in pieces {
        means
            .iter_mut()
            .zip(piece)
            .for_each(|(mean, sum)| *mean += sum);
    }
    let count = (values.len() / channels) as f64;
    means.iter_mut().for_each(|mean| *mean /= count);
    means
}

#[cfg(test)]
mod tests;
