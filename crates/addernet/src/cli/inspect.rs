//! `addernet inspect`.

use addernet::{
    AccumulatorReport, AnyModel, CostReport, DatasetKind, HeadroomReport, LayerReport, ModelReport,
    Split, WeightShares, inspect, observe,
};
use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::args::{DataPlace, ModelArgs, RunArgs, count, dataset};
use super::cost::{self, CostArgs};
use super::progress::Bars;
use super::table::table;
use super::{output, usage_error};

const EXAMPLES: &str = "\
Examples:
  Shapes, weights, and which of them lie outside the activations' range:
    addernet inspect resnet20.pth --dataset cifar10 --data-dir data
  A quantized model, for a program:
    addernet inspect q4.safetensors --json
  Operations, memory and energy per image at several widths, beside the same network as a CNN:
    addernet inspect resnet20.pth --cost --cost-bits 8,4,2
  The same with energies of your own, and four groups of different scales:
    addernet inspect resnet20.pth --cost --energy-model my-chip.toml --cost-groups 4";

const HINT: &str = "\
Activation ranges need images: add --dataset NAME --data-dir DIR to see which weights are outside.";

/// Show a model's adder layers
///
/// Per layer: shapes, number of weights and of terms |x − w|, weight range. With training images
/// (--dataset), also the range of the input activations, the shares of weights below, inside and above
/// it, and the bias that the exact clamp to it would add. Quantized models carry these ranges, and show
/// groups, scales, bias, and the share of weights at the ends of their codes' range. With --cost, also
/// operations by kind, bytes stored and moved, and energy per image, beside the same network as a CNN.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    model: ModelArgs,

    /// Float models: data set whose training images to observe activations on
    #[arg(long, value_name = "NAME", value_parser = dataset())]
    dataset: Option<DatasetKind>,

    #[command(flatten)]
    place: DataPlace,

    /// Training images to observe activations on [default: 2048]
    #[arg(long, value_name = "N", value_parser = count(1), requires = "dataset")]
    calibration: Option<usize>,

    #[command(flatten)]
    cost: CostArgs,

    #[command(flatten)]
    run: RunArgs,
}

/// The JSON object.
#[derive(Serialize)]
struct Report {
    model: String,
    file_bytes: u64,
    #[serde(flatten)]
    report: ModelReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<CostReport>,
}

pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    if args.dataset.is_none() && (args.place.data_dir.is_some() || args.place.resize.is_some()) {
        usage_error("inspect", "--data-dir and --resize need --dataset NAME");
    }
    if args.cost.lacks_cost() {
        usage_error("inspect", "--energy-model needs --cost");
    }
    let runtime = args.run.start()?;
    let model = args.model.open()?;
    let cost = args.cost.report(&model)?;
    let observations = match (&model, args.dataset) {
        (_, None) => None,
        (AnyModel::Quantized(_), Some(_)) => bail!(
            "{}: is quantized and carries its activation ranges; leave --dataset out",
            args.model.model.display()
        ),
        (AnyModel::Float(float), Some(kind)) => {
            let images = args.place.open(kind, float, Split::Train)?;
            let count = args.calibration.unwrap_or(2048);
            let quantile = addernet::quant::PUBLISHED_OUTLIER_QUANTILE;
            let (seed, bars) = (args.run.seed, Bars::default());
            Some(observe(
                float,
                &images,
                count,
                quantile,
                seed,
                runtime.kernel,
                &bars,
            )?)
        }
    };
    let report = Report {
        model: args.model.model.display().to_string(),
        file_bytes: std::fs::metadata(&args.model.model)?.len(),
        report: inspect(&model, observations.as_ref())?,
        cost,
    };
    if args.run.json {
        return output::json(&report);
    }
    output::text(&report.to_string())?;
    if let Some(cost) = &report.cost {
        return output::text(&format!("\n{}", cost::tables(cost)));
    }
    if report.report.weight_shares.is_none() {
        output::text(&format!("\n{HINT}"))?;
    }
    Ok(())
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ModelReport {
            architecture,
            input,
            classes,
            parameters,
            terms,
            ..
        } = &self.report;
        let parameters = output::thousands(*parameters as u64);
        writeln!(
            f,
            "{} ({} bytes)",
            self.model,
            output::thousands(self.file_bytes)
        )?;
        writeln!(
            f,
            "{architecture}, images {input}, {classes} classes, {parameters} parameters"
        )?;
        writeln!(f, "{} terms |x − w| per image", output::thousands(*terms))?;
        if let Some(made) = &self.report.quantization {
            let thousands = |n: usize| output::thousands(n as u64);
            let bn = match made.bn_images {
                0 => "unchanged".to_owned(),
                n => format!("re-estimated on {} images", thousands(n)),
            };
            let (method, calibration) = (&made.method, thousands(made.calibration_images));
            let (weights, activations) = (made.weight_bits, made.activation_bits);
            writeln!(
                f,
                "{method}, {weights} bits for weights and {activations} for activations"
            )?;
            writeln!(f, "calibrated on {calibration} images, BN {bn}")?;
        }
        let layers = &self.report.layers;
        write!(f, "\n{}", layer_table(layers, &SHAPES))?;
        if let Some(WeightShares {
            below,
            inside,
            above,
        }) = self.report.weight_shares
        {
            write!(f, "\n\n{}", layer_table(layers, &RANGES))?;
            write!(
                f,
                "\nall weights: {} below, {} inside, {} above the activations' range",
                output::percent(below),
                output::percent(inside),
                output::percent(above)
            )?;
        }
        if self.report.quantization.is_some() {
            write!(f, "\n\n{}", layer_table(layers, &CODES))?;
        }
        match &self.report.headroom {
            Some(HeadroomReport::Layers(layers)) => {
                let headings = [
                    "layer",
                    "taps",
                    "worst sum",
                    "free bits",
                    "worst product",
                    "free bits",
                ];
                let rows = layers.iter().map(accumulators);
                write!(
                    f,
                    "\n\nInteger engine, worst cases:\n\n{}",
                    table(headings, rows, 1)
                )?;
            }
            Some(HeadroomReport::Refused(reason)) => {
                write!(f, "\n\nThe integer engine cannot run it: {reason}")?;
            }
            None => {}
        }
        Ok(())
    }
}

