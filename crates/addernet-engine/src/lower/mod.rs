//! From a quantized model to a [`Program`]: every constant is computed here, once, in f64 operations
//! that give the same result everywhere.

mod adder;
mod bn;
mod chain;
pub(crate) mod formats;
mod ordinary;
mod plan;

use addernet_graph::{Graph, Model, Node, NodeId, Op, PoolAttributes, Preprocessing};
use addernet_kernels::{ChannelScales, CodeRange, CodeScale};
use addernet_quant::{CodeFormat, QuantizedModel};

use crate::error::EngineError;
use crate::fixed::{Affine, FixedPoint, Limits};
use crate::headroom::LayerHeadroom;
use crate::program::*;
use bn::BatchNorm;
use formats::exp2;

/// Codes that an adder layer wants of the node it reads.
struct Request {
    codes: CodesId,
    /// What a step of the code is worth.
    unit: f64,
    /// The smallest code: q − min is stored, times the range's factor.
    min: i32,
    range: CodeRange,
}

/// A real affine function per channel of a layer's integer sums.
struct Affines {
    gain: Vec<f64>,
    offset: Vec<f64>,
    /// Smallest and largest sum.
    range: Vec<[i64; 2]>,
    centre: Vec<f64>,
}

/// The lowering in progress.
struct Lowering<'m> {
    quantized: &'m QuantizedModel,
    model: &'m Model,
    graph: &'m Graph,
    preprocessing: &'m Preprocessing,
    /// The nodes that read each node, once per input that they read it by.
    readers: Vec<Vec<NodeId>>,
    fractions: Vec<i32>,
    requests: Vec<Vec<Request>>,
    /// For each adder layer, where each of its groups finds its codes.
    group_codes: Vec<Vec<CodesId>>,
    map_of: Vec<Option<MapId>>,
    done: Vec<bool>,
    steps: Vec<Step>,
    maps: Vec<MapSpec>,
    codes: Vec<CodesSpec>,
    headroom: Vec<LayerHeadroom>,
    /// Where the logits are, if the last layer is an ordinary one.
    wide: Option<i32>,
}

impl Program {
    /// Lowers a quantized model.
    ///
    /// # Errors
    /// If the model does not say how pixels are normalised, a layer cannot run on integers, or a sum or a
    /// product could overflow; the error names the layer.
    pub fn lower(quantized: &QuantizedModel) -> Result<Self, EngineError> {
        let model = quantized.model();
        let graph = model.graph();
        let Some(preprocessing) = &model.info().preprocessing else {
            return Err(EngineError::NoPreprocessing {
                graph: graph.name().to_owned(),
            });
        };
        let count = graph.nodes().len();
        let mut readers = vec![Vec::new(); count];
        for (id, node) in graph.nodes().iter().enumerate() {
            node.inputs()
                .iter()
                .for_each(|&input| readers[input].push(id));
        }
        let mut lowering = Lowering {
            quantized,
            model,
            graph,
            preprocessing,
            readers,
            fractions: formats::fractions(model, quantized.layers())?,
            requests: (0..count).map(|_| Vec::new()).collect(),
            group_codes: vec![Vec::new(); count],
            map_of: vec![None; count],
            done: vec![false; count],
            steps: Vec::new(),
            maps: Vec::new(),
            codes: Vec::new(),
            headroom: Vec::new(),
            wide: None,
        };
        lowering.request_codes()?;
        for (id, node) in graph.nodes().iter().enumerate() {
            if !lowering.done[id] {
                lowering.node(id, node)?;
            }
        }
        lowering.finish()
    }
}

