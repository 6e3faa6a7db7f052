//! What `addernet quantize` prints.

use std::collections::BTreeMap;

use addernet::kernels;
use addernet::quant::Provenance;
use addernet::{
    Accuracy, AnyModel, BitAllocation, Classifier, DatasetKind, Engine, Executor, Images,
    LayerReport, Quantization, Simulator, WeightShares, evaluate,
};
use serde::Serialize;

use super::super::args::Runtime;
use super::super::output;
use super::super::progress::Bars;

/// The JSON object.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) output: String,
    pub(super) output_bytes: u64,
    #[serde(flatten)]
    pub(super) provenance: Provenance,
    pub(super) calibration_batch: usize,
    pub(super) dataset: DatasetKind,
    /// Of the float weights, to the calibrated activation ranges.
    pub(super) weight_shares: Option<WeightShares>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) accuracy: Option<Accuracies>,
    /// With --budget-bits: bits per layer, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mixed_precision: Option<BitAllocation>,
    pub(super) seconds: f64,
    pub(super) kernel: &'static str,
    pub(super) threads: usize,
    pub(super) layers: Vec<LayerReport>,
}

/// On the test images.
#[derive(Serialize)]
pub(super) struct Accuracies {
    float: Accuracy,
    without_bn_reestimation: Accuracy,
    /// Null with --no-reestimate-bn.
    with_bn_reestimation: Option<Accuracy>,
    /// Of the written model on the integer engine; the others but the float one are simulated. Null if
    /// the engine refuses the model: `inspect` says why.
    integer: Option<Accuracy>,
}

impl Accuracies {
    /// Evaluates the float model and the results on `test`.
    pub(super) fn measure(
        model: &AnyModel,
        quantization: &Quantization,
        test: &Images,
        runtime: &Runtime,
    ) -> anyhow::Result<Self> {
        let accuracy = |classifier: &dyn Classifier, subject| {
            evaluate(classifier, test, &test.first(None), &Bars::about(subject)).map(|e| e.accuracy)
        };
        let simulated = |quantized, subject| -> anyhow::Result<Accuracy> {
            Ok(accuracy(
                &Simulator::new(quantized, runtime.kernel)?,
                subject,
            )?)
        };
        Ok(Self {
            float: accuracy(&Executor::new(model.float(), runtime.kernel)?, "float")?,
            without_bn_reestimation: simulated(&quantization.without_bn_reestimation, "quantized")?,
            with_bn_reestimation: match &quantization.with_bn_reestimation {
                Some(quantized) => Some(simulated(quantized, "with new BN")?),
                None => None,
            },
            integer: match Engine::new(
                quantization.result(),
                kernels::select_u8(Some(runtime.kernel.name()))?,
            ) {
                Ok(engine) => Some(accuracy(&engine, "on integers")?),
                Err(_) => None,
            },
        })
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Provenance {
            method,
            weight_bits,
            activation_bits,
            calibration_images,
            bn_images,
            ..
        } = &self.provenance;
        let thousands = |n: usize| output::thousands(n as u64);
        writeln!(
            f,
            "method        {method}, {}, {} adder layers",
            match (&self.mixed_precision, weight_bits == activation_bits) {
                (Some(_), _) => format!("up to {weight_bits} bits"),
                (None, true) => format!("{weight_bits} bits"),
                (None, false) =>
                    format!("weights of {weight_bits} bits, activations of {activation_bits}"),
            },
            self.layers.len()
        )?;
        if let Some(allocation) = &self.mixed_precision {
            writeln!(f, "mixed         {}", summary(allocation))?;
        }
        writeln!(f, "calibration   {} images", thousands(*calibration_images))?;
        match bn_images {
            0 => writeln!(f, "BN            as in the float model")?,
            images => writeln!(
                f,
                "BN            re-estimated on {} images",
                thousands(*images)
            )?,
        }
        if let Some(WeightShares {
            below,
            inside,
            above,
        }) = self.weight_shares
        {
            writeln!(
                f,
                "weights       {} below, {} inside, {} above the activations' range",
                output::percent(below),
                output::percent(inside),
                output::percent(above)
            )?;
        }
        if let Some(accuracy) = &self.accuracy {
            let mut row = |label, accuracy: Accuracy| {
                let (top1, top5) = (
                    output::percent(accuracy.top1),
                    output::percent(accuracy.top5),
                );
                writeln!(
                    f,
                    "{label}top-1 {top1}, top-5 {top5}, loss {:.4}",
                    accuracy.loss
                )
            };
            row("float         ", accuracy.float)?;
            row("without BN    ", accuracy.without_bn_reestimation)?;
            if let Some(with) = accuracy.with_bn_reestimation {
                row("with BN       ", with)?;
            }
            if let Some(integer) = accuracy.integer {
                row("on integers   ", integer)?;
            }
        }
        writeln!(
            f,
            "time          {:.1} s, {} thread(s)",
            self.seconds, self.threads
        )?;
        write!(
            f,
            "written       {} ({} bytes)",
            self.output,
            output::thousands(self.output_bytes)
        )
    }
}

/// "3.50 bits on average (layers with each: 2 in 3, 4 in 16)".
fn summary(allocation: &BitAllocation) -> String {
    let mut layers_with: BTreeMap<u8, usize> = BTreeMap::new();
    for layer in &allocation.layers {
        *layers_with.entry(layer.bits).or_default() += 1;
    }
    let parts: Vec<String> = layers_with
        .into_iter()
        .map(|(bits, layers)| format!("{bits} in {layers}"))
        .collect();
    format!(
        "{:.2} bits on average (layers with each: {})",
        allocation.average_bits,
        parts.join(", ")
    )
}
