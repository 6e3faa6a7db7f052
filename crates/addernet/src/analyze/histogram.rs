//! Histograms on an axis that weights and activations share.

use std::collections::BTreeMap;

use addernet_graph::{Hook, HookError, Node, NodeId};
use addernet_quant::QuantizedLayer;
use ndarray::Array4;
use serde::Serialize;

/// Bins over the whole axis, about.
const BINS: f64 = 120.0;

/// Bins of equal width in asinh(value/unit): linear within ± unit, logarithmic beyond, so that both the
/// narrow activations and weights that lie far outside them are seen. Without a unit the bins are of
/// equal width in the value itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Axis {
    /// Where the axis turns from linear to logarithmic; absent if it is linear.
    pub unit: Option<f64>,
    /// Borders of the bins, rising; one of them is 0.
    pub edges: Vec<f64>,
    #[serde(skip)]
    width: f64,
    #[serde(skip)]
    first: i64,
}

impl Axis {
    /// An axis that covers `low` to `high` and 0, all finite.
    pub(super) fn new(low: f32, high: f32, unit: Option<f64>) -> Self {
        let unit = unit.filter(|unit| *unit > 0.0 && unit.is_finite());
        let mut axis = Self {
            unit,
            edges: Vec::new(),
            width: 1.0,
            first: 0,
        };
        let [from, to] = [low.min(0.0), high.max(0.0)].map(|v| axis.place(f64::from(v)));
        axis.width = match (to - from) / BINS {
            width if width > 0.0 => width,
            _ => 1.0,
        };
        // Whole bins on either side of 0.
        axis.first = (from / axis.width).floor() as i64;
        let last = ((to / axis.width).ceil() as i64).max(axis.first + 1);
        axis.edges = (axis.first..=last)
            .map(|edge| axis.value(edge as f64 * axis.width))
            .collect();
        axis
    }

    /// Where `value` lies on the axis, in units of its own that are proportional to length.
    pub fn place(&self, value: f64) -> f64 {
        match self.unit {
            Some(unit) => (value / unit).asinh(),
            None => value,
        }
    }

    fn value(&self, place: f64) -> f64 {
        match self.unit {
            Some(unit) => unit * place.sinh(),
            None => place,
        }
    }

    /// The bin of `value`; values beyond the ends are in the first or last one.
    fn bin(&self, value: f32) -> usize {
        let place = (self.place(f64::from(value)) / self.width).floor();
        // The cast saturates.
        let bin = (place as i64).saturating_sub(self.first);
        bin.clamp(0, self.edges.len() as i64 - 2) as usize
    }

    /// How many of `values` are in each bin.
    pub(super) fn count<'v>(&self, values: impl IntoIterator<Item = &'v f32>) -> Vec<u64> {
        let mut counts = vec![0; self.edges.len() - 1];
        for &value in values {
            counts[self.bin(value)] += 1;
        }
        counts
    }
}

/// How often each weight code occurs in a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CodeHistogram {
    /// Bits of a code.
    pub bits: u8,
    /// The code that the first count is about; the others follow it.
    pub first: i32,
    /// Number of weights per code.
    pub counts: Vec<u64>,
    /// Share of weights at the ends of the codes' range, 0 to 1.
    pub saturated: f64,
}

impl CodeHistogram {
    pub(super) fn of(layer: &QuantizedLayer) -> Self {
        let format = layer.weight_format;
        let first = format.min();
        let mut counts = vec![0u64; (format.max() - first + 1) as usize];
        for &code in &layer.codes {
            if let Some(count) = counts.get_mut((code - first) as usize) {
                *count += 1;
            }
        }
        Self {
            bits: format.bits,
            first,
            counts,
            saturated: layer.saturated(),
        }
    }
}

/// Counts the input activations of the adder layers of which it has an axis.
pub(super) struct ActivationCounter {
    /// Axis and counts by node name.
    pub(super) layers: BTreeMap<String, (Axis, Vec<u64>)>,
}

impl Hook for ActivationCounter {
    fn inputs(&mut self, _: NodeId, node: &Node, inputs: &[&Array4<f32>]) -> Result<(), HookError> {
        if let (Some((axis, counts)), [x]) = (self.layers.get_mut(node.name()), inputs) {
            let batch = axis.count(*x);
            counts
                .iter_mut()
                .zip(batch)
                .for_each(|(total, count)| *total += count);
        }
        Ok(())
    }
}
