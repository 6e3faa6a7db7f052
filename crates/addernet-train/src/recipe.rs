//! Recipes: everything that decides what a training run computes.

mod qat;

use std::path::Path;

use addernet_data::{Augmentation, DatasetKind, ResizedCrop};
use addernet_graph::zoo::Architecture;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;
pub use qat::Qat;

/// The built-in recipes: name and text.
const BUILT_IN: [(&str, &str); 6] = [
    ("cifar10", include_str!("../recipes/cifar10.toml")),
    (
        "cifar10-short",
        include_str!("../recipes/cifar10-short.toml"),
    ),
    ("imagenet", include_str!("../recipes/imagenet.toml")),
    (
        "fashion-mnist",
        include_str!("../recipes/fashion-mnist.toml"),
    ),
    ("shapes", include_str!("../recipes/shapes.toml")),
    ("qat", include_str!("../recipes/qat.toml")),
];

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// `lr·(1 + cos(π·t/epochs))/2`, t the whole epochs done: the published one.
    Cosine,
    /// The same, t counted in steps: smoother, for short runs.
    CosineSteps,
    /// It does not.
    Constant,
}

/// Everything that decides what a training run computes: the same recipe on the same data gives the same network.
///
/// As TOML it has one line per field, with dashes for underscores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Recipe {
    /// Network of the zoo, by name.
    #[serde(with = "by_name")]
    pub architecture: Architecture,
    /// Data set.
    pub dataset: DatasetKind,
    /// Only so many training images, the first ones; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_images: Option<usize>,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per step; what is left of an epoch is a smaller batch of its own, unless it is a single image.
    #[serde(default = "default::batch")]
    pub batch: usize,
    /// Learning rate at the start.
    pub lr: f64,
    /// How it falls.
    #[serde(default = "default::schedule")]
    pub schedule: Schedule,
    /// Epochs over which the learning rate rises linearly to `lr` at the start.
    #[serde(default)]
    pub warmup_epochs: f64,
    /// Momentum of SGD, without dampening.
    #[serde(default = "default::momentum")]
    pub momentum: f64,
    /// Weight decay of all parameters.
    #[serde(default = "default::weight_decay")]
    pub weight_decay: f64,
    /// η: the gradient of each adder layer is scaled to the norm η·√(number of its weights).
    #[serde(default = "default::eta")]
    pub eta: f32,
    /// Share of a batch in BN's running statistics.
    #[serde(default = "default::bn_momentum")]
    pub bn_momentum: f64,
    /// Training images that BN's statistics are computed anew on wherever the network is evaluated or saved; 0 leaves it
    /// to the running averages, which lag behind while adder layers learn fast. What is learned is the same.
    #[serde(default)]
    pub bn_images: usize,
    /// Share of each label that is spread evenly over all classes.
    #[serde(default)]
    pub label_smoothing: f32,
    /// Augmentation of image folders: a window of random shape, at least this share of the image's area, is resized to the
    /// network's input (0.08 as published); with `crop_padding` 0. If absent, the middle of each image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resized_crop: Option<f64>,
    /// Augmentation: pixels of black padding before a crop of the image's own size.
    #[serde(default = "default::crop_padding")]
    pub crop_padding: usize,
    /// Augmentation: mirrored left and right half of the time.
    #[serde(default = "default::flip")]
    pub flip: bool,
    /// The run stops as stalled if the loss has not moved from that of guessing after so many epochs; 0 never stops.
    #[serde(default = "default::stall_epochs")]
    pub stall_epochs: usize,
    /// Seed of the initial parameters, the order of the images and their augmentation.
    #[serde(default)]
    pub seed: u64,
    /// Quantization-aware training of a trained network; training from scratch, or on, in floating point if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qat: Option<Qat>,
}

mod default {
    use super::Schedule;

    pub(super) fn batch() -> usize {
        256
    }
    pub(super) fn schedule() -> Schedule {
        Schedule::Cosine
    }
    pub(super) fn momentum() -> f64 {
        0.9
    }
    pub(super) fn weight_decay() -> f64 {
        5e-4
    }
    pub(super) fn eta() -> f32 {
        crate::PUBLISHED_ETA
    }
    pub(super) fn bn_momentum() -> f64 {
        0.1
    }
    pub(super) fn crop_padding() -> usize {
        4
    }
    pub(super) fn flip() -> bool {
        true
    }
    pub(super) fn stall_epochs() -> usize {
        5
    }
}

