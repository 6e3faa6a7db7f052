//! Ablations: methods without one of their ingredients.

use std::str::FromStr;

use addernet_quant::{QuantError, Reconstruction};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::quantize::{MethodSettings, QuantizeOptions};

/// An ingredient that a method is to do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ablation {
    /// Redistribution: weights outside the activations' range become a bias.
    WeightClamp,
    /// Redistribution, activation-oriented: activations beyond a quantile are clamped.
    OutlierClamp,
    /// Reconstruction: scales are searched on each layer's output error instead of taken from the activations' range.
    ScaleSearch,
    /// Reconstruction: BN is fitted to each quantized layer.
    Correction,
    /// Reconstruction: everything is tuned together.
    Tuning,
    /// Reconstruction: the weights' codes take part in that.
    LearnedRounding,
    /// Reconstruction: the scales take part in that.
    LearnedScales,
    /// Reconstruction: features are compared with the teacher's, not the logits alone.
    FeatureLoss,
    /// Reconstruction: half of the images that are tuned with are mixed with others.
    Mixup,
}

impl Ablation {
    /// All ingredients.
    pub const ALL: [Ablation; 9] = [
        Ablation::WeightClamp,
        Ablation::OutlierClamp,
        Ablation::ScaleSearch,
        Ablation::Correction,
        Ablation::Tuning,
        Ablation::LearnedRounding,
        Ablation::LearnedScales,
        Ablation::FeatureLoss,
        Ablation::Mixup,
    ];

    /// The name used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Ablation::WeightClamp => "weight-clamp",
            Ablation::OutlierClamp => "outlier-clamp",
            Ablation::ScaleSearch => "scale-search",
            Ablation::Correction => "correction",
            Ablation::Tuning => "tuning",
            Ablation::LearnedRounding => "learned-rounding",
            Ablation::LearnedScales => "learned-scales",
            Ablation::FeatureLoss => "feature-loss",
            Ablation::Mixup => "mixup",
        }
    }

    /// Takes the ingredient out of `options`; `false` if their method does not have it.
    pub fn apply(self, options: &mut QuantizeOptions) -> bool {
        match (&mut options.method, self) {
            (MethodSettings::Redistribution(method), Ablation::WeightClamp) => {
                method.weight_clamp = false;
            }
            (
                MethodSettings::Redistribution(_) | MethodSettings::ActivationOriented(_),
                Ablation::OutlierClamp,
            ) => options.outlier_quantile = 1.0,
            (MethodSettings::Reconstruction(method), _) => {
                return self.apply_to_reconstruction(method);
            }
            _ => return false,
        }
        true
    }

    /// Takes the ingredient out of a reconstruction; `false` if it does not have it.
    pub fn apply_to_reconstruction(self, method: &mut Reconstruction) -> bool {
        let tuning = &mut method.tuning;
        match self {
            Ablation::ScaleSearch => method.scale_search = false,
            Ablation::Correction => method.correction = false,
            Ablation::Tuning => tuning.steps = 0,
            Ablation::LearnedRounding => tuning.weight_rate = 0.0,
            Ablation::LearnedScales => tuning.scale_rate = 0.0,
            Ablation::FeatureLoss => tuning.features = 0.0,
            Ablation::Mixup => tuning.mixup = 0.0,
            Ablation::WeightClamp | Ablation::OutlierClamp => return false,
        }
        true
    }
}

impl std::fmt::Display for Ablation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Ablation {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let mut all = Ablation::ALL.into_iter();
        all.find(|ablation| ablation.name() == name).ok_or_else(|| {
            let known = Ablation::ALL.map(Ablation::name).join(", ");
            let reason = format!("`{name}` is unknown; known: {known}");
            let setting = "ablation";
            QuantError::Config { setting, reason }.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use addernet_quant::MethodKind;

    use super::*;
    use crate::sweep::method_settings;

    #[test]
    fn each_takes_something_out_of_some_method_and_nothing_out_of_others() {
        for ablation in Ablation::ALL {
            assert_eq!(ablation.name().parse::<Ablation>().unwrap(), ablation);
            let mut applied = 0;
            for kind in MethodKind::ALL {
                let settings = method_settings(kind, [4, 4], 2);
                let whole = QuantizeOptions::new(settings);
                let mut options = whole.clone();
                let applies = ablation.apply(&mut options);
                assert_eq!(applies, options != whole, "{kind} {ablation}");
                applied += usize::from(applies);
            }
            assert!(applied > 0, "{ablation}");
        }
        let error = "taste".parse::<Ablation>().unwrap_err().to_string();
        assert!(
            error.contains("taste") && error.contains("mixup"),
            "{error}"
        );
    }
}
