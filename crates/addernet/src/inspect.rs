//! A report on a model's adder layers.

use addernet_engine::{EngineError, LayerHeadroom, Program};
use addernet_graph::exec::geometry;
use addernet_graph::{ConvAttributes, FeatureShape, GraphError, Model, Node};
use addernet_quant::{ActivationRange, Observations, Provenance, QuantizedLayer, clamp_kernel};
use serde::Serialize;

use crate::any_model::AnyModel;
use crate::error::Error;

/// A model and its adder layers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelReport {
    /// The graph's name.
    pub architecture: String,
    /// Shape of an input image.
    pub input: FeatureShape,
    /// Number of classes.
    pub classes: usize,
    /// Number of parameters, of all layers.
    pub parameters: usize,
    /// Number of terms |x − w| for one image.
    pub terms: u64,
    /// How the model was quantized; absent in float models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Provenance>,
    /// What the integer engine's accumulators can reach; absent in float models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headroom: Option<HeadroomReport>,
    /// Where the weights of all adder layers lie, together; absent without activation ranges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_shares: Option<WeightShares>,
    /// The adder layers in topological order.
    pub layers: Vec<LayerReport>,
}

/// The proof that nothing overflows in the integer engine, or why the engine cannot run the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadroomReport {
    /// Its layers in the order in which they run.
    Layers(Vec<AccumulatorReport>),
    /// The reason.
    Refused(String),
}

/// What one layer's integers can reach, over all inputs and for its own weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AccumulatorReport {
    /// The node's name.
    pub node: String,
    /// Terms of one sum.
    pub taps: usize,
    /// The largest magnitude of a sum.
    pub sum: i64,
    /// Bits of its accumulator.
    pub sum_bits: u32,
    /// Bits of the accumulator that no sum needs.
    pub sum_bits_free: u32,
    /// The largest magnitude of a sum times its multiplier plus its offset.
    pub product: i64,
    /// Bits of that product.
    pub product_bits: u32,
    /// Bits of the product that none needs.
    pub product_bits_free: u32,
}

impl From<&LayerHeadroom> for AccumulatorReport {
    fn from(layer: &LayerHeadroom) -> Self {
        Self {
            node: layer.node.clone(),
            taps: layer.taps,
            sum: layer.sum,
            sum_bits: layer.sum_bits,
            sum_bits_free: layer.sum_headroom(),
            product: layer.product,
            product_bits: layer.product_bits,
            product_bits_free: layer.product_headroom(),
        }
    }
}

impl HeadroomReport {
    fn of(lowered: Result<Program, EngineError>) -> Self {
        match lowered {
            Ok(program) => Self::Layers(program.headroom().iter().map(Into::into).collect()),
            Err(error) => Self::Refused(error.to_string()),
        }
    }
}

/// One adder layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerReport {
    /// The node's name.
    pub node: String,
    /// `[height, width]` of its kernels.
    pub kernel: [usize; 2],
    /// `[vertical, horizontal]`.
    pub stride: [usize; 2],
    /// `[vertical, horizontal]`, on each side.
    pub padding: [usize; 2],
    /// Input channels.
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// `[height, width]` of the input feature map.
    pub input_map: [usize; 2],
    /// `[height, width]` of the output feature map.
    pub output_map: [usize; 2],
    /// Number of weights.
    pub weights: usize,
    /// Number of terms |x − w| for one image.
    pub terms: u64,
    /// Smallest weight (of a quantized layer: that its codes stand for).
    pub weight_min: f32,
    /// Largest weight.
    pub weight_max: f32,
    /// The input activations; absent if nobody observed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<ActivationReport>,
    /// Where the weights lie; absent without activation ranges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_shares: Option<WeightShares>,
    /// The bias: of a quantized layer what it adds, of a float layer what the exact range clamp would
    /// add. Absent if neither is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<BiasReport>,
    /// Codes and scales; absent in float models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<QuantizationReport>,
}

/// A layer's input activations over the calibration images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ActivationReport {
    /// Smallest value seen.
    pub min: f32,
    /// Largest value seen.
    pub max: f32,
    /// Lower end of the activation range: 0 behind a ReLU, else −`bound`.
    pub low: f32,
    /// Upper end of the activation range, after the outlier clamp.
    pub bound: f32,
}

/// Shares of weights in relation to the activation range of their layer; they sum to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WeightShares {
    /// Below the range.
    pub below: f64,
    /// Inside it.
    pub inside: f64,
    /// Above it.
    pub above: f64,
}

/// A bias, over the kernels of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BiasReport {
    /// Smallest.
    pub min: f32,
    /// Largest.
    pub max: f32,
    /// Mean.
    pub mean: f64,
}

/// A quantized layer's codes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantizationReport {
    /// Bits of a weight.
    pub weight_bits: u8,
    /// Bits of an activation.
    pub activation_bits: u8,
    /// Number of groups that are left: groups with the same scale are one.
    pub groups: usize,
    /// Their scales.
    pub scales: Vec<f32>,
    /// Share of weights at the ends of their codes' range, 0 to 1.
    pub saturated: f64,
}

