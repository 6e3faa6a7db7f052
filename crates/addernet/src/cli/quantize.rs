//! `addernet quantize`.

mod report;

use std::path::{Path, PathBuf};
use std::time::Instant;

use addernet::data::DataError;
use addernet::quant::store;
use addernet::{
    Ablation, ActivationOriented, AnyModel, Budget, CALIBRATION_BATCH, Energy, MethodKind,
    MethodSettings, Model, QuantizeOptions, QuantizedModel, Reconstruction, Redistribution,
    SharedScale, Split, Tuning, inspect, quantize,
};
use anyhow::bail;
use clap::Args;
use clap::builder::RangedI64ValueParser;

use self::report::{Accuracies, Report};
use super::args::{self, DataArgs, ModelArgs, RunArgs, count};
use super::cost::EnergyArgs;
use super::progress::Bars;
use super::{output, usage_error};

const EXAMPLES: &str = "\
Examples:
  The most accurate method at 4 bits, and what it costs:
    addernet quantize resnet20.pth --bits 4 --method auto --dataset cifar10 --data-dir data \\
      --evaluate -o q4.safetensors
  Weights of 2 bits, activations of 4:
    addernet quantize resnet20.pth --weight-bits 2 --activation-bits 4 --method auto \\
      --dataset cifar10 --data-dir data -o w2a4.safetensors
  Mixed precision, 3.5 bits on average:
    addernet quantize resnet20.pth --budget-bits 3.5 --method auto --dataset cifar10 --data-dir data \\
      -o mixed.safetensors
  As accurate as 1.4 microjoules per image allow, counted as docs/ENERGY.md says:
    addernet quantize resnet20.pth --budget-energy 1.4uJ --method auto --dataset cifar10 \\
      --data-dir data -o mixed.safetensors
  The paper's method:
    addernet quantize resnet20.pth --bits 4 --dataset cifar10 --data-dir data \\
      -o redistribution4.safetensors
  An ablation without groups and without either clamp:
    addernet quantize resnet20.pth --bits 4 --dataset cifar10 --data-dir data \\
      --groups 1 --no-weight-clamp --outlier-quantile 1 -o ablation.safetensors
  The baseline:
    addernet quantize resnet20.pth --bits 8 --dataset cifar10 --data-dir data \\
      --method shared-scale -o baseline.safetensors";

