//! What a network costs per image: operations by width, bytes stored and moved, energy; and what the same network
//! costs as a CNN.
//!
//! - [`count`](count()) finds operations and bytes of a graph in a [`Precision`], node by node.
//! - [`EnergyModel`] prices them; its tables are built in with their source, or read from TOML.
//! - [`compare`] does both for the network as it is and as a CNN.
//! - [`LayerEnergies`] has the energy of each layer at each width, for mixed precision.
//!
//! docs/ENERGY.md says what is counted and what is not.

mod count;
mod energy;
mod error;
mod flow;
mod layer_energies;
mod precision;
mod report;
mod work;

pub use count::{AdderForm, Memory, Network, NetworkWork, NodeWork, count};
pub use energy::{AccumulateAt, Energy, EnergyModel, MemoryLevel, Placement};
pub use error::CostError;
pub use layer_energies::LayerEnergies;
pub use precision::{LayerPrecision, Precision};
pub use report::{
    Comparison, NetworkCost, NetworkEnergy, NodeEnergy, PartEnergy, compare, with_input,
};
pub use work::{Counts, Number, Operation, Part, Work};
