//! Energies with units.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::CostError;

/// An energy. Its JSON form is a number of picojoules; as text it has a unit, and both are parsed by
/// [`FromStr`]: `1.5uJ`, `1.5 µJ`, `940nJ`, `1500000pJ`, `0.02 mJ`.
///
/// ```
/// use addernet_cost::Energy;
/// let energy: Energy = "1.5uJ".parse()?;
/// assert_eq!(energy.picojoules(), 1_500_000.0);
/// assert_eq!(energy.to_string(), "1.50 µJ");
/// # Ok::<(), addernet_cost::CostError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Energy(f64);

/// Units and how many picojoules each is worth, from large to small.
const UNITS: [(&str, f64); 5] = [
    ("J", 1e12),
    ("mJ", 1e9),
    ("µJ", 1e6),
    ("nJ", 1e3),
    ("pJ", 1.0),
];

impl Energy {
    /// So many picojoules.
    pub fn from_picojoules(picojoules: f64) -> Self {
        Self(picojoules)
    }

    /// In picojoules.
    pub fn picojoules(self) -> f64 {
        self.0
    }

    /// In microjoules.
    pub fn microjoules(self) -> f64 {
        self.0 / 1e6
    }
}

impl Add for Energy {
    type Output = Energy;

    fn add(self, other: Energy) -> Energy {
        Energy(self.0 + other.0)
    }
}

impl Sum for Energy {
    fn sum<I: Iterator<Item = Energy>>(energies: I) -> Energy {
        energies.fold(Energy::default(), Add::add)
    }
}

impl fmt::Display for Energy {
    /// Three significant digits and a fitting unit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What would be rounded up to 1000 is written in the next unit.
        let fits = |&&(_, worth): &&(&str, f64)| self.0.abs() >= 0.9995 * worth;
        let (unit, worth) = UNITS.iter().find(fits).unwrap_or(&UNITS[4]);
        let value = self.0 / worth;
        let digits = match value.abs() {
            magnitude if magnitude >= 99.95 => 0,
            magnitude if magnitude >= 9.995 => 1,
            _ => 2,
        };
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}

impl FromStr for Energy {
    type Err = CostError;

    fn from_str(text: &str) -> Result<Self, CostError> {
        let invalid = |reason| CostError::Energy {
            text: text.chars().filter(|c| !c.is_control()).take(40).collect(),
            reason,
        };
        let trimmed = text.trim();
        let at = trimmed.find(|c: char| c.is_alphabetic() && !matches!(c, 'e' | 'E'));
        let (number, unit) = trimmed.split_at(at.unwrap_or(trimmed.len()));
        // A small mu, a micro sign or, for keyboards without either, a u.
        let unit = unit.replace(['u', '\u{3bc}'], "µ");
        let Some((_, worth)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(invalid(
                "it needs a number and one of the units pJ, nJ, uJ, mJ and J, as in 1.5uJ",
            ));
        };
        match number.trim().parse::<f64>() {
            Ok(value) if (value * worth).is_finite() && value >= 0.0 => Ok(Self(value * worth)),
            _ => Err(invalid(
                "the number before the unit must be finite and at least 0, as in 1.5uJ",
            )),
        }
    }
}
