//! A quantized model: the graph with every adder layer in integers.

use std::collections::BTreeMap;

use addernet_graph::{Model, Op};
use ndarray::ArrayD;
use serde::{Deserialize, Serialize};

use crate::error::QuantError;
use crate::layer::QuantizedLayer;
use crate::method::{FloatLayer, Method};
use crate::nudge::nudge;
use crate::observer::Observations;
use crate::ordinary::round_ordinary;
use crate::reconstruct::Reconstruction;

/// How a quantized model came about; stored with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The method's name.
    pub method: String,
    /// Bits of the weights; with mixed precision, the most that a layer has.
    pub weight_bits: u8,
    /// Bits of the activations; with mixed precision, the most that a layer has.
    pub activation_bits: u8,
    /// Groups asked for per layer (layers may end up with fewer distinct scales).
    pub groups: usize,
    /// Whether weights outside the activations' range became a bias.
    pub weight_clamp: bool,
    /// The outlier quantile; 1 means that no activation was clamped.
    pub outlier_quantile: f64,
    /// Number of calibration images.
    pub calibration_images: usize,
    /// Number of images that BN statistics were re-estimated on; 0: they are the float model's.
    pub bn_images: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Settings of the reconstruction, if that is the method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconstruction: Option<Reconstruction>,
}

/// A model whose adder layers are integers.
///
/// Its [`model`](Self::model) is a float model: BN as it runs, and the other layers with the weights that the codes
/// stand for, ordinary ones with 8 bits.
#[derive(Clone, Debug)]
pub struct QuantizedModel {
    model: Model,
    layers: BTreeMap<String, QuantizedLayer>,
    provenance: Provenance,
}

impl QuantizedModel {
    /// Quantizes every adder layer of `model` with `method`.
    ///
    /// # Errors
    /// If a layer was not calibrated or the method refuses it; the error names the layer.
    pub fn quantize(
        model: &Model,
        observations: &Observations,
        method: &dyn Method,
        provenance: Provenance,
    ) -> Result<Self, QuantError> {
        let layers = quantize_layers(model, observations, method)?;
        Self::from_layers(model, layers, provenance)
    }

    /// Puts quantized layers in the place of the float ones, and rounds the ordinary ones to 8 bits.
    ///
    /// # Errors
    /// If a layer's parts do not fit the graph, or one is missing.
    pub(crate) fn from_layers(
        float: &Model,
        layers: BTreeMap<String, QuantizedLayer>,
        provenance: Provenance,
    ) -> Result<Self, QuantError> {
        let float = round_ordinary(float)?;
        let mut graph = float.graph().clone();
        let mut parameters = float.parameters().clone();
        for (_, node, attributes) in float.graph().adder_nodes() {
            let layer = layers
                .get(node.name())
                .ok_or_else(|| QuantError::layer(node.name(), "it has no quantized form"))?;
            layer
                .check(attributes)
                .map_err(|reason| QuantError::layer(node.name(), reason))?;
            graph = graph.with_op(node.name(), Op::AdderConv(attributes.with_bias()))?;
            for (suffix, shape, values) in [
                (
                    "adder",
                    attributes.weight_shape().to_vec(),
                    layer.dequantized(),
                ),
                ("bias", vec![attributes.out_channels], layer.bias.clone()),
            ] {
                let array = ArrayD::from_shape_vec(shape, values)
                    .map_err(|e| QuantError::layer(node.name(), e.to_string()))?;
                parameters.insert(node.parameter(suffix), array);
            }
        }
        let model = float.with_parts(graph, parameters)?;
        Ok(Self {
            model,
            layers,
            provenance,
        })
    }

    /// The float model that the integers stand for.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The quantized layers by node name.
    pub fn layers(&self) -> &BTreeMap<String, QuantizedLayer> {
        &self.layers
    }

    /// How the model came about.
    pub fn provenance(&self) -> &Provenance {
        &self.provenance
    }

    /// The same codes between parameters of [`nudge`](crate::nudge()).
    ///
    /// # Errors
    /// If a layer lacks a parameter.
    pub fn nudged(&self, seed: u64) -> Result<Self, QuantError> {
        let model = nudge(&self.model, seed)?;
        let mut layers = self.layers.clone();
        for (_, node, _) in model.graph().adder_nodes() {
            if let Some(layer) = layers.get_mut(node.name()) {
                layer.bias = model.values(node, "bias")?.to_vec();
            }
        }
        Ok(Self {
            model,
            layers,
            provenance: self.provenance.clone(),
        })
    }

    /// The same layers around another float model (of the same graph), with changed provenance.
    pub(crate) fn with_model(&self, model: Model, provenance: Provenance) -> Self {
        Self {
            model,
            layers: self.layers.clone(),
            provenance,
        }
    }
}

/// Quantizes every adder layer of `model` with `method`: the layers by node name, on their own.
///
/// # Errors
/// If a layer was not calibrated, the method refuses it (the error names the layer), or there is none.
pub fn quantize_layers(
    model: &Model,
    observations: &Observations,
    method: &dyn Method,
) -> Result<BTreeMap<String, QuantizedLayer>, QuantError> {
    let graph = model.graph();
    let mut layers = BTreeMap::new();
    for (_, node, attributes) in graph.adder_nodes() {
        let layer = FloatLayer::new(model, node, attributes, observations)?;
        layers.insert(node.name().to_owned(), method.quantize(&layer)?);
    }
    if layers.is_empty() {
        return Err(QuantError::config(
            "model",
            format!(
                "the graph `{}` has no adder layer to quantize",
                graph.name()
            ),
        ));
    }
    Ok(layers)
}

#[cfg(test)]
mod tests;
