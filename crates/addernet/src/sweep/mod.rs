//! Sweeps: one model, quantized in many ways, each of them evaluated.

mod settings;
mod table;

use std::time::Instant;

use addernet_cost::Precision;
use addernet_engine::Engine;
use addernet_graph::Model;
use addernet_kernels::{AdderKernelF32, AdderKernelU8};
use addernet_quant::{MethodKind, Provenance, QuantizedModel, Simulator, group_kernels};
use itertools::iproduct;
use serde::{Deserialize, Serialize};

pub use settings::method_settings;
pub use table::{Figures, RowCost, SweepEngine, SweepRow, SweepTable};

use crate::ablation::Ablation;
use crate::error::Error;
use crate::evaluate::{Accuracy, evaluate};
use crate::images::Images;
use crate::progress::Progress;
use crate::quantize::{QuantizeOptions, quantize};

/// One way to quantize: a cell of the sweep's grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepCell {
    /// The method.
    pub method: MethodKind,
    /// Bits of weights and of activations.
    pub bits: [u8; 2],
    /// Groups per layer; 1 for methods without groups.
    pub groups: usize,
    /// What the method is to do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<Ablation>,
    /// Calibration images.
    pub calibration: usize,
    /// Seed of everything random.
    pub seed: u64,
}

/// What a sweep varies.
#[derive(Clone, Debug)]
pub struct SweepGrid {
    /// Methods.
    pub methods: Vec<MethodKind>,
    /// Bits of weights and of activations.
    pub bits: Vec<[u8; 2]>,
    /// Groups per layer.
    pub groups: Vec<usize>,
    /// What methods are to do without; `None` is the whole method.
    pub without: Vec<Option<Ablation>>,
    /// Calibration images.
    pub calibrations: Vec<usize>,
    /// Seeds of everything random.
    pub seeds: Vec<u64>,
}

impl SweepGrid {
    /// All combinations, in the order of the fields, each of them once: methods without groups do not multiply by
    /// `groups`, and what a method does not have it is not to do without.
    pub fn cells(&self) -> Vec<SweepCell> {
        let combinations = iproduct!(
            &self.methods,
            &self.bits,
            &self.groups,
            &self.without,
            &self.calibrations,
            &self.seeds
        );
        let mut cells = Vec::new();
        for (&method, &bits, &groups, &without, &calibration, &seed) in combinations {
            let settings = method_settings(method, bits, groups);
            let cell = SweepCell {
                method,
                bits: settings.bits(),
                groups: settings.groups(),
                without,
                calibration,
                seed,
            };
            let possible = without.is_none_or(|out| out.apply(&mut QuantizeOptions::new(settings)));
            if possible && !cells.contains(&cell) {
                cells.push(cell);
            }
        }
        cells
    }
}

impl SweepCell {
    /// A name that only this cell has, fit for a file.
    pub fn name(&self) -> String {
        let Self {
            method,
            bits: [weights, activations],
            groups,
            without,
            calibration,
            seed,
        } = self;
        let without = without.map_or(String::new(), |out| format!("-no-{out}"));
        let bits = match weights == activations {
            true => weights.to_string(),
            false => format!("w{weights}a{activations}"),
        };
        format!("{method}{without}-{bits}bit-{groups}group-{calibration}images-seed{seed}")
    }

    /// Checks that the model's layers have kernels enough for the groups, before hours of work.
    ///
    /// # Errors
    /// If a layer, which the error names, has too few.
    pub fn check(&self, model: &Model) -> Result<(), Error> {
        for (_, node, attributes) in model.graph().adder_nodes() {
            group_kernels(
                node.name(),
                &vec![1.0; attributes.out_channels],
                self.groups,
            )?;
        }
        Ok(())
    }

    /// The published recipe for this cell.
    pub fn options(&self) -> QuantizeOptions {
        let settings = method_settings(self.method, self.bits, self.groups);
        let mut options = QuantizeOptions {
            seed: self.seed,
            calibration_images: self.calibration,
            ..QuantizeOptions::new(settings)
        };
        if let Some(ingredient) = self.without {
            ingredient.apply(&mut options);
        }
        options
    }
}

/// What a cell came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellResult {
    /// What the method had to do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<Ablation>,
    /// How the model was made.
    pub provenance: Provenance,
    /// What numbers the model is made of, which its cost depends on; absent in results of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// With the float model's BN statistics.
    pub without_bn_reestimation: CellAccuracy,
    /// With re-estimated ones; absent if they were not asked for.
    pub with_bn_reestimation: Option<CellAccuracy>,
    /// Time that quantization took.
    pub quantize_seconds: f64,
    /// Time that all evaluations took.
    pub evaluate_seconds: f64,
}

/// Accuracy of one quantized model on each engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellAccuracy {
    /// With its adder layers in integers and the rest in floating point.
    pub simulated: Accuracy,
    /// On integers alone; absent if the integer engine cannot run the model.
    pub integer: Option<Accuracy>,
    /// Why the integer engine cannot run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integer_refused: Option<String>,
}

/// What all cells of a sweep share.
pub struct SweepContext<'a> {
    /// The float model.
    pub model: &'a Model,
    /// Training images, for calibration and BN re-estimation.
    pub training: &'a Images,
    /// Images that accuracy is measured on.
    pub evaluation: &'a Images,
    /// Their places.
    pub indices: &'a [usize],
    /// The L1 operator of floating point and simulation.
    pub kernel: &'static dyn AdderKernelF32,
    /// The L1 operator of the integer engine.
    pub kernel_u8: &'static dyn AdderKernelU8,
}

impl SweepContext<'_> {
    /// Quantizes the model with `options` and evaluates the result on both engines, with and without BN
    /// re-estimation. Also returns the model that was asked for. `without` is what the options do without, which the
    /// result tells.
    ///
    /// # Errors
    /// As [`quantize`] and [`evaluate`]; that the integer engine cannot run a model is no error.
    pub fn run(
        &self,
        options: &QuantizeOptions,
        without: Option<Ablation>,
        progress: &dyn Progress,
    ) -> Result<(CellResult, QuantizedModel), Error> {
        let start = Instant::now();
        let made = quantize(self.model, self.training, options, self.kernel, progress)?;
        let quantize_seconds = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let without_bn_reestimation = self.accuracy(&made.without_bn_reestimation, progress)?;
        let with_bn_reestimation = match &made.with_bn_reestimation {
            Some(quantized) => Some(self.accuracy(quantized, progress)?),
            None => None,
        };
        let quantized = made.result().clone();
        let result = CellResult {
            without,
            provenance: quantized.provenance().clone(),
            precision: Some(Precision::of(&quantized)),
            without_bn_reestimation,
            with_bn_reestimation,
            quantize_seconds,
            evaluate_seconds: start.elapsed().as_secs_f64(),
        };
        Ok((result, quantized))
    }

    fn accuracy(
        &self,
        quantized: &QuantizedModel,
        progress: &dyn Progress,
    ) -> Result<CellAccuracy, Error> {
        let simulator = Simulator::new(quantized, self.kernel)?;
        let simulated = evaluate(&simulator, self.evaluation, self.indices, progress)?.accuracy;
        let (integer, integer_refused) = match Engine::new(quantized, self.kernel_u8) {
            Ok(engine) => {
                let evaluation = evaluate(&engine, self.evaluation, self.indices, progress)?;
                (Some(evaluation.accuracy), None)
            }
            Err(error) => (None, Some(error.to_string())),
        };
        Ok(CellAccuracy {
            simulated,
            integer,
            integer_refused,
        })
    }
}

#[cfg(test)]
mod tests;
