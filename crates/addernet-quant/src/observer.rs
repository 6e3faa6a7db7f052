//! Calibration: the range of the activations that each adder layer reads.

use std::collections::BTreeMap;

use addernet_graph::{Executor, Hook, HookError, Node, NodeId};
use ndarray::Array4;
use serde::{Deserialize, Serialize};

use crate::error::QuantError;

/// The published outlier quantile (Nie et al. 2022, section 3.3).
pub const PUBLISHED_OUTLIER_QUANTILE: f64 = 0.9997;

/// What calibration saw of one layer's input activations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationRange {
    /// Smallest value seen.
    pub min: f32,
    /// Largest value seen.
    pub max: f32,
    /// Bound on |x| after the outlier clamp: the running maximum, over batches, of a high quantile.
    pub bound: f32,
}

/// The activation range of every adder layer, by node name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observations {
    /// Ranges by node name.
    pub layers: BTreeMap<String, ActivationRange>,
    /// Number of calibration images.
    pub images: usize,
    /// The outlier quantile r; 1 keeps the maximum.
    pub outlier_quantile: f64,
}

impl Observations {
    /// The range observed at the input of `node`.
    ///
    /// # Errors
    /// If the layer was not calibrated, or only ever saw zeros.
    pub fn range(&self, node: &str) -> Result<ActivationRange, QuantError> {
        let range = self.layers.get(node).copied().ok_or_else(|| {
            QuantError::layer(
                node,
                "it was not calibrated: run calibration on this very graph",
            )
        })?;
        if range.bound > 0.0 {
            return Ok(range);
        }
        let reason = "all its calibrated activations are 0 (a dead layer): use other or more \
                      calibration images, or a higher outlier quantile";
        Err(QuantError::layer(node, reason))
    }
}

/// Runs batches of images (N,H,W,C) through the float model and observes every adder layer's input.
///
/// The outlier quantile is taken per batch (all of a layer's input values together) and its
/// maximum over the batches is the bound, so that the batch size is part of the recipe.
///
/// # Errors
/// If there is no image, the images do not fit the model, an activation is NaN or infinite, or the
/// quantile is outside (0, 1].
pub fn calibrate<E>(
    executor: &Executor<'_>,
    batches: impl IntoIterator<Item = Result<Array4<f32>, E>>,
    outlier_quantile: f64,
) -> Result<Observations, QuantError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    if !(outlier_quantile > 0.0 && outlier_quantile <= 1.0) {
        let reason = format!("must be above 0 and at most 1 (no clamp), got {outlier_quantile}");
        return Err(QuantError::config("outlier quantile", reason));
    }
    let mut observer = RangeObserver {
        layers: BTreeMap::new(),
        outlier_quantile,
    };
    let mut images = 0;
    for batch in batches {
        let batch = batch.map_err(|e| QuantError::Images {
            source: Box::new(e),
        })?;
        images += batch.dim().0;
        executor.run_with(batch, &mut observer)?;
    }
    if images == 0 {
        return Err(QuantError::config(
            "calibration",
            "needs at least one image",
        ));
    }
    Ok(Observations {
        layers: observer.layers,
        images,
        outlier_quantile,
    })
}

/// Keeps the running range of every adder layer's input.
struct RangeObserver {
    layers: BTreeMap<String, ActivationRange>,
    outlier_quantile: f64,
}

impl Hook for RangeObserver {
    fn inputs(&mut self, _: NodeId, node: &Node, inputs: &[&Array4<f32>]) -> Result<(), HookError> {
        let (Some(_), [x]) = (node.adder(), inputs) else {
            return Ok(());
        };
        let mut magnitudes: Vec<f32> = x.iter().map(|v| v.abs()).collect();
        if !magnitudes.iter().all(|v| v.is_finite()) {
            return Err(
                "its input activations are not finite: the model or the images are \
                        damaged"
                    .into(),
            );
        }
        let bound = quantile(&mut magnitudes, self.outlier_quantile);
        let (min, max) = x
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &v| {
                (lo.min(v), hi.max(v))
            });
        self.layers
            .entry(node.name().to_owned())
            .and_modify(|range| {
                range.min = range.min.min(min);
                range.max = range.max.max(max);
                range.bound = range.bound.max(bound);
            })
            .or_insert(ActivationRange { min, max, bound });
        Ok(())
    }
}

/// The published quantile of a batch's n values: the sorted value at index ⌊(round(n·r) − 1)·r⌋.
///
/// The authors' code applies r twice, which clamps twice the share that r names; we follow it.
/// `values` is reordered, must not be empty nor hold NaN.
fn quantile(values: &mut [f32], r: f64) -> f32 {
    let rank = (values.len() as f64 * r).round_ties_even() - 1.0;
    // The cast saturates: a tiny r gives index 0.
    let index = (rank.max(0.0) * r).floor() as usize;
    *values
        .select_nth_unstable_by(index.min(values.len() - 1), f32::total_cmp)
        .1
}

#[cfg(test)]
mod tests;