mod by_name {
    use addernet_graph::zoo::Architecture;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(a: &Architecture, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(a.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Architecture, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

impl Recipe {
    /// Names of the built-in recipes.
    pub fn built_in() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// The text of a built-in recipe, with its comments.
    pub fn built_in_text(name: &str) -> Option<&'static str> {
        BUILT_IN.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
    }

    /// The recipe of that name, or in the TOML file of that path, with some fields replaced: each of `overrides` is
    /// `key=value` or `section.key=value`, the value as in TOML, quotes around a word being optional.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] if there is no such recipe, it is not valid TOML, or a field is unknown or out of range.
    ///
    /// ```
    /// use addernet_train::Recipe;
    ///
    /// let recipe = Recipe::load("cifar10", &["epochs=10", "schedule=cosine-steps"])?;
    /// assert_eq!((recipe.epochs, recipe.batch), (10, 256));
    /// assert!(Recipe::load("cifar10", &["lr=fast"]).is_err());
    /// # Ok::<(), addernet_train::TrainError>(())
    /// ```
    pub fn load(name: &str, overrides: &[impl AsRef<str>]) -> Result<Self, TrainError> {
        let text = match Self::built_in_text(name) {
            Some(text) => text.to_owned(),
            None => read(name)?,
        };
        Self::parse(name, &text, overrides)
    }

    /// The recipe in a TOML text; `origin` is the name that errors carry.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(
        origin: &str,
        text: &str,
        overrides: &[impl AsRef<str>],
    ) -> Result<Self, TrainError> {
        let invalid = |reason: String| TrainError::Recipe {
            origin: origin.to_owned(),
            reason,
        };
        let mut table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| invalid(one_line(e.to_string())))?;
        for setting in overrides {
            let (key, value) = parse_override(setting.as_ref())?;
            let (section, key) = match key.split_once('.') {
                Some((section, key)) => (section_of(&mut table, section), key),
                None => (Some(&mut table), key.as_str()),
            };
            let section = section.ok_or_else(|| invalid(format!("`{key}` has no fields")))?;
            section.insert(key.to_owned(), value);
        }
        let recipe: Self = table
            .try_into()
            .map_err(|e: toml::de::Error| invalid(one_line(e.to_string())))?;
        recipe.check(origin)?;
        Ok(recipe)
    }

    /// The recipe as TOML.
    ///
    /// # Errors
    /// [`TrainError::Recipe`] if a number cannot be written as TOML (a seed above 2⁶³ − 1).
    pub fn to_toml(&self) -> Result<String, TrainError> {
        toml::to_string(self).map_err(|error| TrainError::Recipe {
            origin: self.architecture.name().to_owned(),
            reason: one_line(error.to_string()),
        })
    }

    /// Checks the ranges of all fields.
    ///
    /// # Errors
    /// [`TrainError::Recipe`], which names the field.
    pub fn check(&self, origin: &str) -> Result<(), TrainError> {
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let share = |v: f64| (0.0..1.0).contains(&v);
        let checks = [
            ("epochs", self.epochs > 0, "must be at least 1"),
            (
                "batch",
                self.batch > 1,
                "must be at least 2: BN takes statistics of a batch",
            ),
            ("lr", positive(self.lr), "must be finite and above 0"),
            (
                "eta",
                positive(self.eta.into()),
                "must be finite and above 0",
            ),
            (
                "warmup-epochs",
                self.warmup_epochs.is_finite() && self.warmup_epochs >= 0.0,
                "must be finite and at least 0",
            ),
            (
                "momentum",
                share(self.momentum),
                "must be at least 0 and below 1",
            ),
            (
                "weight-decay",
                share(self.weight_decay),
                "must be at least 0 and below 1",
            ),
            (
                "bn-momentum",
                positive(self.bn_momentum) && self.bn_momentum <= 1.0,
                "must be above 0 and at most 1",
            ),
            ("bn-images", self.bn_images != 1, "must be 0 or at least 2"),
            (
                "label-smoothing",
                share(self.label_smoothing.into()),
                "must be at least 0 and below 1",
            ),
            (
                "resized-crop",
                self.resized_crop.is_none_or(|v| v > 0.0 && v <= 1.0),
                "must be above 0 and at most 1",
            ),
            (
                "train-images",
                self.train_images != Some(0),
                "must be at least 1",
            ),
            (
                "seed",
                i64::try_from(self.seed).is_ok(),
                "must be below 2^63",
            ),
        ];
        let wrong = checks.into_iter().find(|(_, holds, _)| !holds);
        let wrong = wrong.map(|(field, _, reason)| (field, reason));
        match wrong.or_else(|| self.qat.and_then(|qat| qat.wrong_field())) {
            None => Ok(()),
            Some((field, reason)) => Err(TrainError::Recipe {
                origin: origin.to_owned(),
                reason: format!("`{field}` {reason}"),
            }),
        }
    }

