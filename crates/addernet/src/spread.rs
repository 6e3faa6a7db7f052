//! Means and how far values are from them.

use serde::{Deserialize, Serialize};

/// One figure of several runs: over seeds, or over copies of a model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Of a single value, estimated from all of them (n − 1); that of the mean is smaller by the root of their number. None if
    /// there are fewer than two, or where an older table does not say.
    pub standard_deviation: Option<f64>,
}

impl Spread {
    /// Of `values`, in their unit. Of none at all the mean is NaN, and the extremes are infinite.
    ///
    /// # Examples
    /// ```
    /// use addernet::Spread;
    ///
    /// let top1 = Spread::of([0.90, 0.92, 0.94].into_iter());
    /// assert_eq!((top1.min, top1.max), (0.90, 0.94));
    /// assert!((top1.mean - 0.92).abs() < 1e-12);
    /// assert!((top1.standard_deviation.unwrap() - 0.02).abs() < 1e-12);
    /// assert_eq!(Spread::of([0.9].into_iter()).standard_deviation, None);
    /// ```
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count() as f64;
        let mean = values.clone().sum::<f64>() / count;
        let squares: f64 = values.clone().map(|value| (value - mean).powi(2)).sum();
        Self {
            mean,
            min: values.clone().fold(f64::INFINITY, f64::min),
            max: values.fold(f64::NEG_INFINITY, f64::max),
            standard_deviation: (count > 1.0).then(|| (squares / (count - 1.0)).sqrt()),
        }
    }
}
