//! The integers of every node, and what they stand for.

use addernet_graph::NodeId;

use super::{Plane, run};
use crate::error::EngineError;
use crate::lower::formats::exp2;
use crate::program::*;

/// The integers that a node has for one image, as a map or as codes.
///
/// Nodes that are computed together with others may have none of their own.
#[derive(Clone, Debug)]
pub struct NodeValues {
    /// The node.
    pub node: NodeId,
    /// Height x width x channels.
    pub integers: Vec<i32>,
    /// An integer of v stands for (v − zero) · unit.
    pub unit: f64,
    /// The integer of zero.
    pub zero: i32,
    /// The smallest and the largest integer that it could have.
    pub range: [i32; 2],
    /// The adder layers that read these codes, each with the output channels that do; of a map or of logits none.
    pub readers: Vec<(NodeId, Vec<usize>)>,
}

impl NodeValues {
    /// The real values that the integers stand for.
    pub fn reals(&self) -> impl Iterator<Item = f64> + '_ {
        let real = |&v: &i32| f64::from(v - self.zero) * self.unit;
        self.integers.iter().map(real)
    }
}

/// The integers of all nodes for one image, whose pixels are height x width x channels: first maps, then codes of
/// activations, then the logits, if they are no map.
///
/// For those who compare another implementation of docs/INTEGER.md node by node, or ask where one rounding
/// becomes a difference.
///
/// # Errors
/// [`EngineError::ImageLength`] if there are more or fewer pixels.
pub fn trace(program: &Program, pixels: &[u8]) -> Result<Vec<NodeValues>, EngineError> {
    let state = run(program, pixels)?;
    let mut all = Vec::new();
    for (spec, map) in program.maps.iter().zip(state.maps) {
        all.extend(map.map(|map| NodeValues {
            node: spec.node,
            integers: integers(map),
            unit: exp2(-spec.fraction),
            zero: 0,
            range: [i16::MIN.into(), i16::MAX.into()],
            readers: Vec::new(),
        }));
    }
    for (id, (spec, codes)) in program.codes.iter().zip(state.codes).enumerate() {
        let Some((meaning, codes)) = spec.meaning.zip(codes) else {
            continue;
        };
        all.push(NodeValues {
            node: meaning.node,
            integers: integers(codes),
            unit: meaning.unit,
            // The same in every channel.
            zero: spec.layout.pad.first().copied().unwrap_or_default().into(),
            range: [0, meaning.largest.into()],
            readers: readers(program, id),
        });
    }
    if matches!(program.output.from, OutputFrom::Wide) {
        all.push(NodeValues {
            node: program.graph.nodes().len() - 1,
            integers: state.wide.into_iter().map(|v| v as i32).collect(),
            unit: exp2(-program.output.fraction),
            zero: 0,
            range: [i32::MIN, i32::MAX],
            readers: Vec::new(),
        });
    }
    Ok(all)
}

fn integers(plane: Plane) -> Vec<i32> {
    plane.values.into_iter().map(|v| v as i32).collect()
}

/// The adder layers that read these codes, and which of their output channels.
fn readers(program: &Program, codes: CodesId) -> Vec<(NodeId, Vec<usize>)> {
    let mut readers = Vec::new();
    for step in &program.steps {
        let (StepKind::Adder(adder), Some(id)) = (&step.kind, program.graph.id(&step.node)) else {
            continue;
        };
        let groups = adder.groups.iter().filter(|group| group.input == codes);
        readers.extend(groups.map(|group| (id, group.channels.clone())));
    }
    readers
}