/// What a layer's integers can reach, and of how many bits so many are left.
fn accumulators(layer: &AccumulatorReport) -> Vec<String> {
    let free = |free: u32, bits: u32| format!("{free} of {bits}");
    vec![
        layer.node.clone(),
        output::thousands(layer.taps as u64),
        output::thousands(layer.sum.unsigned_abs()),
        free(layer.sum_bits_free, layer.sum_bits),
        output::thousands(layer.product.unsigned_abs()),
        free(layer.product_bits_free, layer.product_bits),
    ]
}

/// A column: its heading, and the cell for a layer.
type Column = (&'static str, fn(&LayerReport) -> String);

const SHAPES: [Column; 8] = [
    ("layer", |l| l.node.clone()),
    ("kernel", |l| pair(l.kernel)),
    ("stride", |l| pair(l.stride)),
    ("channels", |l| {
        format!("{} → {}", l.in_channels, l.out_channels)
    }),
    ("input map", |l| pair(l.input_map)),
    ("weights", |l| output::thousands(l.weights as u64)),
    ("terms", |l| output::thousands(l.terms)),
    ("weight range", |l| span(l.weight_min, l.weight_max)),
];

const RANGES: [Column; 7] = [
    ("layer", |l| l.node.clone()),
    ("activations", |l| {
        l.activations.map_or(String::new(), |a| span(a.min, a.max))
    }),
    ("range", |l| {
        l.activations
            .map_or(String::new(), |a| span(a.low, a.bound))
    }),
    ("below", |l| {
        l.weight_shares
            .map_or(String::new(), |s| output::percent(s.below))
    }),
    ("inside", |l| {
        l.weight_shares
            .map_or(String::new(), |s| output::percent(s.inside))
    }),
    ("above", |l| {
        l.weight_shares
            .map_or(String::new(), |s| output::percent(s.above))
    }),
    ("bias (mean)", |l| {
        l.bias.map_or(String::new(), |b| {
            format!("{} ({})", span(b.min, b.max), short(b.mean as f32))
        })
    }),
];

const CODES: [Column; 5] = [
    ("layer", |l| l.node.clone()),
    ("bits w/x", |l| {
        l.quantization.as_ref().map_or(String::new(), |q| {
            format!("{}/{}", q.weight_bits, q.activation_bits)
        })
    }),
    ("groups", |l| {
        l.quantization
            .as_ref()
            .map_or(String::new(), |q| q.groups.to_string())
    }),
    ("scales", |l| {
        l.quantization.as_ref().map_or(String::new(), |q| {
            // The smallest and the largest say what many would.
            match q.scales.as_slice() {
                [first, .., last] if q.scales.len() > 4 => {
                    format!("{} … {}", short(*first), short(*last))
                }
                scales => scales
                    .iter()
                    .map(|s| short(*s))
                    .collect::<Vec<_>>()
                    .join("  "),
            }
        })
    }),
    ("saturated", |l| {
        l.quantization
            .as_ref()
            .map_or(String::new(), |q| output::percent(q.saturated))
    }),
];

fn layer_table(layers: &[LayerReport], columns: &[Column]) -> String {
    let rows = layers
        .iter()
        .map(|layer| columns.iter().map(|(_, cell)| cell(layer)).collect());
    table(columns.iter().map(|(heading, _)| *heading), rows, 1)
}

fn pair([a, b]: [usize; 2]) -> String {
    format!("{a}x{b}")
}

fn span(low: f32, high: f32) -> String {
    format!("{}..{}", short(low), short(high))
}

/// Three significant digits or so: enough to compare by eye.
fn short(value: f32) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        magnitude if magnitude >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.1e}"),
    }
}
