//! What a quantized model is lowered to: a list of steps on integer maps, with all constants.

use addernet_graph::{FeatureShape, Graph, NodeId, Preprocessing};
use addernet_kernels::{ChannelScales, CodeRange, CodeScale};

use crate::error::EngineError;
use crate::fixed::FixedPoint;
use crate::headroom::LayerHeadroom;

/// A map of i16 values, height x width x channels.
pub(crate) type MapId = usize;
/// A padded map of u8 codes or pixels.
pub(crate) type CodesId = usize;

/// A network in integers: see docs/INTEGER.md for what each step computes.
///
/// It is data, the same on every machine; [`Engine`](crate::Engine) prepares it for one CPU and
/// [`reference`](crate::reference) interprets it in the plainest way.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) graph: Graph,
    pub(crate) preprocessing: Preprocessing,
    pub(crate) class_names: Vec<String>,
    pub(crate) steps: Vec<Step>,
    pub(crate) maps: Vec<MapSpec>,
    pub(crate) codes: Vec<CodesSpec>,
    pub(crate) output: Output,
    pub(crate) headroom: Vec<LayerHeadroom>,
}

/// A map, and the slot of memory that holds it while it is needed.
#[derive(Clone, Debug)]
pub(crate) struct MapSpec {
    pub(crate) shape: FeatureShape,
    pub(crate) slot: usize,
    /// The node whose values it holds.
    pub(crate) node: NodeId,
    /// A value of v stands for v · 2^−fraction.
    pub(crate) fraction: i32,
}

/// A map of codes with its border.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CodesLayout {
    pub(crate) shape: FeatureShape,
    /// At least what its readers need: rows above and below, columns left and right.
    pub(crate) padding: [usize; 2],
    /// Codes of a padded tap, one per channel.
    pub(crate) pad: Vec<u8>,
    /// Channels are filled up to a multiple of this, with zeros.
    pub(crate) multiple: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct CodesSpec {
    pub(crate) layout: CodesLayout,
    pub(crate) slot: usize,
    /// None for pixels.
    pub(crate) meaning: Option<CodesMeaning>,
}

/// What activation codes stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CodesMeaning {
    /// The node whose values they hold.
    pub(crate) node: NodeId,
    /// A code of u stands for (u − zero) · unit, with zero the code of a padded tap.
    pub(crate) unit: f64,
    /// The largest code.
    pub(crate) largest: u8,
}

/// Where the logits are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) from: OutputFrom,
    /// Their number.
    pub(crate) classes: usize,
    /// A logit of v stands for v · 2^−fraction.
    pub(crate) fraction: i32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum OutputFrom {
    /// The values of a map.
    Map(MapId),
    /// The i32 sums of the last step.
    Wide,
}

/// One step.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The node that it computes first, for errors and reports.
    pub(crate) node: String,
    pub(crate) kind: StepKind,
}

#[derive(Clone, Debug)]
pub(crate) enum StepKind {
    /// Copies the pixels into a padded map.
    Pixels { codes: CodesId },
    /// Turns the pixels into a map.
    PixelMap { scales: ChannelScales, map: MapId },
    /// The ordinary convolution of pixels.
    PixelConv(PixelConv),
    /// The adder convolution of codes.
    Adder(Adder),
    /// The ordinary convolution or linear layer of a map.
    Dense(Dense),
    /// A scale per channel (BN on its own).
    Rescale {
        from: MapId,
        scales: ChannelScales,
        to: MapId,
    },
    /// v + w, clamped to i16.
    Add { from: [MapId; 2], to: MapId },
    /// max(v, 0).
    Relu { from: MapId, to: MapId },
    /// Maximum or rounded mean over windows.
    Pool { from: MapId, pool: Pool, to: MapId },
    /// Height x width x channels becomes channels x height x width, as a vector.
    Flatten { from: MapId, to: MapId },
    /// Codes of a map.
    Quantize { from: MapId, codes: Vec<MapCodes> },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool {
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    /// Maximum, else mean.
    pub(crate) max: bool,
}

/// Weights and window of a convolution.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// OIHW.
    pub(crate) shape: [usize; 4],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
}

#[derive(Clone, Debug)]
pub(crate) struct PixelConv {
    pub(crate) input: CodesId,
    pub(crate) window: Window,
    /// OIHW.
    pub(crate) weights: Vec<i8>,
    pub(crate) finish: Finish,
}

#[derive(Clone, Debug)]
pub(crate) struct Adder {
    pub(crate) groups: Vec<AdderGroup>,
    pub(crate) out: FeatureShape,
    pub(crate) finish: Finish,
}

