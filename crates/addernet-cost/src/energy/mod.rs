//! What operations and memory accesses cost.

mod file;
mod quantity;

use serde::Serialize;

use crate::count::{Memory, NetworkWork, NodeWork};
use crate::work::{Number, Operation, Work};
pub use quantity::Energy;

/// Energy per operation and per memory access.
///
/// Two are built in ([`EnergyModel::BUILT_IN`]); others come from TOML files ([`EnergyModel::load`]), whose form
/// is that of the built-in ones ([`EnergyModel::built_in_toml`]).
///
/// Tables name some widths. Other widths, with E(b) the energy at b bits:
/// - additions and comparisons: linear between two entries; below the first E(b₁)·b/b₁, beyond the last alike;
/// - multiplications of a by b bits: quadratic, at the effective width s = √(a·b): E/s² is linear between two entries
///   and constant beyond them.
///
/// A comparison costs an integer addition of the same width, in floating point too.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EnergyModel {
    name: String,
    description: String,
    source: String,
    accumulate_at: AccumulateAt,
    integer_add: Vec<(u32, f64)>,
    integer_multiply: Vec<(u32, f64)>,
    float_add: Vec<(u32, f64)>,
    float_multiply: Vec<(u32, f64)>,
    memory: Vec<MemoryLevel>,
}

/// At which width the sums of a layer are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccumulateAt {
    /// At that of the terms' operands: a sum of 8-bit products with 8 bits. It is what papers do.
    Operands,
    /// At that which the sum needs.
    Exact,
}

/// A kind of memory.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryLevel {
    /// Its name.
    pub name: String,
    /// Its size; none: there is always enough.
    pub bytes: Option<u64>,
    /// pJ per access of 64 bits.
    pub access: f64,
}

impl EnergyModel {
    /// Names of the built-in models; the first is the default.
    pub const BUILT_IN: [&str; 2] = ["horowitz-2014", "horowitz-2014-exact"];

    /// Name of the default model.
    pub const DEFAULT: &str = Self::BUILT_IN[0];

    /// The TOML text of a built-in model.
    pub fn built_in_toml(name: &str) -> Option<&'static str> {
        match name {
            "horowitz-2014" => Some(include_str!("../../models/horowitz-2014.toml")),
            "horowitz-2014-exact" => Some(include_str!("../../models/horowitz-2014-exact.toml")),
            _ => None,
        }
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is about, in a line.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Where its numbers are from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its memories, from small to large.
    pub fn memory(&self) -> &[MemoryLevel] {
        &self.memory
    }

    /// pJ of one operation of this kind and width.
    pub fn operation(&self, work: &Work) -> f64 {
        let [a, b] = work.bits;
        match (work.operation, work.number) {
            (Operation::Multiply, Number::Integer) => quadratic(&self.integer_multiply, [a, b]),
            (Operation::Multiply, Number::Float) => quadratic(&self.float_multiply, [a, b]),
            (Operation::Compare, _) => linear(&self.integer_add, a),
            (Operation::Accumulate, Number::Integer) => {
                let bits = match self.accumulate_at {
                    AccumulateAt::Operands => b,
                    AccumulateAt::Exact => a,
                };
                linear(&self.integer_add, bits)
            }
            (Operation::Add, Number::Integer) => linear(&self.integer_add, a),
            (Operation::Add | Operation::Accumulate, Number::Float) => linear(&self.float_add, a),
        }
    }

    /// Energy of operations.
    pub fn work<'a>(&self, work: impl IntoIterator<Item = &'a Work>) -> Energy {
        let picojoules = |w: &Work| w.count as f64 * self.operation(w);
        Energy::from_picojoules(work.into_iter().map(picojoules).sum())
    }

    /// Where a network's weights and constants, and its activations, are kept: in the smallest memory that holds
    /// all of them, each in one of its own.
    pub fn placement(&self, network: &NetworkWork) -> Placement<'_> {
        Placement {
            weights: self.level(network.memory.model_bytes()),
            activations: self.level(network.peak_activation_bytes),
        }
    }

    fn level(&self, bytes: u64) -> &MemoryLevel {
        let fits = |level: &&MemoryLevel| level.bytes.is_none_or(|size| bytes <= size);
        // A model has at least one level, and the last one has no size.
        let last = &self.memory[self.memory.len() - 1];
        self.memory.iter().find(fits).unwrap_or(last)
    }

    /// Energy of a node's operations, of which its terms are a part.
    pub fn arithmetic(&self, node: &NodeWork) -> Energy {
        self.work(&node.work)
    }
}

/// Where a network's numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Placement<'a> {
    /// Weights and constants.
    pub weights: &'a MemoryLevel,
    /// Activations.
    pub activations: &'a MemoryLevel,
}

impl Placement<'_> {
    /// Energy of moving what `memory` says: weights and constants once, activations as counted.
    pub fn traffic(&self, memory: &Memory) -> Energy {
        let access = |bytes: u64, level: &MemoryLevel| bytes as f64 / 8.0 * level.access;
        Energy::from_picojoules(
            access(memory.model_bytes(), self.weights)
                + access(memory.activation_bytes(), self.activations),
        )
    }
}

/// Linear interpolation in the bits, proportional beyond the entries.
fn linear(table: &[(u32, f64)], bits: u32) -> f64 {
    interpolate(table, f64::from(bits), |bits| bits)
}

/// Energy per square of the width is interpolated.
fn quadratic(table: &[(u32, f64)], [a, b]: [u32; 2]) -> f64 {
    let width = (f64::from(a) * f64::from(b)).sqrt();
    let per_square: Vec<(u32, f64)> = table
        .iter()
        .map(|&(bits, energy)| (bits, energy / f64::from(bits).powi(2)))
        .collect();
    width * width * interpolate(&per_square, width, |_| 1.0)
}

/// The value at `x`: linear between entries, beyond them the nearest one's times the ratio of `law`.
fn interpolate(table: &[(u32, f64)], x: f64, law: impl Fn(f64) -> f64) -> f64 {
    let above = table.partition_point(|&(bits, _)| f64::from(bits) < x);
    let beyond = |&(bits, value): &(u32, f64)| value * law(x) / law(f64::from(bits));
    match (
        above.checked_sub(1).and_then(|i| table.get(i)),
        table.get(above),
    ) {
        (Some(&(from, low)), Some(&(to, high))) => {
            let share = (x - f64::from(from)) / f64::from(to - from);
            low + share * (high - low)
        }
        (None, Some(nearest)) | (Some(nearest), None) => beyond(nearest),
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests;
