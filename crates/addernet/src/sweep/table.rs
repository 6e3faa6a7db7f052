//! A sweep's results as a table: mean and spread over the seeds.

use std::fmt::Write;

use addernet_cost::{AdderForm, Energy, EnergyModel, NetworkCost, Precision, compare};
use addernet_graph::Graph;
use addernet_quant::MethodKind;
use serde::{Deserialize, Serialize};

use super::{CellAccuracy, CellResult, method_settings};
use crate::ablation::Ablation;
use crate::error::Error;
use crate::evaluate::Accuracy;
use crate::quantize::QuantizeOptions;
use crate::spread::Spread;

/// All results of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepTable {
    /// The float model on the same images.
    pub float: Accuracy,
    /// Name of the energy model of all costs; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub energy_model: Option<String>,
    /// What the float model costs per image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub float_cost: Option<RowCost>,
    /// One row per method, bits, groups, ablation and number of calibration images, in the order of the results.
    pub rows: Vec<SweepRow>,
}

/// One way to quantize, over its seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepRow {
    /// The method's name.
    pub method: String,
    /// Bits of the weights.
    pub weight_bits: u8,
    /// Bits of the activations.
    pub activation_bits: u8,
    /// Groups per layer.
    pub groups: usize,
    /// What the method had to do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<Ablation>,
    /// Calibration images; 0 in tables of earlier versions, which did not say.
    #[serde(default)]
    pub calibration_images: usize,
    /// Mean time per seed, quantization and evaluation together.
    pub seconds: f64,
    /// What a model costs per image, mean over the seeds; absent if a result does not say what it is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<RowCost>,
    /// Figures per engine, with and without BN re-estimation.
    pub figures: Vec<Figures>,
}

/// Energy per image, in pJ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RowCost {
    /// Of all operations.
    pub arithmetic: Energy,
    /// Of operations and memory traffic.
    pub total: Energy,
    /// Of all operations of the same network as a CNN at the same bits.
    pub cnn_arithmetic: Energy,
    /// Of its operations and memory traffic.
    pub cnn_total: Energy,
}

impl RowCost {
    fn of(graph: &Graph, precision: &Precision, model: &EnergyModel) -> Result<Self, Error> {
        let cost = compare(graph, precision, model, AdderForm::default())?;
        let energies = |network: &NetworkCost| (network.energy.arithmetic, network.energy.total);
        let ((arithmetic, total), (cnn_arithmetic, cnn_total)) =
            (energies(&cost.adder), energies(&cost.cnn));
        Ok(Self {
            arithmetic,
            total,
            cnn_arithmetic,
            cnn_total,
        })
    }

    /// All of it in µJ, in the order of the fields.
    pub fn microjoules(&self) -> [f64; 4] {
        [
            self.arithmetic,
            self.total,
            self.cnn_arithmetic,
            self.cnn_total,
        ]
        .map(Energy::microjoules)
    }

    fn mean(costs: &[RowCost]) -> Option<Self> {
        let mean = |of: fn(&RowCost) -> Energy| {
            let sum: Energy = costs.iter().map(of).sum();
            Energy::from_picojoules(sum.picojoules() / costs.len() as f64)
        };
        (!costs.is_empty()).then(|| Self {
            arithmetic: mean(|cost| cost.arithmetic),
            total: mean(|cost| cost.total),
            cnn_arithmetic: mean(|cost| cost.cnn_arithmetic),
            cnn_total: mean(|cost| cost.cnn_total),
        })
    }
}

/// What runs the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SweepEngine {
    /// Adder layers in integers, the rest in floating point.
    Simulated,
    /// Integers alone.
    Integer,
}

impl SweepEngine {
    /// The name used in files.
    pub fn name(self) -> &'static str {
        match self {
            SweepEngine::Simulated => "simulated",
            SweepEngine::Integer => "integer",
        }
    }
}

/// Accuracy on one engine, with or without BN re-estimation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// What ran the network.
    pub engine: SweepEngine,
    /// Whether BN statistics were re-estimated.
    pub bn_reestimated: bool,
    /// Number of seeds: fewer than the others' if the engine could not run all of the models.
    pub seeds: usize,
    /// Top-1 accuracy, 0 to 1.
    pub top1: Spread,
    /// Top-5 accuracy, 0 to 1.
    pub top5: Spread,
    /// Mean cross-entropy, in nats.
    pub loss: Spread,
}

/// The four columns of a row.
const COLUMNS: [(SweepEngine, bool); 4] = [
    (SweepEngine::Simulated, true),
    (SweepEngine::Integer, true),
    (SweepEngine::Simulated, false),
    (SweepEngine::Integer, false),
];