impl<'m> Lowering<'m> {
    /// Lowers `node` and what can be computed together with it.
    fn node(&mut self, id: NodeId, node: &'m Node) -> Result<(), EngineError> {
        match node.op() {
            Op::Input => self.input(id, node),
            Op::AdderConv(attributes) => self.adder(id, node, attributes),
            Op::Conv(attributes) if node.inputs() == [0] => self.pixel_conv(id, node, attributes),
            Op::Conv(_) | Op::Linear { .. } => self.dense(id, node),
            Op::BatchNorm { eps, .. } => {
                let bn = BatchNorm::of(self.model, node, *eps)?;
                let from = node.inputs()[0];
                let unit = exp2(-self.fractions[from]);
                let channels = 0..bn.gain.len();
                let affines = Affines {
                    gain: channels.clone().map(|c| bn.gain[c] * unit).collect(),
                    offset: channels.clone().map(|c| bn.offset(c)).collect(),
                    range: vec![MAP_RANGE; channels.len()],
                    centre: bn.mean.iter().map(|mean| mean / unit).collect(),
                };
                let (scales, _) = self.to_map(node, &affines, id)?;
                let from = self.map(node, from)?;
                self.plain(id, node, |to| StepKind::Rescale { from, scales, to })
            }
            Op::Relu => {
                let from = self.map(node, node.inputs()[0])?;
                self.plain(id, node, |to| StepKind::Relu { from, to })
            }
            Op::Add => {
                let from = [
                    self.map(node, node.inputs()[0])?,
                    self.map(node, node.inputs()[1])?,
                ];
                self.plain(id, node, |to| StepKind::Add { from, to })
            }
            Op::MaxPool(pool) => self.pool(id, node, pool, true),
            Op::AvgPool(pool) => self.pool(id, node, pool, false),
            Op::GlobalAvgPool => {
                let input = self.graph.nodes()[node.inputs()[0]].shape();
                let whole = PoolAttributes {
                    kernel: [input.height, input.width],
                    stride: [1, 1],
                    padding: [0, 0],
                };
                self.pool(id, node, &whole, false)
            }
            Op::Flatten => {
                let from = self.map(node, node.inputs()[0])?;
                self.plain(id, node, |to| StepKind::Flatten { from, to })
            }
            other => Err(EngineError::layer(
                node.name(),
                format!("the integer engine does not know `{}`", other.kind()),
            )),
        }
    }

    fn pool(
        &mut self,
        id: NodeId,
        node: &Node,
        pool: &PoolAttributes,
        max: bool,
    ) -> Result<(), EngineError> {
        let from = self.map(node, node.inputs()[0])?;
        let pool = Pool {
            kernel: pool.kernel,
            stride: pool.stride,
            padding: pool.padding,
            max,
        };
        self.plain(id, node, |to| StepKind::Pool { from, pool, to })
    }

    /// The step of a node that computes a map from maps, and the codes that others want of it.
    fn plain(
        &mut self,
        id: NodeId,
        node: &Node,
        kind: impl FnOnce(MapId) -> StepKind,
    ) -> Result<(), EngineError> {
        let to = self.new_map(id);
        self.step(node, kind(to));
        self.done[id] = true;
        let codes = self.map_codes(id, node)?;
        if !codes.is_empty() {
            self.step(node, StepKind::Quantize { from: to, codes });
        }
        Ok(())
    }

    /// Turns the images into a map, if anything but an ordinary convolution reads them.
    fn input(&mut self, id: NodeId, node: &Node) -> Result<(), EngineError> {
        self.done[id] = true;
        let convolved = |&reader: &NodeId| matches!(self.graph.nodes()[reader].op(), Op::Conv(_));
        if self.readers[id].iter().all(convolved) {
            return Ok(());
        }
        let Preprocessing { mean, std } = self.preprocessing;
        let divisor = |&std: &f32| 255.0 * f64::from(std);
        let affines = Affines {
            gain: std.iter().map(|std| 1.0 / divisor(std)).collect(),
            offset: mean
                .iter()
                .zip(std)
                .map(|(&mean, &std)| -f64::from(mean) / f64::from(std))
                .collect(),
            range: vec![[0, 255]; mean.len()],
            centre: mean.iter().map(|&mean| f64::from(mean) * 255.0).collect(),
        };
        let (scales, _) = self.to_map(node, &affines, id)?;
        self.plain(id, node, |map| StepKind::PixelMap { scales, map })
    }