    /// The learning rate of step `step` (from 0) of epoch `epoch` (from 0), of `steps` per epoch.
    pub fn learning_rate(&self, epoch: usize, step: usize, steps: usize) -> f64 {
        let time = epoch as f64 + step as f64 / steps.max(1) as f64;
        let cosine = |t: f64| {
            let angle = std::f64::consts::PI * t / self.epochs.max(1) as f64;
            self.lr * 0.5 * (1.0 + angle.cos())
        };
        let lr = match self.schedule {
            Schedule::Cosine => cosine(epoch as f64),
            Schedule::CosineSteps => cosine(time),
            Schedule::Constant => self.lr,
        };
        if time < self.warmup_epochs {
            // The first step moves already.
            let done = time + 1.0 / steps.max(1) as f64;
            lr * (done / self.warmup_epochs).min(1.0)
        } else {
            lr
        }
    }

    /// What is done to each training image of an epoch.
    pub fn augmentation(&self, epoch: usize) -> Augmentation {
        Augmentation {
            resized_crop: self
                .resized_crop
                .map(|smallest_area| ResizedCrop { smallest_area }),
            crop_padding: self.crop_padding,
            flip: self.flip,
            seed: self.seed,
            epoch: epoch as u64,
        }
    }
}

fn read(name: &str) -> Result<String, TrainError> {
    let invalid = |reason: String| TrainError::Recipe {
        origin: name.to_owned(),
        reason,
    };
    let path = Path::new(name);
    if !path.exists() {
        let known: Vec<_> = Recipe::built_in().collect();
        return Err(invalid(format!(
            "is neither a built-in recipe ({}) nor a file",
            known.join(", ")
        )));
    }
    /// Far more than a recipe needs.
    const MOST_BYTES: u64 = 1 << 20;
    let size = std::fs::metadata(path)
        .map_err(|e| invalid(e.to_string()))?
        .len();
    if size > MOST_BYTES {
        return Err(invalid(format!("has {size} bytes, which is no recipe")));
    }
    std::fs::read_to_string(path).map_err(|e| invalid(e.to_string()))
}

/// The section of that name, which is made if it is not there; `None` if the name is that of a field.
fn section_of<'t>(table: &'t mut toml::Table, name: &str) -> Option<&'t mut toml::Table> {
    let section = table.entry(name);
    let section = section.or_insert_with(|| toml::Value::Table(toml::Table::new()));
    section.as_table_mut()
}

/// `key=value` as TOML's key and value.
fn parse_override(setting: &str) -> Result<(String, toml::Value), TrainError> {
    let invalid = |reason: &str| TrainError::Recipe {
        origin: format!("setting `{setting}`"),
        reason: reason.to_owned(),
    };
    let (key, value) = setting
        .split_once('=')
        .ok_or_else(|| invalid("is not of the form key=value"))?;
    let key = key.trim().replace('_', "-");
    if key.is_empty() {
        return Err(invalid("has no key"));
    }
    let text = value.trim();
    let parsed = format!("value = {text}").parse::<toml::Table>();
    let value = match parsed.ok().and_then(|mut table| table.remove("value")) {
        // A whole number where the field takes a fraction (`lr=1`) is taken as one by the parser itself.
        Some(value) => value,
        None => toml::Value::String(text.to_owned()),
    };
    Ok((key, value))
}

fn one_line(text: String) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