/// Quantize a float model to 2 to 8 bits, without training
///
/// Observes the activations of every adder layer on training images, turns its weights into integer
/// codes with the chosen method, and re-estimates the statistics of batch normalisation on augmented
/// training images. Test images are used for nothing but the figures that --evaluate reports.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct QuantizeArgs {
    #[command(flatten)]
    model: ModelArgs,

    #[command(flatten)]
    data: DataArgs,

    /// Bits of weights and activations, 2 to 8
    #[arg(long, value_name = "B", value_parser = bits(), conflicts_with_all = ["budget_bits", "budget_energy"],
        required_unless_present_any = ["budget_bits", "budget_energy", "weight_bits", "activation_bits"])]
    bits: Option<u8>,

    /// Bits of the weights, where they differ (reconstruction and activation-oriented)
    #[arg(long, value_name = "B", value_parser = bits())]
    weight_bits: Option<u8>,

    /// Bits of the activations, where they differ (reconstruction and activation-oriented)
    #[arg(long, value_name = "B", value_parser = bits())]
    activation_bits: Option<u8>,

    /// Reconstruction: mixed precision. Each layer gets the bits it needs (2 to 8, weights and activations
    /// alike), so many on average over the terms |x − w|
    #[arg(long, value_name = "B", value_parser = budget,
        conflicts_with_all = ["weight_bits", "activation_bits", "budget_energy"])]
    budget_bits: Option<f64>,

    /// Reconstruction: mixed precision within the energy of one image's operations, such as 1.5uJ
    /// (`inspect --cost` shows what a network takes)
    #[arg(long, value_name = "ENERGY", conflicts_with_all = ["weight_bits", "activation_bits"])]
    budget_energy: Option<Energy>,

    #[command(flatten)]
    energy: EnergyArgs,

    /// `reconstruction` (ours; `auto` stands for it), `redistribution` (Nie et al., NeurIPS 2022),
    /// `activation-oriented` (AdderNet 2.0, DAC 2024), `shared-scale` (Wang et al. 2021)
    #[arg(long, value_name = "NAME", value_parser = args::method(), default_value = "redistribution")]
    method: MethodKind,

    /// Redistribution: groups of kernels per layer, each with a scale of its own [default: 4]
    #[arg(long, value_name = "G", value_parser = args::groups())]
    groups: Option<usize>,

    /// Redistribution: do not clamp weights into the activations' range (an ablation)
    #[arg(long)]
    no_weight_clamp: bool,

    /// Quantile beyond which activations are clamped, above 0 and at most 1, where 1 clamps none
    /// [default: 0.9997 for redistribution, 1 for shared-scale]
    #[arg(long, value_name = "Q", value_parser = quantile)]
    outlier_quantile: Option<f64>,

    #[command(flatten)]
    reconstruction: ReconstructionArgs,

    /// Training images to observe activations on (and to tune with), balanced over the classes
    #[arg(long, value_name = "N", value_parser = count(1), default_value_t = 2048)]
    calibration: usize,

    /// Re-estimate BN statistics on the quantized network (the default, but for reconstruction, which
    /// tunes BN itself)
    #[arg(long, overrides_with = "no_reestimate_bn")]
    reestimate_bn: bool,

    /// Keep the float model's BN statistics
    #[arg(long, overrides_with = "reestimate_bn", conflicts_with = "bn_images")]
    no_reestimate_bn: bool,

    /// Augmented training images for BN re-estimation
    #[arg(long, value_name = "N", value_parser = count(2), default_value_t = 200 * CALIBRATION_BATCH)]
    bn_images: usize,

    /// Report accuracy on the test split: float, and quantized with and without BN re-estimation
    #[arg(long)]
    evaluate: bool,

    /// Model file to write; an existing one is replaced
    #[arg(short, long, value_name = "OUT.safetensors")]
    output: PathBuf,

    #[command(flatten)]
    run: RunArgs,
}

/// Settings of the reconstruction.
#[derive(Args)]
struct ReconstructionArgs {
    /// Reconstruction: passes over the calibration images in the tuning; 0 leaves it out [default: as many
    /// images as 16 passes over 2,048 for 2 bits, 10 for 3, 6 for 4, 2 for more]
    #[arg(long, value_name = "E")]
    tuning_epochs: Option<usize>,

    /// Reconstruction: take the calibrated range as each layer's scale (an ablation)
    #[arg(long)]
    no_scale_search: bool,

    /// Reconstruction: do not fit BN to the quantized layers before the tuning (an ablation)
    #[arg(long)]
    no_correction: bool,

    /// Reconstruction: do not tune codes, keep weights rounded to the nearest (an ablation)
    #[arg(long)]
    no_learned_rounding: bool,

    /// Reconstruction: do not tune scales (an ablation)
    #[arg(long)]
    no_learned_scales: bool,

    /// Reconstruction: tune on logits alone, not on features (an ablation)
    #[arg(long)]
    no_feature_loss: bool,

    /// Reconstruction: tune on images as they are, none mixed with another (an ablation)
    #[arg(long)]
    no_mixup: bool,
}