impl SweepTable {
    /// Gathers results, whose seeds are put together where all else is the same.
    pub fn of(float: Accuracy, results: &[CellResult]) -> Self {
        let mut keys = Vec::new();
        for result in results {
            if !keys.contains(&key(result)) {
                keys.push(key(result));
            }
        }
        let rows = keys.into_iter().map(|wanted| {
            let seeds: Vec<&CellResult> = results.iter().filter(|r| key(r) == wanted).collect();
            let seconds = seeds
                .iter()
                .map(|r| r.quantize_seconds + r.evaluate_seconds);
            let provenance = &seeds[0].provenance;
            SweepRow {
                method: provenance.method.clone(),
                weight_bits: provenance.weight_bits,
                activation_bits: provenance.activation_bits,
                groups: provenance.groups,
                without: seeds[0].without,
                calibration_images: provenance.calibration_images,
                seconds: Spread::of(seconds).mean,
                cost: None,
                figures: COLUMNS
                    .iter()
                    .filter_map(|&(engine, bn)| figures(&seeds, engine, bn))
                    .collect(),
            }
        });
        Self {
            float,
            energy_model: None,
            float_cost: None,
            rows: rows.collect(),
        }
    }

    /// Whether rows differ in their calibration images.
    pub fn varies_in_images(&self) -> bool {
        let images = |row: &SweepRow| row.calibration_images;
        (self.rows.windows(2)).any(|rows| images(&rows[0]) != images(&rows[1]))
    }

    /// The same table with the energy of each row's models, which are `results` of quantizing a model of `graph`.
    ///
    /// # Errors
    /// If a result's precision does not fit the graph.
    pub fn with_costs(
        mut self,
        graph: &Graph,
        results: &[CellResult],
        model: &EnergyModel,
    ) -> Result<Self, Error> {
        for row in &mut self.rows {
            let wanted = row.key();
            let seeds = results.iter().filter(|result| key(result) == wanted);
            let costs: Option<Vec<RowCost>> = seeds
                .map(|result| {
                    let precision = result.precision.as_ref()?;
                    Some(RowCost::of(graph, precision, model))
                })
                .collect::<Option<Result<_, _>>>()
                .transpose()?;
            row.cost = costs.as_deref().and_then(RowCost::mean);
        }
        self.float_cost = Some(RowCost::of(graph, &Precision::Float, model)?);
        self.energy_model = Some(model.name().to_owned());
        Ok(self)
    }

    /// The table in Markdown: top-1 in percent, with the smallest and largest of several seeds.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "Top-1 in percent on {} images, mean over seeds (smallest to largest); images: for calibration. The float model has \
             {:.2}.\n\n\
             | method | bits | groups | images | seeds | simulated | integer | simulated, BN kept | integer, BN kept \
             | seconds | arithmetic µJ | total µJ | CNN arithmetic µJ | CNN total µJ |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
            self.float.images,
            100.0 * self.float.top1,
        );
        for row in &self.rows {
            let seeds = row.figures.iter().map(|f| f.seeds).max().unwrap_or(0);
            let bits = row.bits();
            let SweepRow {
                calibration_images: images,
                groups,
                seconds,
                ..
            } = row;
            let method = row.label();
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "| {method} | {bits} | {groups} | {images} | {seeds} |"
            );
            for (engine, bn) in COLUMNS {
                let cell = match row.figures(engine, bn) {
                    Some(figures) => percent(figures),
                    None => "–".to_owned(),
                };
                let _ = write!(text, " {cell} |");
            }
            let _ = write!(text, " {seconds:.1} |");
            for cell in energies(row.cost.as_ref()) {
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        if let (Some(model), Some(float)) = (&self.energy_model, &self.float_cost) {
            let [arithmetic, total, cnn_arithmetic, cnn_total] = energies(Some(float));
            let _ = write!(
                text,
                "\nEnergies per image with {model}: all operations, and with memory traffic; beside them the same \
                 network as a CNN at the same bits. In floating point: {arithmetic} and {total} µJ, as a CNN \
                 {cnn_arithmetic} and {cnn_total} µJ.\n"
            );
        }
        text
    }

    /// The table as comma-separated values: one line per row and engine, and BN with or without re-estimation.
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "method,without,weight_bits,activation_bits,groups,calibration_images,engine,bn_reestimated,seeds,top1_mean,top1_min,\
             top1_max,top1_sd,top5_mean,top5_min,top5_max,top5_sd,loss_mean,loss_min,loss_max,loss_sd,arithmetic_uj,\
             total_uj,cnn_arithmetic_uj,cnn_total_uj\n",
        );
        for row in &self.rows {
            for figures in &row.figures {
                let _ = write!(
                    text,
                    "{},{},{},{},{},{},{},{},{}",
                    row.method,
                    row.without.map_or("", Ablation::name),
                    row.weight_bits,
                    row.activation_bits,
                    row.groups,
                    row.calibration_images,
                    figures.engine.name(),
                    figures.bn_reestimated,
                    figures.seeds
                );
                for spread in [figures.top1, figures.top5, figures.loss] {
                    let Spread { mean, min, max, .. } = spread;
                    let _ = write!(text, ",{mean:.6},{min:.6},{max:.6},");
                    if let Some(deviation) = spread.standard_deviation {
                        let _ = write!(text, "{deviation:.6}");
                    }
                }
                match &row.cost {
                    Some(cost) => cost
                        .microjoules()
                        .iter()
                        .for_each(|energy| text += &format!(",{energy:.6}")),
                    None => text += ",,,,",
                }
                text.push('\n');
            }
        }
        text
    }
}

