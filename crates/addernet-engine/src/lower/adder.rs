//! Adder layers: weights on the grid of their input's codes.

use addernet_graph::{ConvAttributes, Node, NodeId};
use addernet_kernels::CodeRange;
use addernet_quant::QuantizedLayer;

use super::{Affines, Lowering, units};
use crate::error::EngineError;
use crate::program::*;

/// The operator reads a multiple of so many channels without a copy.
pub(super) const CHANNELS: usize = 8;

/// How a layer's activation codes are stored: (q − min) · factor, in units that its weights share.
///
/// # Errors
/// If they take more than 8 bits.
pub(super) fn code_range(node: &Node, layer: &QuantizedLayer) -> Result<CodeRange, EngineError> {
    let format = layer.activation_format;
    let factor = format.multiplier / common_divisor(layer);
    let steps = format.max() - format.min();
    match u8::try_from(steps * i32::from(factor)) {
        Ok(_) => Ok(CodeRange {
            max: steps as u8,
            factor,
        }),
        Err(_) => Err(EngineError::layer(
            node.name(),
            format!(
                "its activations span {} units of the weights' grid, and the engine's operator has codes of 8 \
                 bits (255 units); use fewer activation bits",
                steps * i32::from(factor)
            ),
        )),
    }
}

/// The units that both formats are multiples of.
fn common_divisor(layer: &QuantizedLayer) -> u8 {
    let (mut a, mut b) = (
        layer.activation_format.multiplier,
        layer.weight_format.multiplier,
    );
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl<'m> Lowering<'m> {
    pub(super) fn adder(
        &mut self,
        id: NodeId,
        node: &'m Node,
        attributes: &ConvAttributes,
    ) -> Result<(), EngineError> {
        let Some(layer) = self.quantized.layers().get(node.name()) else {
            return Err(EngineError::layer(node.name(), "it is not quantized"));
        };
        let divisor = i32::from(common_divisor(layer));
        let [low, high] = units(layer.activation_format).map(|unit| unit / divisor);
        let (taps, kernels) = (layer.taps(), attributes.out_channels);
        let mut weights = vec![Vec::new(); layer.groups.len()];
        let mut channels = vec![Vec::new(); layer.groups.len()];
        let mut affines = Affines {
            gain: Vec::with_capacity(kernels),
            offset: Vec::with_capacity(kernels),
            range: Vec::with_capacity(kernels),
            centre: Vec::with_capacity(kernels),
        };
        for (o, codes) in layer.codes.chunks_exact(taps).enumerate() {
            let group = layer.group_of[o];
            // No activation is outside [low, high]: a weight there can move to its end, and what it
            // moves by is the same in every sum.
            let (mut excess, mut most) = (0i64, 0i64);
            for &code in codes {
                let weight = layer.weight_format.units(code) / divisor;
                let clamped = weight.clamp(low, high);
                excess += i64::from((weight - clamped).abs());
                most += i64::from((clamped - low).max(high - clamped));
                weights[group].push((clamped - low) as u8);
            }
            channels[group].push(o);
            // In the order in which the codes' unit is formed: the layer's step is common to both.
            let step = f64::from(layer.groups[group].scale) / f64::from(layer.groups[group].levels)
                * f64::from(divisor);
            affines.gain.push(-step);
            affines
                .offset
                .push(f64::from(layer.bias[o]) - step * excess as f64);
            affines.range.push([0, most]);
            affines.centre.push(most as f64 / 2.0);
            if most > i64::from(i32::MAX) {
                return Err(EngineError::Overflow {
                    node: node.name().to_owned(),
                    what: "a sum",
                    worst: most as f64,
                    limit: f64::from(i32::MAX),
                });
            }
        }
        let groups = weights
            .into_iter()
            .zip(channels)
            .zip(self.group_codes[id].clone())
            .filter(|((_, channels), _)| !channels.is_empty())
            .map(|((weights, channels), input)| AdderGroup {
                input,
                window: Window {
                    shape: ConvAttributes {
                        out_channels: channels.len(),
                        ..*attributes
                    }
                    .weight_shape(),
                    stride: attributes.stride,
                    padding: attributes.padding,
                },
                channels,
                weights,
                // What `code_range` found to fit.
                largest: (high - low) as u8,
            })
            .collect();
        let chain = self.chain(id, true)?;
        let finish = self.finish_sums(node, taps, affines, chain)?;
        let out = node.shape();
        self.step(
            node,
            StepKind::Adder(Adder {
                groups,
                out,
                finish,
            }),
        );
        Ok(())
    }
}