    /// The constants that turn a layer's sums into the map of node `to`, and the largest product.
    fn to_map(
        &self,
        node: &Node,
        affines: &Affines,
        to: NodeId,
    ) -> Result<(ChannelScales, i64), EngineError> {
        self.scales(node, affines, exp2(self.fractions[to]), 0.0)
    }

    /// The constants that turn a layer's sums into real · factor + offset, and the largest product.
    fn scales(
        &self,
        node: &Node,
        affines: &Affines,
        factor: f64,
        offset: f64,
    ) -> Result<(ChannelScales, i64), EngineError> {
        let mut worst = 0;
        let fixed = affines
            .channels(factor, offset)
            .map(|affine| {
                let fixed = fixed(node, &affine, Limits::NARROW)?;
                worst = worst.max(fixed.worst(affine.range));
                // The limits are those of i32.
                Ok((fixed.multiplier as i32, fixed.offset as i32, fixed.shift))
            })
            .collect::<Result<Vec<_>, EngineError>>()?;
        let scales = ChannelScales::new(fixed).map_err(EngineError::kernel(node.name()))?;
        Ok((scales, worst))
    }

    /// The codes that others want of node `id`, taken from its map.
    fn map_codes(&self, id: NodeId, node: &Node) -> Result<Vec<MapCodes>, EngineError> {
        let request = |request: &Request| {
            let affine = Affine {
                // From 256 on the gain makes no difference: 0 is code `zero`, and any other value
                // is beyond the first or the last code.
                gain: (exp2(-self.fractions[id]) / request.unit).min(256.0),
                offset: 0.0,
                range: MAP_RANGE,
                centre: 0.0,
            };
            let FixedPoint {
                multiplier, shift, ..
            } = fixed(node, &affine, Limits::CODES)?;
            // The limits are those of a code scale; codes have 8 bits.
            let scale = CodeScale::new(multiplier as i16, shift, -request.min as i16)
                .map_err(EngineError::kernel(node.name()))?;
            Ok(MapCodes {
                codes: request.codes,
                scale,
                range: request.range,
            })
        };
        self.requests[id].iter().map(request).collect()
    }

    /// Whether anything but adder layers reads node `id`.
    fn needs_map(&self, id: NodeId) -> bool {
        let readers = &self.readers[id];
        readers.is_empty()
            || readers
                .iter()
                .any(|&reader| self.graph.nodes()[reader].adder().is_none())
    }

    /// The map of node `from`, which `node` reads.
    fn map(&self, node: &Node, from: NodeId) -> Result<MapId, EngineError> {
        self.map_of[from]
            .ok_or_else(|| EngineError::layer(node.name(), "its input was not computed as a map"))
    }

    fn new_map(&mut self, id: NodeId) -> MapId {
        let shape = self.graph.nodes()[id].shape();
        self.maps.push(MapSpec {
            shape,
            slot: 0,
            node: id,
            fraction: self.fractions[id],
        });
        self.map_of[id] = Some(self.maps.len() - 1);
        self.maps.len() - 1
    }

    fn new_codes(&mut self, layout: CodesLayout, meaning: Option<CodesMeaning>) -> CodesId {
        self.codes.push(CodesSpec {
            layout,
            slot: 0,
            meaning,
        });
        self.codes.len() - 1
    }

    fn step(&mut self, node: &Node, kind: StepKind) {
        let node = node.name().to_owned();
        self.steps.push(Step { node, kind });
    }

    /// Lists, for every node, the codes that adder layers want of it.
    fn request_codes(&mut self) -> Result<(), EngineError> {
        for (id, node, attributes) in self.graph.adder_nodes() {
            let Some(layer) = self.quantized.layers().get(node.name()) else {
                return Err(EngineError::layer(node.name(), "it is not quantized"));
            };
            let format = layer.activation_format;
            let range = adder::code_range(node, layer)?;
            let from = node.inputs()[0];
            let shape = self.graph.nodes()[from].shape();
            let zero = (-format.min()) as u8 * range.factor;
            for group in &layer.groups {
                let unit =
                    f64::from(format.multiplier) * f64::from(group.scale) / f64::from(group.levels);
                let request = Request {
                    codes: self.codes.len(),
                    unit,
                    min: format.min(),
                    range,
                };
                let layout = CodesLayout {
                    shape,
                    padding: attributes.padding,
                    pad: vec![zero; shape.channels],
                    multiple: adder::CHANNELS,
                };
                let codes = self.request(from, request, layout);
                self.group_codes[id].push(codes);
            }
        }
        Ok(())
    }