impl SweepRow {
    fn key(&self) -> Key<'_> {
        let bits = [self.weight_bits, self.activation_bits];
        (
            &self.method,
            bits,
            self.groups,
            self.without,
            self.calibration_images,
        )
    }

    /// The method, and what it had to do without.
    pub fn label(&self) -> String {
        match self.without {
            Some(ingredient) => format!("{} without {ingredient}", self.method),
            None => self.method.clone(),
        }
    }

    /// `4`, or `2/4` where weights and activations have different widths.
    pub fn bits(&self) -> String {
        match (self.weight_bits, self.activation_bits) {
            (weights, activations) if weights == activations => weights.to_string(),
            (weights, activations) => format!("{weights}/{activations}"),
        }
    }

    /// The figures of the method's own recipe: with re-estimated BN statistics unless the method adapts BN itself, on
    /// integers if the engine runs all models. Without such figures, those that there are.
    pub fn recommended(&self) -> Option<&Figures> {
        let recipe = self.method.parse::<MethodKind>().map(|method| {
            let bits = [self.weight_bits, self.activation_bits];
            let settings = method_settings(method, bits, self.groups);
            QuantizeOptions::new(settings).bn_images > 0
        });
        let bn = recipe.unwrap_or(true);
        let seeds = self.figures.iter().map(|f| f.seeds).max().unwrap_or(0);
        let columns = [
            (SweepEngine::Integer, bn),
            (SweepEngine::Simulated, bn),
            (SweepEngine::Integer, !bn),
            (SweepEngine::Simulated, !bn),
        ];
        let mut found = columns
            .into_iter()
            .filter_map(|(e, bn)| self.figures(e, bn));
        found.find(|figures| figures.seeds == seeds)
    }

    /// The figures of one column, if there are any.
    pub fn figures(&self, engine: SweepEngine, bn_reestimated: bool) -> Option<&Figures> {
        self.figures
            .iter()
            .find(|f| f.engine == engine && f.bn_reestimated == bn_reestimated)
    }
}

/// What a row's results have in common.
type Key<'a> = (&'a str, [u8; 2], usize, Option<Ablation>, usize);

fn key(result: &CellResult) -> Key<'_> {
    let p = &result.provenance;
    let bits = [p.weight_bits, p.activation_bits];
    (
        &p.method,
        bits,
        p.groups,
        result.without,
        p.calibration_images,
    )
}

/// Energies in µJ, or dashes.
fn energies(cost: Option<&RowCost>) -> [String; 4] {
    match cost {
        Some(cost) => cost.microjoules().map(|energy| format!("{energy:.3}")),
        None => [(); 4].map(|()| "–".to_owned()),
    }
}

fn figures(seeds: &[&CellResult], engine: SweepEngine, bn_reestimated: bool) -> Option<Figures> {
    let of = |accuracy: &CellAccuracy| match engine {
        SweepEngine::Simulated => Some(accuracy.simulated),
        SweepEngine::Integer => accuracy.integer,
    };
    let found: Vec<Accuracy> = seeds
        .iter()
        .filter_map(|result| match bn_reestimated {
            true => result.with_bn_reestimation.as_ref().and_then(of),
            false => of(&result.without_bn_reestimation),
        })
        .collect();
    if found.is_empty() {
        return None;
    }
    Some(Figures {
        engine,
        bn_reestimated,
        seeds: found.len(),
        top1: Spread::of(found.iter().map(|a| a.top1)),
        top5: Spread::of(found.iter().map(|a| a.top5)),
        loss: Spread::of(found.iter().map(|a| a.loss)),
    })
}

fn percent(figures: &Figures) -> String {
    let [mean, min, max] = [figures.top1.mean, figures.top1.min, figures.top1.max]
        .map(|v| format!("{:.2}", 100.0 * v));
    match figures.seeds {
        0 | 1 => mean,
        _ => format!("{mean} ({min}–{max})"),
    }
}
