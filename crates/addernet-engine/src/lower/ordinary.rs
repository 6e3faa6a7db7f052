//! Ordinary layers: the first convolution on pixels, and convolutions or linear layers on maps.

use addernet_graph::{ConvAttributes, Node, NodeId, Op, Preprocessing};
use addernet_kernels::PIXEL_GROUP;
use addernet_quant::OrdinaryKernel;

use super::formats::exp2;
use super::{Affines, Lowering, MAP_RANGE, fixed};
use crate::error::EngineError;
use crate::fixed::Limits;
use crate::headroom::LayerHeadroom;
use crate::program::*;

impl<'m> Lowering<'m> {
    /// The ordinary convolution of the image. Pixels stay as they are: normalisation is folded into
    /// weights and offset, and a padded tap, 0 after normalisation, is the pixel nearest to it.
    pub(super) fn pixel_conv(
        &mut self,
        id: NodeId,
        node: &'m Node,
        attributes: &ConvAttributes,
    ) -> Result<(), EngineError> {
        let Preprocessing { mean, std } = self.preprocessing;
        let zeros: Vec<f64> = mean
            .iter()
            .map(|&mean| {
                (f64::from(mean) * 255.0)
                    .round_ties_even()
                    .clamp(0.0, 255.0)
            })
            .collect();
        let area = attributes.kernel[0] * attributes.kernel[1];
        let taps = area * attributes.in_channels;
        let bias = self.bias(node, attributes.bias)?;
        let mut weights = Vec::new();
        let mut affines = Affines {
            gain: Vec::new(),
            offset: Vec::new(),
            range: Vec::new(),
            centre: Vec::new(),
        };
        for (o, kernel) in self
            .model
            .values(node, "weight")?
            .chunks_exact(taps)
            .enumerate()
        {
            let per_pixel =
                |(i, &w): (usize, &f32)| f64::from(w) / (255.0 * f64::from(std[i / area]));
            let scaled: Vec<f64> = kernel.iter().enumerate().map(per_pixel).collect();
            let OrdinaryKernel { codes, step } = OrdinaryKernel::quantize(&scaled);
            let mean = |i: usize| f64::from(mean[i / area]) * 255.0;
            // Σ w·(x − mean), of which Σ code·x is the sum.
            let shift: f64 = codes
                .iter()
                .enumerate()
                .map(|(i, &code)| f64::from(code) * mean(i))
                .sum();
            affines.gain.push(step);
            affines.offset.push(bias[o] - step * shift);
            let sum = |positive: bool| -> i64 {
                codes
                    .iter()
                    .filter(|&&code| (code > 0) == positive)
                    .map(|&code| 255 * i64::from(code))
                    .sum()
            };
            affines.range.push([sum(false), sum(true)]);
            affines.centre.push(shift);
            weights.extend(codes);
        }
        let layout = CodesLayout {
            shape: self.graph.input_shape(),
            padding: attributes.padding,
            pad: zeros.iter().map(|&zero| zero as u8).collect(),
            multiple: PIXEL_GROUP,
        };
        let input = self.new_codes(layout, None);
        self.step(node, StepKind::Pixels { codes: input });
        let chain = self.chain(id, true)?;
        let finish = self.finish_sums(node, taps, affines, chain)?;
        let window = window(attributes);
        let conv = PixelConv {
            input,
            window,
            weights,
            finish,
        };
        self.step(node, StepKind::PixelConv(conv));
        Ok(())
    }

    /// A convolution or a linear layer of a map, in i16 x i8 products and sums of 64 bits.
    pub(super) fn dense(&mut self, id: NodeId, node: &'m Node) -> Result<(), EngineError> {
        let attributes = match node.op() {
            Op::Conv(attributes) => *attributes,
            Op::Linear {
                in_features,
                out_features,
                bias,
            } => ConvAttributes {
                bias: *bias,
                ..ConvAttributes::square(*in_features, *out_features, 1, 1, 0)
            },
            _ => return Err(EngineError::layer(node.name(), "it is no ordinary layer")),
        };
        let from = node.inputs()[0];
        let unit = exp2(-self.fractions[from]);
        let from = self.map(node, from)?;
        let [outputs, channels, height, width] = attributes.weight_shape();
        let taps = channels * height * width;
        let bias = self.bias(node, attributes.bias)?;
        let chain = self.chain(id, false)?;
        let mut affines = Affines {
            gain: Vec::new(),
            offset: Vec::new(),
            range: Vec::new(),
            centre: Vec::new(),
        };
        let mut weights = Vec::with_capacity(outputs * taps);
        for (o, kernel) in self
            .model
            .values(node, "weight")?
            .chunks_exact(taps)
            .enumerate()
        {
            // From channel, row, column to row, column, channel.
            let reordered: Vec<f64> = (0..taps)
                .map(|i| f64::from(kernel[i % channels * height * width + i / channels]))
                .collect();
            let OrdinaryKernel { codes, step } = OrdinaryKernel::quantize(&reordered);
            let worst: i64 = codes.iter().map(|&code| i64::from(code).abs()).sum();
            affines.gain.push(step * unit);
            affines.offset.push(bias[o]);
            affines.range.push(MAP_RANGE.map(|value| value * worst));
            affines.centre.push(0.0);
            weights.extend(codes);
        }
        if let Some(bn) = &chain.bn {
            affines.then(bn);
        }
        let last = chain.last;
        let logits = last + 1 == self.graph.nodes().len() && !chain.relu;
        let fraction = if logits {
            LOGIT_FRACTION
        } else {
            self.fractions[last]
        };
        let mut product = 0;
        let scales = affines
            .channels(exp2(fraction), 0.0)
            .map(|affine| {
                let fixed = fixed(node, &affine, Limits::WIDE)?;
                product = product.max(fixed.worst(affine.range));
                Ok(fixed)
            })
            .collect::<Result<Vec<_>, EngineError>>()?;
        self.headroom.push(LayerHeadroom {
            node: node.name().to_owned(),
            taps,
            sum: affines.worst_sum(),
            sum_bits: 64,
            product,
            product_bits: 64,
        });
        let to = match logits {
            true => {
                self.wide = Some(fraction);
                None
            }
            false => Some(self.new_map(last)),
        };
        let dense = Dense {
            from,
            window: window(&attributes),
            weights,
            scales,
            relu: chain.relu,
            to,
        };
        self.step(node, StepKind::Dense(dense));
        if let Some(from) = to {
            let codes = self.map_codes(last, node)?;
            if !codes.is_empty() {
                self.step(node, StepKind::Quantize { from, codes });
            }
        }
        Ok(())
    }

    /// The node's bias in f64, or zeros.
    fn bias(&self, node: &Node, has: bool) -> Result<Vec<f64>, EngineError> {
        Ok(match has {
            true => self
                .model
                .values(node, "bias")?
                .iter()
                .map(|&b| f64::from(b))
                .collect(),
            false => vec![0.0; node.shape().channels],
        })
    }
}

/// Fraction bits of logits that an ordinary layer puts out: they saturate at ±2^17 (131,072).
const LOGIT_FRACTION: i32 = 14;

fn window(attributes: &ConvAttributes) -> Window {
    Window {
        shape: attributes.weight_shape(),
        stride: attributes.stride,
        padding: attributes.padding,
    }
}
