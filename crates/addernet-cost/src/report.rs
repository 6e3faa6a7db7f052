//! Costs with energies: a network, and the same network as a CNN beside it.

use addernet_graph::{FeatureShape, Graph, GraphDescription};
use serde::Serialize;

use crate::count::{AdderForm, Network, NetworkWork, NodeWork, count};
use crate::energy::{Energy, EnergyModel, MemoryLevel};
use crate::error::CostError;
use crate::precision::Precision;
use crate::work::{Part, Work};

/// The cost of a network in some precision, and of the same network as a CNN in the same precision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Bits of the adder layers: `32` (floating point), `4`, `2/4` (weights, activations) or `mixed`.
    pub bits: String,
    /// The network itself.
    pub adder: NetworkCost,
    /// With ordinary convolutions in the place of the adder layers.
    pub cnn: NetworkCost,
}

/// What a network costs per image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetworkCost {
    /// Operations and bytes.
    #[serde(flatten)]
    pub work: NetworkWork,
    /// Energy of the whole network.
    pub energy: NetworkEnergy,
    /// Energy of each of its nodes, in the order of `nodes`.
    pub node_energies: Vec<NodeEnergy>,
}

/// Energy of a network per image, in pJ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetworkEnergy {
    /// Of all layers' terms: what papers count.
    pub taps: Energy,
    /// Of all operations.
    pub arithmetic: Energy,
    /// Of all operations by purpose.
    pub parts: Vec<PartEnergy>,
    /// Of moving weights, constants and activations.
    pub traffic: Energy,
    /// Of operations and traffic.
    pub total: Energy,
    /// Where weights and constants are kept.
    pub weights_in: MemoryLevel,
    /// Where activations are kept.
    pub activations_in: MemoryLevel,
}

/// Energy of operations for one purpose, in pJ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PartEnergy {
    /// The purpose.
    pub part: Part,
    /// The energy.
    pub energy: Energy,
}

/// Energy of a node per image, in pJ.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct NodeEnergy {
    /// Of its terms.
    pub taps: Energy,
    /// Of all its operations.
    pub arithmetic: Energy,
    /// Of moving its weights, constants and activations.
    pub traffic: Energy,
    /// Of operations and traffic.
    pub total: Energy,
}

impl NetworkCost {
    /// What `work` costs with `model`.
    pub fn new(work: NetworkWork, model: &EnergyModel) -> Self {
        let placement = model.placement(&work);
        let nodes = work.nodes.iter().map(|node| {
            let arithmetic = model.work(&node.work);
            let traffic = placement.traffic(&node.memory);
            NodeEnergy {
                taps: taps(model, &node.work),
                arithmetic,
                traffic,
                total: arithmetic + traffic,
            }
        });
        let node_energies: Vec<NodeEnergy> = nodes.collect();
        let sum = |of: fn(&NodeEnergy) -> Energy| node_energies.iter().map(of).sum::<Energy>();
        let part = |part: Part| {
            let energies = work.nodes.iter().map(|node| {
                let of_part = node.work.iter().filter(|w| w.part == part);
                model.work(of_part)
            });
            let energy = energies.sum::<Energy>();
            (energy.picojoules() > 0.0).then_some(PartEnergy { part, energy })
        };
        let energy = NetworkEnergy {
            taps: sum(|node| node.taps),
            arithmetic: sum(|node| node.arithmetic),
            parts: Part::ALL.into_iter().filter_map(part).collect(),
            traffic: sum(|node| node.traffic),
            total: sum(|node| node.total),
            weights_in: placement.weights.clone(),
            activations_in: placement.activations.clone(),
        };
        Self {
            work,
            energy,
            node_energies,
        }
    }

    /// The nodes with their energies.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeWork, &NodeEnergy)> {
        self.work.nodes.iter().zip(&self.node_energies)
    }

    /// Energy of operations for one purpose.
    pub fn part(&self, part: Part) -> Energy {
        let found = self.energy.parts.iter().find(|p| p.part == part);
        found.map_or(Energy::default(), |p| p.energy)
    }
}

fn taps(model: &EnergyModel, work: &[Work]) -> Energy {
    model.work(work.iter().filter(|w| w.part == Part::Taps))
}

/// Costs of `graph` in `precision`, as an AdderNet and as a CNN.
///
/// # Errors
/// If the precision does not fit the graph.
///
/// ```
/// use addernet_cost::{AdderForm, EnergyModel, Precision, compare};
/// use addernet_graph::zoo::Architecture;
///
/// let architecture = Architecture::ResNet20;
/// let graph = architecture.graph(architecture.default_input(), 10)?;
/// let model = EnergyModel::named(EnergyModel::DEFAULT)?;
/// let precision = Precision::uniform(&graph, 8, 8, 1)?;
/// let cost = compare(&graph, &precision, &model, AdderForm::Difference)?;
/// println!("{} instead of {}", cost.adder.energy.taps, cost.cnn.energy.taps);
/// # assert_eq!(format!("{} {}", cost.adder.energy.taps, cost.cnn.energy.taps), "2.52 µJ 9.39 µJ");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn compare(
    graph: &Graph,
    precision: &Precision,
    model: &EnergyModel,
    form: AdderForm,
) -> Result<Comparison, CostError> {
    let cost = |network| {
        let work = count(graph, precision, network, form)?;
        Ok::<_, CostError>(NetworkCost::new(work, model))
    };
    Ok(Comparison {
        bits: precision.bits(),
        adder: cost(Network::Adder)?,
        cnn: cost(Network::Cnn)?,
    })
}

/// The same network for images of another shape.
///
/// # Errors
/// If a layer does not fit: the number of channels is another, or a linear layer expects a map of one size. The
/// error names the layer.
pub fn with_input(graph: &Graph, input: FeatureShape) -> Result<Graph, CostError> {
    let description = GraphDescription {
        input,
        ..GraphDescription::from(graph.clone())
    };
    Ok(Graph::try_from(description)?)
}
