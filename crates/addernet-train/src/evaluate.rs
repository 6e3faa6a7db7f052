//! Loss and accuracy.

use addernet_data::{Dataset, Transform, batches};
use ndarray::{Array2, Array4};
use rayon::prelude::*;

use crate::error::TrainError;

/// What [`evaluate`] finds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Score {
    /// Mean cross-entropy, in nats.
    pub(crate) loss: f64,
    /// Share of the images that are classified correctly.
    pub(crate) top1: f64,
}

/// Images that a thread takes through the network at a time.
const IMAGES: usize = 16;

/// Runs a network on all images; the same for any number of threads. `run` gives the logits (N, classes) of images
/// (N,H,W,C).
pub(crate) fn evaluate(
    dataset: &Dataset,
    transform: &Transform,
    run: impl Fn(Array4<f32>) -> Result<Array2<f32>, TrainError> + Sync,
) -> Result<Score, TrainError> {
    let indices: Vec<usize> = (0..dataset.len()).collect();
    let parts = indices
        .par_chunks(IMAGES)
        .map(|indices| -> Result<(f64, usize), TrainError> {
            let (mut loss, mut correct) = (0.0, 0);
            for batch in batches(dataset, indices, IMAGES, transform)? {
                let batch = batch?;
                let logits = run(batch.images)?;
                for (row, &label) in logits.rows().into_iter().zip(&batch.labels) {
                    let row: Vec<f32> = row.to_vec();
                    loss += cross_entropy(&row, label as usize);
                    correct += usize::from(largest(&row) == label as usize);
                }
            }
            Ok((loss, correct))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let count = dataset.len() as f64;
    // In order: sums of floats depend on it.
    let loss: f64 = parts.iter().map(|(loss, _)| loss).sum();
    let correct: usize = parts.iter().map(|(_, correct)| correct).sum();
    Ok(Score {
        loss: loss / count,
        top1: correct as f64 / count,
    })
}

/// The place of the largest value, the first of equal ones.
pub(crate) fn largest(row: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[best] {
            best = i;
        }
    }
    best
}

/// −ln softmax(row)\[label\], without overflow for any finite values.
fn cross_entropy(row: &[f32], label: usize) -> f64 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|v| f64::from(v - most).exp()).sum();
    f64::from(most) + sum.ln() - f64::from(row[label])
}