    /// The codes of node `from` that a request asks for: those of an equal one, with a border wide enough
    /// for both, or new ones.
    fn request(&mut self, from: NodeId, request: Request, layout: CodesLayout) -> CodesId {
        let same = self.requests[from]
            .iter()
            .find(|r| r.unit == request.unit && r.min == request.min && r.range == request.range);
        if let Some(&Request { codes, .. }) = same {
            let own = &mut self.codes[codes].layout.padding;
            *own = [0, 1].map(|axis| own[axis].max(layout.padding[axis]));
            return codes;
        }
        let factor = request.range.factor;
        let meaning = CodesMeaning {
            node: from,
            unit: request.unit / f64::from(factor),
            largest: request.range.max * factor,
        };
        let codes = self.new_codes(layout, Some(meaning));
        self.requests[from].push(Request { codes, ..request });
        codes
    }

    fn finish(mut self) -> Result<Program, EngineError> {
        let last = self.graph.nodes().len() - 1;
        let output = match self.wide {
            Some(fraction) => Output {
                from: OutputFrom::Wide,
                classes: self.graph.output().shape().values(),
                fraction,
            },
            None => Output {
                from: OutputFrom::Map(self.map(self.graph.output(), last)?),
                classes: self.graph.output().shape().values(),
                fraction: self.fractions[last],
            },
        };
        self.codes.iter_mut().for_each(|codes| codes.layout.align());
        plan::assign_slots(&self.steps, &mut self.maps, &mut self.codes, output);
        Ok(Program {
            graph: self.graph.clone(),
            preprocessing: self.preprocessing.clone(),
            class_names: self.model.info().class_names.clone(),
            steps: self.steps,
            maps: self.maps,
            codes: self.codes,
            output,
            headroom: self.headroom,
        })
    }
}

/// Values of a map.
const MAP_RANGE: [i64; 2] = [i16::MIN as i64, i16::MAX as i64];

/// The constants for an affine function of a node's sums.
fn fixed(node: &Node, affine: &Affine, limits: Limits) -> Result<FixedPoint, EngineError> {
    affine.fixed(limits).map_err(|worst| EngineError::Overflow {
        node: node.name().to_owned(),
        what: "a scaled sum",
        worst,
        limit: limits.value as f64,
    })
}

impl Affines {
    /// Each channel's function, scaled and shifted.
    fn channels(&self, factor: f64, offset: f64) -> impl Iterator<Item = Affine> + '_ {
        (0..self.gain.len()).map(move |c| Affine {
            gain: self.gain[c] * factor,
            offset: self.offset[c] * factor + offset,
            range: self.range[c],
            centre: self.centre[c],
        })
    }

    /// BN after the layer: gain and offset become those of BN's output.
    fn then(&mut self, bn: &BatchNorm) {
        for c in 0..self.gain.len() {
            // Where the layer's output is BN's mean.
            if self.gain[c] != 0.0 {
                self.centre[c] = (bn.mean[c] - self.offset[c]) / self.gain[c];
            }
            self.offset[c] = self.offset[c] * bn.gain[c] + bn.offset(c);
            self.gain[c] *= bn.gain[c];
        }
    }

    /// The largest magnitude of a sum.
    fn worst_sum(&self) -> i64 {
        let worst = |[low, high]: &[i64; 2]| low.abs().max(high.abs());
        self.range.iter().map(worst).max().unwrap_or(0)
    }
}

/// The smallest and largest code as numbers of grid units.
fn units(format: CodeFormat) -> [i32; 2] {
    [format.units(format.min()), format.units(format.max())]
}