impl ReconstructionArgs {
    /// The first flag that was given.
    fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--tuning-epochs", self.tuning_epochs.is_some()),
            ("--no-scale-search", self.no_scale_search),
            ("--no-correction", self.no_correction),
            ("--no-learned-rounding", self.no_learned_rounding),
            ("--no-learned-scales", self.no_learned_scales),
            ("--no-feature-loss", self.no_feature_loss),
            ("--no-mixup", self.no_mixup),
        ];
        flags
            .into_iter()
            .find(|(_, given)| *given)
            .map(|(flag, _)| flag)
    }

    fn settings(&self, [weight_bits, activation_bits]: [u8; 2], images: usize) -> Reconstruction {
        let mut settings = Reconstruction::new(weight_bits, activation_bits);
        if let Some(epochs) = self.tuning_epochs {
            settings.tuning.steps = epochs.saturating_mul((images / Tuning::BATCH).max(1));
        }
        for (ingredient, left_out) in [
            (Ablation::ScaleSearch, self.no_scale_search),
            (Ablation::Correction, self.no_correction),
            (Ablation::LearnedRounding, self.no_learned_rounding),
            (Ablation::LearnedScales, self.no_learned_scales),
            (Ablation::FeatureLoss, self.no_feature_loss),
            (Ablation::Mixup, self.no_mixup),
        ] {
            if left_out {
                ingredient.apply_to_reconstruction(&mut settings);
            }
        }
        settings
    }
}

pub(crate) fn run(args: &QuantizeArgs) -> anyhow::Result<()> {
    let mut options = args.options();
    let budget = args.budget()?;
    let start = Instant::now();
    let runtime = args.run.start()?;
    output::check_destination(&args.output)?;
    if output::is_same_file(&args.output, &args.model.model) {
        bail!(
            "{}: is the model to be quantized; write elsewhere",
            args.output.display()
        );
    }
    let model = args.model.open()?;
    let AnyModel::Float(float) = &model else {
        bail!(
            "{}: is quantized already; take the float model it was made from",
            args.model.model.display()
        );
    };
    if let Some(budget) = budget {
        options = args.mixed(options, budget, float)?;
    }
    let training = args
        .data
        .place
        .open(args.data.dataset, float, Split::Train)?;
    // Opened early: a missing test split should not cost the whole calibration.
    let test = match args.evaluate {
        true => Some(
            args.data
                .place
                .open(args.data.dataset, float, Split::Test)?,
        ),
        false => None,
    };
    let bars = Bars::default();
    let result = quantize(float, &training, &options, runtime.kernel, &bars).map_err(hint)?;
    let output_bytes = write(&args.output, result.result())?;
    let accuracy = match &test {
        Some(test) => Some(Accuracies::measure(&model, &result, test, &runtime)?),
        None => None,
    };
    let report = Report {
        model: args.model.model.display().to_string(),
        output: args.output.display().to_string(),
        output_bytes,
        provenance: result.result().provenance().clone(),
        calibration_batch: CALIBRATION_BATCH,
        dataset: args.data.dataset,
        weight_shares: inspect(&model, Some(&result.observations))?.weight_shares,
        accuracy,
        mixed_precision: result.allocation.clone(),
        seconds: start.elapsed().as_secs_f64(),
        kernel: runtime.kernel.name(),
        threads: runtime.threads,
        layers: inspect(&AnyModel::Quantized(result.result().clone()), None)?.layers,
    };
    if args.run.json {
        output::json(&report)
    } else {
        output::text(&report.to_string())
    }
}