/// The kernels that share a scale.
#[derive(Clone, Debug)]
pub(crate) struct AdderGroup {
    /// Codes with at least the window's padding around them.
    pub(crate) input: CodesId,
    /// Output channels, rising.
    pub(crate) channels: Vec<usize>,
    /// With the group's number of kernels.
    pub(crate) window: Window,
    /// Units on the input's grid, OIHW.
    pub(crate) weights: Vec<u8>,
    /// The largest of the input's codes.
    pub(crate) largest: u8,
}

/// What becomes of a layer's i32 sums.
#[derive(Clone, Debug)]
pub(crate) enum Finish {
    /// They become codes at once: nothing else reads them.
    Codes(SumCodes),
    /// They become a map.
    Map {
        scales: ChannelScales,
        residual: Option<MapId>,
        relu: bool,
        map: MapId,
        codes: Vec<MapCodes>,
    },
}

/// Codes of sums.
#[derive(Clone, Debug)]
pub(crate) struct SumCodes {
    pub(crate) codes: CodesId,
    pub(crate) scales: ChannelScales,
    pub(crate) range: CodeRange,
}

/// Codes of a map's values.
#[derive(Clone, Debug)]
pub(crate) struct MapCodes {
    pub(crate) codes: CodesId,
    pub(crate) scale: CodeScale,
    pub(crate) range: CodeRange,
}

#[derive(Clone, Debug)]
pub(crate) struct Dense {
    pub(crate) from: MapId,
    pub(crate) window: Window,
    /// `[out][height][width][in]`, in the order of the map.
    pub(crate) weights: Vec<i8>,
    pub(crate) scales: Vec<FixedPoint>,
    pub(crate) relu: bool,
    /// A map, or the logits.
    pub(crate) to: Option<MapId>,
}

impl Program {
    /// The network that it computes.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// An error unless `values` are a whole number of images, which is returned.
    pub(crate) fn images(&self, values: usize) -> Result<usize, EngineError> {
        let shape = self.graph.input_shape();
        if values.is_multiple_of(shape.values()) {
            return Ok(values / shape.values());
        }
        Err(EngineError::ImageLength { values, shape })
    }

    /// How pixels are normalised.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// Names of the classes in the order of the logits, or none.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Number of logits of an image.
    pub fn classes(&self) -> usize {
        self.output.classes
    }

    /// A logit of v stands for v · 2^−fraction.
    pub fn fraction(&self) -> i32 {
        self.output.fraction
    }

    /// What each accumulator can reach, against what it can hold.
    pub fn headroom(&self) -> &[LayerHeadroom] {
        &self.headroom
    }
}

impl Finish {
    /// The scales of the sums.
    pub(crate) fn scales(&self) -> &ChannelScales {
        match self {
            Finish::Codes(codes) => &codes.scales,
            Finish::Map { scales, .. } => scales,
        }
    }
}

impl CodesLayout {
    /// Codes of a pixel.
    pub(crate) fn pixel(&self) -> usize {
        self.shape.channels.next_multiple_of(self.multiple)
    }

    /// Rows and columns with the border.
    pub(crate) fn padded(&self) -> [usize; 2] {
        [
            self.shape.height + 2 * self.padding[0],
            self.shape.width + 2 * self.padding[1],
        ]
    }

    /// Codes in all. Behind the last row there is another border: a layer with less padding reads whole rows
    /// from the first pixel of its own border on.
    pub(crate) fn len(&self) -> usize {
        self.padded()[0] * self.row_pitch() + self.padding[1] * self.pixel()
    }

    /// Widens the border so that rows begin on a cache line, where whole pixels can do that.
    pub(crate) fn align(&mut self) {
        const LINE: usize = 64;
        // A border that is much wider than it needs to be costs more than it gains.
        const MOST: usize = 4;
        let pixel = self.pixel();
        let together = LINE / pixel.min(LINE);
        if together <= MOST
            && LINE.is_multiple_of(pixel)
            && self.shape.width.is_multiple_of(together)
        {
            self.padding[1] = self.padding[1].next_multiple_of(together);
        }
    }

    /// Codes from a row to the next.
    pub(crate) fn row_pitch(&self) -> usize {
        self.padded()[1] * self.pixel()
    }

    /// Where the first pixel inside a border of `padding`, no more than there is, begins.
    pub(crate) fn start(&self, padding: [usize; 2]) -> usize {
        let [above, left] = [0, 1].map(|axis| self.padding[axis] - padding[axis]);
        above * self.row_pitch() + left * self.pixel()
    }
}
