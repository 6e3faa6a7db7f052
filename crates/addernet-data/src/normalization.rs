//! Per-channel normalisation.

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::kind::DatasetKind;

/// Per-channel mean and standard deviation, for pixels scaled to [0, 1]: a pixel byte v becomes
/// (v / 255 − mean) / std.
///
/// A model belongs to the normalisation it was trained with, so model files store it; reading one back
/// checks it as [`Normalization::new`] does.
///
/// ```
/// use addernet_data::{DatasetKind, Normalization};
///
/// let cifar = Normalization::published(DatasetKind::Cifar10);
/// assert_eq!(cifar.mean(), [0.4914, 0.4822, 0.4465]);
/// assert!(Normalization::new(vec![0.5], vec![0.0]).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Normalization {
    mean: Vec<f32>,
    std: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl TryFrom<Unchecked> for Normalization {
    type Error = DataError;

    fn try_from(unchecked: Unchecked) -> Result<Self, DataError> {
        Self::new(unchecked.mean, unchecked.std)
    }
}

impl Normalization {
    /// One mean and one standard deviation per channel.
    ///
    /// # Errors
    /// [`DataError::InvalidOption`] if the two differ in length, are empty, hold a value that is not
    /// finite, or a standard deviation that is not positive.
    pub fn new(mean: Vec<f32>, std: Vec<f32>) -> Result<Self, DataError> {
        let problem = if mean.is_empty() || mean.len() != std.len() {
            format!(
                "needs one mean and one standard deviation per channel, got {} means and {} deviations",
                mean.len(),
                std.len()
            )
        } else if let Some(bad) = mean.iter().find(|m| !m.is_finite()) {
            format!("a mean is {bad}, it must be finite")
        } else if let Some(bad) = std.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            format!("a standard deviation is {bad}, it must be finite and above 0")
        } else {
            return Ok(Self { mean, std });
        };
        Err(DataError::InvalidOption {
            option: "normalization",
            problem,
        })
    }

    /// The values that published models use.
    ///
    /// CIFAR-10's are those of the AdderNet authors' code (its deviations are means of per-image
    /// deviations, not the data set's own 0.247, 0.243, 0.262); CIFAR-100's and the MNIST family's are the
    /// training images' statistics; image folders get ImageNet's (torchvision).
    pub fn published(kind: DatasetKind) -> Self {
        let (mean, std): (&[f32], &[f32]) = match kind {
            DatasetKind::Cifar10 => (&[0.4914, 0.4822, 0.4465], &[0.2023, 0.1994, 0.2010]),
            DatasetKind::Cifar100 => (&[0.5071, 0.4867, 0.4408], &[0.2675, 0.2565, 0.2761]),
            DatasetKind::Mnist => (&[0.1307], &[0.3081]),
            DatasetKind::FashionMnist => (&[0.2860], &[0.3530]),
            DatasetKind::ImageFolder => (&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]),
            DatasetKind::Shapes => (&[0.5, 0.5, 0.5], &[0.24, 0.24, 0.24]),
        };
        Self {
            mean: mean.to_vec(),
            std: std.to_vec(),
        }
    }

    /// The means, one per channel, on the scale of [0, 1].
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The standard deviations, one per channel, on the scale of [0, 1].
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// The number of channels.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_value_passes_its_own_check_and_fits_the_channels() {
        for kind in DatasetKind::ALL {
            let n = Normalization::published(kind);
            assert_eq!(n.channels(), kind.channels(), "{kind}");
            assert!(
                Normalization::new(n.mean.clone(), n.std.clone()).is_ok(),
                "{kind}"
            );
        }
    }

    #[test]
    fn json_round_trip_keeps_every_bit() {
        let n = Normalization::published(DatasetKind::Cifar100);
        let json = serde_json::to_string(&n).unwrap();
        assert_eq!(
            json,
            r#"{"mean":[0.5071,0.4867,0.4408],"std":[0.2675,0.2565,0.2761]}"#
        );
        assert_eq!(serde_json::from_str::<Normalization>(&json).unwrap(), n);
    }

    #[test]
    fn json_is_checked() {
        for (json, complaint) in [
            (r#"{"mean":[0.5],"std":[0.0]}"#, "above 0"),
            (r#"{"mean":[0.5],"std":[-1]}"#, "above 0"),
            (r#"{"mean":[],"std":[]}"#, "per channel"),
            (
                r#"{"mean":[0.5,0.5],"std":[1]}"#,
                "2 means and 1 deviations",
            ),
            (r#"{"mean":[0.5],"std":[1],"scale":2}"#, "unknown field"),
        ] {
            let error = serde_json::from_str::<Normalization>(json)
                .unwrap_err()
                .to_string();
            assert!(error.contains(complaint), "{json}: {error}");
        }
    }

    #[test]
    fn values_that_are_not_finite_are_refused() {
        assert!(Normalization::new(vec![f32::NEG_INFINITY], vec![1.0]).is_err());
        assert!(Normalization::new(vec![0.0], vec![f32::INFINITY]).is_err());
        assert!(Normalization::new(vec![f32::NAN], vec![1.0]).is_err());
        assert!(Normalization::new(vec![0.0], vec![f32::NAN]).is_err());
    }
}