/// Reports on `model`.
///
/// Activation ranges come from `observations`, or from the model itself if it is quantized.
///
/// # Errors
/// If `observations` lack a layer of the model.
pub fn inspect(
    model: &AnyModel,
    observations: Option<&Observations>,
) -> Result<ModelReport, Error> {
    let float = model.float();
    let graph = float.graph();
    let mut layers = Vec::new();
    let mut counts = [0usize; 3];
    for (_, node, attributes) in graph.adder_nodes() {
        let layer = Layer {
            node,
            attributes,
            weights: float.values(node, "adder")?,
            input: graph.nodes()[node.inputs()[0]].shape(),
            non_negative_input: graph.nodes()[node.inputs()[0]].is_non_negative(),
        };
        let quantized = match model {
            AnyModel::Quantized(quantized) => quantized.layers().get(node.name()),
            AnyModel::Float(_) => None,
        };
        let range = match (observations, quantized) {
            (Some(observations), _) => Some(observations.range(node.name())?),
            (None, Some(quantized)) => Some(quantized.range),
            (None, None) => None,
        };
        let activations = range.map(|range| layer.activations(range));
        if let Some(activations) = activations {
            let layer_counts = layer.count(activations);
            counts
                .iter_mut()
                .zip(layer_counts)
                .for_each(|(total, count)| *total += count);
        }
        layers.push(layer.report(float, activations, quantized)?);
    }
    Ok(ModelReport {
        architecture: graph.name().to_owned(),
        input: graph.input_shape(),
        classes: graph.classes(),
        parameters: float.parameters().values().map(|p| p.len()).sum(),
        terms: layers.iter().map(|layer| layer.terms).sum(),
        quantization: match model {
            AnyModel::Quantized(quantized) => Some(quantized.provenance().clone()),
            AnyModel::Float(_) => None,
        },
        headroom: match model {
            AnyModel::Quantized(quantized) => Some(HeadroomReport::of(Program::lower(quantized))),
            AnyModel::Float(_) => None,
        },
        weight_shares: (counts != [0; 3]).then(|| WeightShares::of(counts)),
        layers,
    })
}

impl WeightShares {
    fn of(counts: [usize; 3]) -> Self {
        let total = counts.iter().sum::<usize>() as f64;
        let [below, inside, above] = counts.map(|count| count as f64 / total);
        Self {
            below,
            inside,
            above,
        }
    }
}

/// One layer with what its report is made of.
struct Layer<'a> {
    node: &'a Node,
    attributes: &'a ConvAttributes,
    weights: &'a [f32],
    input: FeatureShape,
    non_negative_input: bool,
}

impl Layer<'_> {
    fn activations(&self, range: ActivationRange) -> ActivationReport {
        let ActivationRange { min, max, bound } = range;
        ActivationReport {
            min,
            max,
            low: if self.non_negative_input { 0.0 } else { -bound },
            bound,
        }
    }

    /// Numbers of weights below, inside and above the activation range.
    fn count(&self, range: ActivationReport) -> [usize; 3] {
        let mut counts = [0; 3];
        for &w in self.weights {
            counts[if w < range.low {
                0
            } else {
                1 + usize::from(w > range.bound)
            }] += 1;
        }
        counts
    }

    /// What the exact clamp to `range` adds to each kernel.
    fn clamp_bias(&self, range: ActivationReport) -> Vec<f32> {
        let taps = self.weights.len() / self.attributes.out_channels;
        let mut weights = self.weights.to_vec();
        weights
            .chunks_exact_mut(taps)
            .map(|kernel| clamp_kernel(kernel, range.low, range.bound))
            .collect()
    }

    fn report(
        &self,
        model: &Model,
        activations: Option<ActivationReport>,
        quantized: Option<&QuantizedLayer>,
    ) -> Result<LayerReport, Error> {
        let Layer {
            node,
            attributes,
            weights,
            input,
            ..
        } = self;
        let geometry = geometry(attributes, 1, input.height, input.width).map_err(|source| {
            GraphError::Kernel {
                node: node.name().to_owned(),
                source,
            }
        })?;
        let bias = match (quantized, activations) {
            (Some(layer), _) => Some(summary(&layer.bias)),
            (None, Some(range)) => Some(summary(&self.clamp_bias(range))),
            (None, None) if attributes.bias => Some(summary(model.values(node, "bias")?)),
            (None, None) => None,
        };
        Ok(LayerReport {
            node: node.name().to_owned(),
            kernel: attributes.kernel,
            stride: attributes.stride,
            padding: attributes.padding,
            in_channels: attributes.in_channels,
            out_channels: attributes.out_channels,
            input_map: [input.height, input.width],
            output_map: [node.shape().height, node.shape().width],
            weights: weights.len(),
            terms: geometry.elements(),
            weight_min: weights.iter().copied().fold(f32::INFINITY, f32::min),
            weight_max: weights.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            activations,
            weight_shares: activations.map(|range| WeightShares::of(self.count(range))),
            bias,
            quantization: quantized.map(|layer| QuantizationReport {
                weight_bits: layer.weight_format.bits,
                activation_bits: layer.activation_format.bits,
                groups: layer.groups.len(),
                scales: layer.groups.iter().map(|group| group.scale).collect(),
                saturated: layer.saturated(),
            }),
        })
    }
}

fn summary(bias: &[f32]) -> BiasReport {
    BiasReport {
        min: bias.iter().copied().fold(f32::INFINITY, f32::min),
        max: bias.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        mean: bias.iter().map(|&b| f64::from(b)).sum::<f64>() / bias.len() as f64,
    }
}

#[cfg(test)]
mod tests;