impl QuantizeArgs {
    /// The options; contradictions end the program.
    fn options(&self) -> QuantizeOptions {
        let budget = [
            ("--budget-bits", self.budget_bits.is_some()),
            ("--budget-energy", self.budget_energy.is_some()),
        ];
        let budget = budget.into_iter().find(|(_, given)| *given);
        // With a budget, `mixed` finds them later.
        let all = self.bits.or(budget.map(|_| 8));
        let own = [self.weight_bits, self.activation_bits].map(|own| own.or(all));
        let [Some(weight_bits), Some(activation_bits)] = own else {
            usage_error(
                "quantize",
                "--weight-bits and --activation-bits need each other, or --bits",
            )
        };
        let bits = [weight_bits, activation_bits];
        let kind = self.method;
        let refuse = |flag: &str| {
            usage_error(
                "quantize",
                format!("{flag} means nothing to --method {kind}"),
            )
        };
        if let (true, Some((flag, _))) = (kind != MethodKind::Reconstruction, budget) {
            refuse(flag);
        }
        if self.energy.energy_model.is_some() && self.budget_energy.is_none() {
            usage_error("quantize", "--energy-model needs --budget-energy");
        }
        if kind != MethodKind::Redistribution {
            if self.groups.is_some() {
                refuse("--groups");
            }
            if self.no_weight_clamp {
                refuse("--no-weight-clamp");
            }
        }
        if let (true, Some(flag)) = (
            kind != MethodKind::Reconstruction,
            self.reconstruction.given(),
        ) {
            refuse(flag);
        }
        let one_width = matches!(kind, MethodKind::Redistribution | MethodKind::SharedScale);
        if one_width && bits[0] != bits[1] {
            let message = format!("--method {kind} has weights and activations of the same bits");
            usage_error("quantize", message);
        }
        let method = match kind {
            MethodKind::Reconstruction => {
                MethodSettings::Reconstruction(self.reconstruction.settings(bits, self.calibration))
            }
            MethodKind::Redistribution => MethodSettings::Redistribution(Redistribution {
                bits: weight_bits,
                groups: self.groups.unwrap_or(4),
                weight_clamp: !self.no_weight_clamp,
            }),
            MethodKind::ActivationOriented => {
                MethodSettings::ActivationOriented(ActivationOriented {
                    weight_bits,
                    activation_bits,
                })
            }
            MethodKind::SharedScale => {
                MethodSettings::SharedScale(SharedScale { bits: weight_bits })
            }
        };
        let recommended = QuantizeOptions::new(method);
        let bn_images = match (self.no_reestimate_bn, self.reestimate_bn) {
            (true, _) => 0,
            (_, true) => self.bn_images,
            _ if kind == MethodKind::Reconstruction => 0,
            _ => self.bn_images,
        };
        QuantizeOptions {
            outlier_quantile: self
                .outlier_quantile
                .unwrap_or(recommended.outlier_quantile),
            calibration_images: self.calibration,
            bn_images,
            seed: self.run.seed,
            ..recommended
        }
    }

    fn budget(&self) -> anyhow::Result<Option<Budget>> {
        Ok(match (self.budget_bits, self.budget_energy) {
            (Some(bits), _) => Some(Budget::AverageBits(bits)),
            (None, Some(limit)) => Some(Budget::Energy {
                limit,
                model: Box::new(self.energy.open()?),
            }),
            (None, None) => None,
        })
    }

    /// The options for mixed precision. Settings that depend on bits, such as the tuning's length, are
    /// those of the bits that every layer could have.
    fn mixed(
        &self,
        options: QuantizeOptions,
        budget: Budget,
        model: &Model,
    ) -> anyhow::Result<QuantizeOptions> {
        let bits = budget.uniform_bits(model.graph())?;
        let settings = self.reconstruction.settings([bits; 2], self.calibration);
        Ok(QuantizeOptions {
            method: MethodSettings::Reconstruction(settings),
            budget: Some(budget),
            ..options
        })
    }
}

/// Names the flag that mends it.
fn hint(error: addernet::Error) -> anyhow::Error {
    match error {
        addernet::Error::Data(error @ DataError::TooFewImages { .. }) => {
            anyhow::anyhow!("{error}, with --calibration")
        }
        error => error.into(),
    }
}

fn write(path: &Path, quantized: &QuantizedModel) -> anyhow::Result<u64> {
    let bytes = store::to_file(quantized)?.to_bytes()?;
    output::write(path, &bytes)?;
    Ok(bytes.len() as u64)
}

fn bits() -> RangedI64ValueParser<u8> {
    RangedI64ValueParser::new().range(2..=8)
}

fn budget(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (2.0..=8.0).contains(&value) => Ok(value),
        _ => Err("it must be a number of bits from 2 to 8, such as 3.5".to_owned()),
    }
}

fn quantile(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1.0 => Ok(value),
        _ => Err("it must be a number above 0 and at most 1".to_owned()),
    }
}
