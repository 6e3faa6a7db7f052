//! Operations: what is counted, of which width, and what for.

use serde::{Deserialize, Serialize};

/// An arithmetic operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// An addition or subtraction.
    Add,
    /// An addition of a term to a sum of many terms, whose register is wider than the term.
    Accumulate,
    /// A multiplication.
    Multiply,
    /// A comparison, maximum or minimum.
    Compare,
}

/// What numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Number {
    /// IEEE floating point.
    Float,
    /// Integers.
    Integer,
}

/// What operations are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The terms of convolutions and linear layers: what papers count.
    Taps,
    /// Sums to values: BN, scales and biases (the clamp's bias is part of it).
    Rescale,
    /// Values to the codes of the layer that reads them, once per distinct scale.
    Requantize,
    /// Σx, where Σ|x − w| is computed as 2Σmax(x, w) − Σx − Σw.
    BoxFilter,
    /// ReLU.
    Relu,
    /// Residual additions.
    Residual,
    /// Pooling.
    Pooling,
}

impl Part {
    /// All parts.
    pub const ALL: [Part; 7] = [
        Part::Taps,
        Part::Rescale,
        Part::Requantize,
        Part::BoxFilter,
        Part::Relu,
        Part::Residual,
        Part::Pooling,
    ];

    /// The name used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Part::Taps => "taps",
            Part::Rescale => "rescale",
            Part::Requantize => "requantize",
            Part::BoxFilter => "box-filter",
            Part::Relu => "relu",
            Part::Residual => "residual",
            Part::Pooling => "pooling",
        }
    }
}

/// So many operations of one kind for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// What for.
    pub part: Part,
    /// Which.
    pub operation: Operation,
    /// On what.
    pub number: Number,
    /// Bits of both operands. Of an accumulation: bits that the exact sum needs, then bits of a term's
    /// operands (b where the sum is of |x − w| or x·w with b-bit x and w).
    pub bits: [u32; 2],
    /// How often.
    pub count: u64,
}

/// Numbers of operations, whatever their width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Additions, subtractions and accumulations.
    pub additions: u64,
    /// Multiplications.
    pub multiplications: u64,
    /// Comparisons, maxima and minima.
    pub comparisons: u64,
}

impl Counts {
    /// The operations in `work`. Sums that no u64 holds saturate.
    pub fn of<'a>(work: impl IntoIterator<Item = &'a Work>) -> Self {
        let mut counts = Self::default();
        for item in work {
            let counter = match item.operation {
                Operation::Add | Operation::Accumulate => &mut counts.additions,
                Operation::Multiply => &mut counts.multiplications,
                Operation::Compare => &mut counts.comparisons,
            };
            *counter = counter.saturating_add(item.count);
        }
        counts
    }
}

/// Collects work: what is alike is put together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) work: Vec<Work>,
}

impl Tally {
    pub(crate) fn add(
        &mut self,
        part: Part,
        operation: Operation,
        number: Number,
        bits: [u32; 2],
        count: u64,
    ) {
        if count == 0 {
            return;
        }
        let same = self
            .work
            .iter_mut()
            .find(|w| (w.part, w.operation, w.number, w.bits) == (part, operation, number, bits));
        match same {
            Some(work) => work.count = work.count.saturating_add(count),
            None => self.work.push(Work {
                part,
                operation,
                number,
                bits,
                count,
            }),
        }
    }

    pub(crate) fn extend(&mut self, other: &[Work]) {
        for w in other {
            self.add(w.part, w.operation, w.number, w.bits, w.count);
        }
    }
}
