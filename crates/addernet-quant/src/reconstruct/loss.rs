//! What a learner's logits are compared with.

use ndarray::{Array4, ArrayView3, Axis};

/// What one image's logits should be.
#[derive(Clone, Copy)]
pub(super) struct Targets<'t> {
    /// The teacher's logits (N,1,1,classes).
    pub(super) teacher: Option<&'t Array4<f32>>,
    /// The images' classes.
    pub(super) labels: Option<&'t [u32]>,
}

/// How targets are weighed.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    /// Share of the labels' cross-entropy, 0 to 1; the rest is the teacher's.
    pub(super) labels: f32,
    /// Temperature T of the divergence from the teacher.
    pub(super) temperature: f32,
    /// Images of the whole batch, over which the loss is a mean.
    pub(super) count: usize,
}

/// The mean over `count` images of `(1 − λ)·T²·KL(softmax(teacher/T) ‖ softmax(logits/T)) − λ·ln softmax(logits)[label]`
/// and its gradient; a target that is not there counts nothing.
pub(super) fn objective(
    logits: &Array4<f32>,
    targets: Targets<'_>,
    weights: Weights,
) -> (Array4<f32>, f64) {
    let mut grad = Array4::zeros(logits.dim());
    let mut loss = 0.0;
    let count = weights.count as f64;
    let label_share = f64::from(weights.labels);
    for (n, mut grad) in grad.axis_iter_mut(Axis(0)).enumerate() {
        let row = logits.index_axis(Axis(0), n);
        if let Some(teacher) = targets.teacher {
            let t = f64::from(weights.temperature);
            let share = (1.0 - label_share) / count;
            let p = softmax(teacher.index_axis(Axis(0), n), t);
            let q = softmax(row, t);
            for (g, (p, q)) in grad.iter_mut().zip(p.into_iter().zip(q)) {
                loss += share * t * t * p * (p.max(1e-30).ln() - q.max(1e-30).ln());
                *g += (share * t * (q - p)) as f32;
            }
        }
        if let Some(label) = targets.labels.and_then(|labels| labels.get(n)) {
            let share = label_share / count;
            let q = softmax(row, 1.0);
            for (class, (g, q)) in grad.iter_mut().zip(q).enumerate() {
                let p = f64::from(u8::from(class == *label as usize));
                loss -= share * p * q.max(1e-30).ln();
                *g += (share * (q - p)) as f32;
            }
        }
    }
    (grad, loss)
}

/// How many rows have their largest value at their label.
pub(super) fn correct(logits: &Array4<f32>, labels: &[u32]) -> usize {
    let rows = logits.axis_iter(Axis(0)).zip(labels);
    rows.filter(|(row, label)| {
        let own = row.iter().nth(**label as usize);
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        own.is_some_and(|own| *own == largest)
    })
    .count()
}

fn softmax(row: ArrayView3<'_, f32>, temperature: f64) -> Vec<f64> {
    let mut values: Vec<f64> = row.iter().map(|&v| f64::from(v) / temperature).collect();
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|v| *v = (*v - largest).exp());
    let sum: f64 = values.iter().sum();
    values.iter_mut().for_each(|v| *v /= sum);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: Weights = Weights {
        labels: 0.3,
        temperature: 2.0,
        count: 2,
    };

    fn logits(values: [f32; 6]) -> Array4<f32> {
        Array4::from_shape_vec((2, 1, 1, 3), values.to_vec()).unwrap()
    }

    #[test]
    fn the_gradient_is_the_derivative() {
        let teacher = logits([1.0, -0.5, 2.0, 0.0, 3.0, -1.0]);
        let at = [0.3, 0.1, -0.7, 1.5, 0.2, 0.4];
        let labels = [2, 1];
        let targets = Targets {
            teacher: Some(&teacher),
            labels: Some(&labels),
        };
        let (grad, _) = objective(&logits(at), targets, WEIGHTS);
        for (i, grad) in grad.iter().enumerate() {
            let moved = |by: f32| {
                let mut at = at;
                at[i] += by;
                objective(&logits(at), targets, WEIGHTS).1
            };
            let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((difference - f64::from(*grad)).abs() < 1e-4, "{i}");
        }
    }

    #[test]
    fn the_loss_is_zero_where_the_targets_are_met() {
        let teacher = logits([1.0, -0.5, 2.0, 0.0, 3.0, -1.0]);
        let targets = Targets {
            teacher: Some(&teacher),
            labels: None,
        };
        let (grad, loss) = objective(&teacher, targets, WEIGHTS);
        assert!(loss.abs() < 1e-12, "{loss}");
        assert!(grad.iter().all(|g| g.abs() < 1e-7));
        let sure = logits([90.0, 0.0, 0.0, 0.0, 0.0, 90.0]);
        let targets = Targets {
            teacher: None,
            labels: Some(&[0, 2]),
        };
        assert!(objective(&sure, targets, WEIGHTS).1 < 1e-12);
        assert_eq!(correct(&sure, &[0, 2]), 2);
        assert_eq!(correct(&sure, &[0, 1]), 1);
        // A class that the network does not have is no correct answer.
        assert_eq!(correct(&sure, &[7, 2]), 1);
    }
}
