//! Energy layer by layer at every width: what a search over mixed precisions needs.

use std::collections::BTreeMap;

use addernet_graph::Graph;
use addernet_quant::BITS;

use crate::count::{AdderForm, Network, count};
use crate::energy::{Energy, EnergyModel};
use crate::error::CostError;
use crate::precision::{Precision, check_bits};

/// Number of widths.
const WIDTHS: usize = (*BITS.end() - *BITS.start() + 1) as usize;

/// Energy of the operations of each adder layer at each width of its weights and activations, and of the rest of
/// the network. A layer's energy depends on its own widths only, so that energies add up.
///
/// It covers operations, not memory traffic: which memory is large enough depends on all layers at once. Codes that
/// two layers might share are counted for both.
///
/// ```
/// use std::collections::BTreeMap;
/// use addernet_cost::{Energy, EnergyModel, LayerEnergies};
/// use addernet_graph::zoo::Architecture;
///
/// let architecture = Architecture::ResNet20;
/// let graph = architecture.graph(architecture.default_input(), 10)?;
/// let model = EnergyModel::named(EnergyModel::DEFAULT)?;
/// let energies = LayerEnergies::new(&graph, &model, 1)?;
///
/// // All layers at 8 bits, then the costliest ones at 4 until a budget is met.
/// let mut bits: BTreeMap<String, [u8; 2]> =
///     energies.nodes().map(|node| (node.to_owned(), [8, 8])).collect();
/// let budget: Energy = "2.5uJ".parse()?;
/// let mut saved: Vec<(f64, String)> = Vec::new();
/// for node in energies.nodes() {
///     let saving = energies.layer(node, 8, 8)?.picojoules() - energies.layer(node, 4, 4)?.picojoules();
///     saved.push((saving, node.to_owned()));
/// }
/// saved.sort_by(|a, b| b.0.total_cmp(&a.0));
/// for (_, node) in saved {
///     if energies.total(&bits)? <= budget {
///         break;
///     }
///     bits.insert(node, [4, 4]);
/// }
/// assert!(energies.total(&bits)? <= budget);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayerEnergies {
    fixed: Energy,
    /// By weight bits, then by activation bits.
    layers: BTreeMap<String, [[Energy; WIDTHS]; WIDTHS]>,
}

impl LayerEnergies {
    /// Energies of `graph`'s adder layers with so many distinct scales per layer (1 for methods without groups).
    ///
    /// # Errors
    /// If groups are not 1 to 255.
    pub fn new(graph: &Graph, model: &EnergyModel, groups: usize) -> Result<Self, CostError> {
        let mut fixed = Energy::default();
        let mut layers: BTreeMap<String, [[Energy; WIDTHS]; WIDTHS]> = BTreeMap::new();
        for weight_bits in BITS {
            for activation_bits in BITS {
                let bits = graph
                    .adder_nodes()
                    .map(|(_, node, _)| (node.name().to_owned(), [weight_bits, activation_bits]))
                    .collect();
                let precision = Precision::per_layer(graph, &bits, groups)?;
                let work = count(graph, &precision, Network::Adder, AdderForm::Difference)?;
                let (adders, others): (Vec<_>, Vec<_>) =
                    work.nodes.iter().partition(|node| node.adder);
                // The same for all widths.
                fixed = others.iter().map(|node| model.arithmetic(node)).sum();
                for node in adders {
                    layers.entry(node.node.clone()).or_default()[index(weight_bits)]
                        [index(activation_bits)] = model.arithmetic(node);
                }
            }
        }
        Ok(Self { fixed, layers })
    }

    /// The adder layers.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.layers.keys().map(String::as_str)
    }

    /// Energy of everything that is no adder layer.
    pub fn fixed(&self) -> Energy {
        self.fixed
    }

    /// Energy of adder layer `node` with weights and activations of so many bits: its terms, the requantization of
    /// what it reads, and the rescaling of its sums.
    ///
    /// # Errors
    /// If it is no adder layer of the graph, or bits are not 2 to 8.
    pub fn layer(
        &self,
        node: &str,
        weight_bits: u8,
        activation_bits: u8,
    ) -> Result<Energy, CostError> {
        let Some(energies) = self.layers.get(node) else {
            return Err(CostError::layer(node, "it is no adder layer of the graph"));
        };
        check_bits(weight_bits)?;
        check_bits(activation_bits)?;
        Ok(energies[index(weight_bits)][index(activation_bits)])
    }

    /// Energy of the network with these `[weight bits, activation bits]` per adder layer.
    ///
    /// # Errors
    /// As [`LayerEnergies::layer`], and if a layer has no bits.
    pub fn total(&self, bits: &BTreeMap<String, [u8; 2]>) -> Result<Energy, CostError> {
        if let Some(node) = self.layers.keys().find(|node| !bits.contains_key(*node)) {
            return Err(CostError::layer(node, "no bits were given for it"));
        }
        let layers = bits
            .iter()
            .map(|(node, &[weights, activations])| self.layer(node, weights, activations));
        Ok(self.fixed + layers.sum::<Result<Energy, _>>()?)
    }
}

/// Place of a width in the tables.
fn index(bits: u8) -> usize {
    usize::from(bits - BITS.start())
}
