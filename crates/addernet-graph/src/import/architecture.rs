//! Which network a state dict belongs to.

use std::collections::{BTreeMap, HashSet};

use crate::error::{GraphError, ParameterMismatch};
use crate::graph::{Graph, Node};
use crate::model::Parameters;
use crate::op::Op;
use crate::shape::FeatureShape;
use crate::zoo::Architecture;

/// Square images that are tried when the classifier's size depends on the image's.
const SIZES: std::ops::RangeInclusive<usize> = 1..=128;
/// Step between them: all networks of the zoo halve the image at least twice.
const SIZE_STEP: usize = 4;

/// How a state dict's tensors become a graph's parameters.
pub(super) struct Plan {
    pub(super) graph: Graph,
    /// For each parameter that was found: its name and shape in the graph, its name in the file.
    pub(super) moves: Vec<(String, Vec<usize>, String)>,
    /// What does not fit.
    pub(super) mismatch: ParameterMismatch,
}

impl Plan {
    fn new(graph: Graph, parameters: &Parameters) -> Self {
        let mut used = HashSet::new();
        let (mut moves, mut mismatch) = (Vec::new(), ParameterMismatch::default());
        for node in graph.nodes() {
            for (name, shape) in node.parameters() {
                let found = aliases(node, &name)
                    .into_iter()
                    .find_map(|alias| parameters.get_key_value(&alias));
                match found {
                    None => mismatch.missing.push(name),
                    Some((alias, values)) => {
                        used.insert(alias.as_str());
                        if same_but_for_ones(values.shape(), &shape) {
                            moves.push((name, shape, alias.clone()));
                        } else {
                            mismatch
                                .misshapen
                                .push((name, shape, values.shape().to_vec()));
                        }
                    }
                }
            }
        }
        mismatch.unexpected = parameters
            .keys()
            .filter(|name| !used.contains(name.as_str()))
            .cloned()
            .collect();
        Self {
            graph,
            moves,
            mismatch,
        }
    }

    /// Whether more of the parameters fit this plan than `other`, or as many and fewer do not fit.
    fn is_closer_than(&self, other: &Plan) -> bool {
        (self.moves.len(), other.mismatch.len()) > (other.moves.len(), self.mismatch.len())
    }

    /// The parameters under the graph's names and in its shapes.
    pub(super) fn apply(self, mut parameters: Parameters) -> (Graph, Parameters) {
        let mut adapted = BTreeMap::new();
        for (name, shape, alias) in self.moves {
            if let Some(values) = parameters.remove(&alias) {
                // The shapes differ in extents of 1 only, so this cannot fail; what did would be
                // reported as missing.
                if let Ok(values) = values.into_shape_with_order(shape) {
                    adapted.insert(name, values);
                }
            }
        }
        (self.graph, adapted)
    }
}

/// The names under which other code bases store a parameter, its own first: `weight` for an adder
/// layer's `adder`, `shortcut` for a block's `downsample`.
fn aliases(node: &Node, name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    if let (Some(_), Some(base)) = (node.adder(), name.strip_suffix(".adder")) {
        names.push(format!("{base}.weight"));
    }
    if name.contains(".downsample.") {
        let shortcuts: Vec<String> = names
            .iter()
            .map(|name| name.replace(".downsample.", ".shortcut."))
            .collect();
        names.extend(shortcuts);
    }
    names
}

/// Whether two shapes hold the same values in the same order: `[10, 64]` and `[10, 64, 1, 1]`.
fn same_but_for_ones(a: &[usize], b: &[usize]) -> bool {
    let without_ones = |shape: &[usize]| -> Vec<usize> {
        shape
            .iter()
            .copied()
            .filter(|&extent| extent != 1)
            .collect()
    };
    without_ones(a) == without_ones(b)
}

/// The plan for the one architecture given, or for the one that fits.
///
/// # Errors
/// If the architecture cannot have that input, or the keys fit none of the zoo.
pub(super) fn plan(
    parameters: &Parameters,
    architecture: Option<Architecture>,
    input: Option<(usize, usize)>,
) -> Result<(Architecture, Plan), GraphError> {
    if let Some(architecture) = architecture {
        let plan = candidate(parameters, architecture, input)?;
        if plan.mismatch.is_empty() {
            return Ok((architecture, plan));
        }
        let graph = plan.graph.name().to_owned();
        return Err(GraphError::Parameters {
            graph,
            mismatch: plan.mismatch,
        });
    }
    let mut closest: Option<(Architecture, Plan)> = None;
    let mut refused = None;
    for architecture in Architecture::ALL {
        match candidate(parameters, architecture, input) {
            Ok(plan) if plan.mismatch.is_empty() => return Ok((architecture, plan)),
            Ok(plan) => {
                if closest
                    .as_ref()
                    .is_none_or(|(_, best)| plan.is_closer_than(best))
                {
                    closest = Some((architecture, plan));
                }
            }
            // An input size that is too small for this one need not be so for another.
            Err(error) => refused = Some(error),
        }
    }
    Err(match (closest, refused) {
        (Some((closest, Plan { mismatch, .. })), _) => GraphError::UnknownModel {
            known: Architecture::ALL.map(Architecture::name).join(", "),
            closest,
            mismatch,
        },
        (None, Some(error)) => error,
        (None, None) => GraphError::UnknownArchitecture {
            name: String::new(),
            known: String::new(),
        },
    })
}

/// The plan for `architecture`, with the number of classes and input channels that the parameters
/// say, and the image size that fits.
fn candidate(
    parameters: &Parameters,
    architecture: Architecture,
    input: Option<(usize, usize)>,
) -> Result<Plan, GraphError> {
    let mut shape = architecture.default_input();
    let mut classes = architecture.default_classes();
    let default = architecture.graph(shape, classes)?;
    // Layers with weights, by what their parameter's shape says.
    let found = |node: &Node| {
        let (name, _) = node.parameters().next()?;
        let alias = aliases(node, &name)
            .into_iter()
            .find(|alias| parameters.contains_key(alias))?;
        Some(parameters.get(&alias)?.shape().to_vec())
    };
    let mut layers = default.nodes().iter().filter(|node| is_weighted(node.op()));
    if let Some([_, channels, ..]) = layers.next().and_then(found).as_deref() {
        shape.channels = *channels;
    }
    if let Some([outputs, ..]) = layers.next_back().and_then(found).as_deref() {
        classes = *outputs;
    }
    if let Some((height, width)) = input {
        let shape = FeatureShape {
            height,
            width,
            ..shape
        };
        return Ok(Plan::new(architecture.graph(shape, classes)?, parameters));
    }
    // Extents from a damaged or foreign file may be impossible: the mismatch then says how.
    let graph = architecture.graph(shape, classes).unwrap_or(default);
    let flattens = graph.nodes().iter().any(|node| *node.op() == Op::Flatten);
    let plan = Plan::new(graph, parameters);
    if flattens && plan.mismatch.len() == 1 && plan.mismatch.misshapen.len() == 1 {
        for size in SIZES.map(|step| SIZE_STEP * step) {
            let shape = FeatureShape {
                height: size,
                width: size,
                ..shape
            };
            if let Ok(graph) = architecture.graph(shape, classes) {
                let other = Plan::new(graph, parameters);
                if other.mismatch.is_empty() {
                    return Ok(other);
                }
            }
        }
    }
    Ok(plan)
}

fn is_weighted(op: &Op) -> bool {
    matches!(op, Op::AdderConv(_) | Op::Conv(_) | Op::Linear { .. })
}
