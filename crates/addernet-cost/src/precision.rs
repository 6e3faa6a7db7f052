//! What numbers a network is computed with.

use std::collections::{BTreeMap, HashMap};

use addernet_graph::Graph;
use addernet_quant::{BITS, MAX_GROUPS, QuantizedLayer, QuantizedModel};
use serde::{Deserialize, Serialize};

use crate::error::CostError;

/// Numbers of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floating point.
    Float,
    /// Integers as in docs/INTEGER.md: the adder layers' codes as given per node; 8-bit pixels and
    /// weights in the other layers; 16-bit maps between layers where codes do not do.
    Integer(BTreeMap<String, LayerPrecision>),
}

/// Codes of an adder layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerPrecision {
    /// Bits of a weight.
    pub weight_bits: u8,
    /// Bits of an activation.
    pub activation_bits: u8,
    /// Bits that |x − w| is computed with: of the grid that both share.
    pub grid_bits: u8,
    /// Worth of an activation's code step, one per distinct scale. The activations are requantized for
    /// each; layers that read the same node with the same worth share the codes. Only equality matters.
    pub scales: Vec<f64>,
}

impl Precision {
    /// What `model` is made of.
    pub fn of(model: &QuantizedModel) -> Self {
        let layers = model.layers().iter();
        Precision::Integer(
            layers
                .map(|(name, layer)| (name.clone(), LayerPrecision::of(layer)))
                .collect(),
        )
    }

    /// All adder layers of `graph` with these bits, and with so many groups of different scales each (at
    /// most one per kernel). One scale is the range of what the layer reads, so that layers that read the same
    /// node share its codes; further ones are a layer's own.
    ///
    /// # Errors
    /// If bits are not 2 to 8 or groups not 1 to 255.
    pub fn uniform(
        graph: &Graph,
        weight_bits: u8,
        activation_bits: u8,
        groups: usize,
    ) -> Result<Self, CostError> {
        let bits = graph
            .adder_nodes()
            .map(|(_, node, _)| (node.name().to_owned(), [weight_bits, activation_bits]))
            .collect();
        let mut precision = Self::per_layer(graph, &bits, groups)?;
        if let Precision::Integer(layers) = &mut precision {
            for (_, node, _) in graph.adder_nodes() {
                let first = layers
                    .get_mut(node.name())
                    .and_then(|layer| layer.scales.first_mut());
                if let (Some(scale), Some(&input)) = (first, node.inputs().first()) {
                    *scale = -(input as f64);
                }
            }
        }
        Ok(precision)
    }

    /// Each adder layer of `graph` with its own `[weight bits, activation bits]` and scales: no two layers share codes.
    ///
    /// # Errors
    /// If bits are not 2 to 8, a layer has none or is none, or groups are not 1 to 255.
    pub fn per_layer(
        graph: &Graph,
        bits: &BTreeMap<String, [u8; 2]>,
        groups: usize,
    ) -> Result<Self, CostError> {
        if !(1..=MAX_GROUPS).contains(&groups) {
            let reason = format!("must be 1 to {MAX_GROUPS}, got {groups}");
            return Err(CostError::config("groups", reason));
        }
        if let Some(name) = bits
            .keys()
            .find(|name| graph.node(name).is_none_or(|node| node.adder().is_none()))
        {
            let reason = format!("it is no adder layer of `{}`: leave it out", graph.name());
            return Err(CostError::layer(name, reason));
        }
        let mut layers = BTreeMap::new();
        for (id, node, attributes) in graph.adder_nodes() {
            let Some(&[weight_bits, activation_bits]) = bits.get(node.name()) else {
                return Err(CostError::layer(node.name(), "no bits were given for it"));
            };
            for bits in [weight_bits, activation_bits] {
                check_bits(bits)?;
            }
            let groups = groups.min(attributes.out_channels);
            // Any numbers that no other layer has.
            let scale = |group: usize| (id * (MAX_GROUPS + 1) + group + 1) as f64;
            layers.insert(
                node.name().to_owned(),
                LayerPrecision {
                    weight_bits,
                    activation_bits,
                    grid_bits: weight_bits.max(activation_bits),
                    scales: (0..groups).map(scale).collect(),
                },
            );
        }
        Ok(Precision::Integer(layers))
    }

    /// Bits of all adder layers, `4` or `2/4` (weights, activations); `32` in floating point. `mixed` if layers
    /// differ.
    pub fn bits(&self) -> String {
        let Precision::Integer(layers) = self else {
            return "32".to_owned();
        };
        let mut all = layers.values().map(|l| (l.weight_bits, l.activation_bits));
        match all.next() {
            Some(first) if all.any(|other| other != first) => "mixed".to_owned(),
            Some((weights, activations)) if weights == activations => weights.to_string(),
            Some((weights, activations)) => format!("{weights}/{activations}"),
            None => "8".to_owned(),
        }
    }

    /// Each adder layer's precision, by node; nothing in floating point.
    ///
    /// # Errors
    /// If a layer is missing, or what it says cannot be.
    pub(crate) fn layers(
        &self,
        graph: &Graph,
    ) -> Result<HashMap<usize, &LayerPrecision>, CostError> {
        let Precision::Integer(layers) = self else {
            return Ok(HashMap::new());
        };
        let mut found = HashMap::new();
        for (id, node, _) in graph.adder_nodes() {
            let Some(layer) = layers.get(node.name()) else {
                return Err(CostError::layer(node.name(), "no bits were given for it"));
            };
            for bits in [layer.weight_bits, layer.activation_bits] {
                check_bits(bits)?;
            }
            let least = layer.weight_bits.max(layer.activation_bits);
            if layer.scales.is_empty() || !(1..=16).contains(&layer.grid_bits) {
                let reason = format!(
                    "a grid of {} bits and {} scales cannot be (codes of {least} bits)",
                    layer.grid_bits,
                    layer.scales.len()
                );
                return Err(CostError::layer(node.name(), reason));
            }
            found.insert(id, layer);
        }
        Ok(found)
    }
}

impl LayerPrecision {
    fn of(layer: &QuantizedLayer) -> Self {
        let (weight, activation) = (layer.weight_format, layer.activation_format);
        let [m_w, m_x] = [weight.multiplier, activation.multiplier].map(u32::from);
        let divisor = gcd(m_w, m_x).max(1);
        // Weights beyond the activations' codes are cut to them, exactly (docs/INTEGER.md).
        let span = (activation.max() - activation.min()).unsigned_abs() * (m_x / divisor);
        let mut scales: Vec<f64> = Vec::new();
        for group in &layer.groups {
            let scale = f64::from(m_x) * f64::from(group.scale) / f64::from(group.levels);
            if !scales.contains(&scale) {
                scales.push(scale);
            }
        }
        Self {
            weight_bits: weight.bits,
            activation_bits: activation.bits,
            grid_bits: (u32::BITS - span.leading_zeros()) as u8,
            scales,
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    match b {
        0 => a,
        _ => gcd(b, a % b),
    }
}

pub(crate) fn check_bits(bits: u8) -> Result<(), CostError> {
    match BITS.contains(&bits) {
        true => Ok(()),
        false => {
            let reason = format!("must be 2 to 8, got {bits}");
            Err(CostError::config("bits", reason))
        }
    }
}
