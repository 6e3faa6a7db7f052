//! Which data set, and which part of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::cifar::{CIFAR10_CLASSES, CIFAR100_CLASSES};
use crate::error::DataError;
use crate::mnist::{FASHION_MNIST_CLASSES, MNIST_CLASSES};
use crate::shapes::SHAPES_CLASSES;

/// The data sets, by the names the command line uses.
///
/// ```
/// use addernet_data::DatasetKind;
///
/// let kind: DatasetKind = "fashion-mnist".parse().unwrap();
/// assert_eq!(kind, DatasetKind::FashionMnist);
/// assert_eq!(kind.to_string(), "fashion-mnist");
/// assert!("imagenet".parse::<DatasetKind>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DatasetKind {
    /// CIFAR-10: 32x32 RGB, 10 classes, 50,000 training and 10,000 test images.
    #[serde(rename = "cifar10")]
    Cifar10,
    /// CIFAR-100: 32x32 RGB, 100 (fine) classes, 50,000 training and 10,000 test images.
    #[serde(rename = "cifar100")]
    Cifar100,
    /// MNIST: 28x28 grey digits, 60,000 training and 10,000 test images.
    #[serde(rename = "mnist")]
    Mnist,
    /// Fashion-MNIST: 28x28 grey clothes, 60,000 training and 10,000 test images.
    #[serde(rename = "fashion-mnist")]
    FashionMnist,
    /// A folder of image files, one sub-folder per class (torchvision's `ImageFolder`).
    #[serde(rename = "imagefolder")]
    ImageFolder,
    /// Ten generated shapes, 32x32 RGB, deterministic; needs no files.
    #[serde(rename = "shapes")]
    Shapes,
}

impl DatasetKind {
    /// All data sets.
    pub const ALL: [DatasetKind; 6] = [
        DatasetKind::Cifar10,
        DatasetKind::Cifar100,
        DatasetKind::Mnist,
        DatasetKind::FashionMnist,
        DatasetKind::ImageFolder,
        DatasetKind::Shapes,
    ];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            DatasetKind::Cifar10 => "cifar10",
            DatasetKind::Cifar100 => "cifar100",
            DatasetKind::Mnist => "mnist",
            DatasetKind::FashionMnist => "fashion-mnist",
            DatasetKind::ImageFolder => "imagefolder",
            DatasetKind::Shapes => "shapes",
        }
    }

    /// Whether the data set is published at a fixed address (`addernet download`).
    pub fn downloadable(self) -> bool {
        !matches!(self, DatasetKind::ImageFolder | DatasetKind::Shapes)
    }

    /// The names of the classes in label order; none for image folders, whose sub-folders name them.
    ///
    /// ```
    /// assert_eq!(addernet_data::DatasetKind::Cifar10.class_names()[3], "cat");
    /// ```
    pub fn class_names(self) -> &'static [&'static str] {
        match self {
            DatasetKind::Cifar10 => &CIFAR10_CLASSES,
            DatasetKind::Cifar100 => &CIFAR100_CLASSES,
            DatasetKind::Mnist => &MNIST_CLASSES,
            DatasetKind::FashionMnist => &FASHION_MNIST_CLASSES,
            DatasetKind::ImageFolder => &[],
            DatasetKind::Shapes => &SHAPES_CLASSES,
        }
    }

    /// Colour channels of an image: 1 for the MNIST family, else 3 (RGB).
    pub fn channels(self) -> usize {
        match self {
            DatasetKind::Mnist | DatasetKind::FashionMnist => 1,
            _ => 3,
        }
    }

    pub(crate) fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for DatasetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for DatasetKind {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| DataError::UnknownDataset {
                name: name.to_owned(),
            })
    }
}

/// The part of a data set: training images, or the held-out test images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For training, calibration and BN re-estimation.
    Train,
    /// For the final number only.
    Test,
}

impl Split {
    /// `train` or `test`.
    pub fn as_str(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Split {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        match name {
            "train" => Ok(Split::Train),
            "test" => Ok(Split::Test),
            _ => Err(DataError::UnknownSplit {
                name: name.to_owned(),
            }),
        }
    }
}
