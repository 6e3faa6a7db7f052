//! Energy models in TOML.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::{AccumulateAt, EnergyModel, MemoryLevel};
use crate::error::CostError;

/// Most bytes of a file: a hundred times what a model needs.
const MOST_BYTES: u64 = 256 * 1024;
/// Most memory levels.
const MOST_LEVELS: usize = 16;
/// Most characters of a name or a text.
const MOST_CHARACTERS: usize = 400;
/// The largest energy in pJ: a joule. It keeps sums finite.
const MOST_PICOJOULES: f64 = 1e12;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Stored {
    name: String,
    #[serde(default)]
    description: String,
    source: String,
    accumulate_at: AccumulateAt,
    integer: StoredNumber,
    float: StoredNumber,
    memory: Vec<StoredLevel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredNumber {
    add: BTreeMap<String, f64>,
    multiply: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLevel {
    name: String,
    bytes: Option<u64>,
    access: f64,
}

/// A refusal: the field, and the reason with a remedy.
type Refusal = (String, String);

impl EnergyModel {
    /// The built-in model of this name, or else the model in the file of this path.
    ///
    /// # Errors
    /// As [`EnergyModel::load`].
    pub fn named(name_or_path: &str) -> Result<Self, CostError> {
        match Self::built_in_toml(name_or_path) {
            Some(text) => Self::from_toml(text, name_or_path),
            None => Self::load(name_or_path.as_ref()),
        }
    }

    /// Reads a model from a TOML file.
    ///
    /// # Errors
    /// If the file cannot be read, is too large or no TOML, lacks a field or has an unknown one, or a value
    /// cannot be; the error names file, field and remedy.
    pub fn load(path: &Path) -> Result<Self, CostError> {
        let io = |source| CostError::Io {
            path: path.to_owned(),
            source,
        };
        let origin = path.display().to_string();
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(io)?;
        file.take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        let refused = |reason: &str| refusal(&origin, String::new(), reason.to_owned());
        if bytes.len() as u64 > MOST_BYTES {
            return Err(refused(
                "it has more than 256 KiB, which no energy model needs; start from the one in docs/ENERGY.md",
            ));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| refused("it is no UTF-8 text; energy models are TOML files"))?;
        Self::from_toml(&text, &origin)
    }

    /// Reads a model from TOML text; errors name `origin`.
    ///
    /// # Errors
    /// As [`EnergyModel::load`].
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, CostError> {
        let stored: Stored = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map(|before| format!("line {}: ", before.matches('\n').count() + 1));
            let reason = format!(
                "{}; compare it with the model in docs/ENERGY.md",
                one_line(error.message())
            );
            refusal(origin, line.unwrap_or_default(), reason)
        })?;
        stored
            .check()
            .map_err(|(field, reason)| refusal(origin, format!("`{field}`: "), reason))
    }
}

fn refusal(origin: &str, field: String, reason: String) -> CostError {
    CostError::EnergyModel {
        origin: origin.to_owned(),
        field,
        reason,
    }
}

/// Text of a file, fit for a line of an error.
fn one_line(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST_CHARACTERS)
        .collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Stored {
    fn check(self) -> Result<EnergyModel, Refusal> {
        for (field, text) in [
            ("name", &self.name),
            ("description", &self.description),
            ("source", &self.source),
        ] {
            check_text(field, text)?;
        }
        for (field, text) in [("name", &self.name), ("source", &self.source)] {
            if text.trim().is_empty() {
                let reason = "it is empty; say what the model is and where its numbers are from";
                return Err((field.to_owned(), reason.to_owned()));
            }
        }
        Ok(EnergyModel {
            integer_add: widths("integer.add", &self.integer.add)?,
            integer_multiply: widths("integer.multiply", &self.integer.multiply)?,
            float_add: widths("float.add", &self.float.add)?,
            float_multiply: widths("float.multiply", &self.float.multiply)?,
            memory: levels(self.memory)?,
            name: self.name,
            description: self.description,
            source: self.source,
            accumulate_at: self.accumulate_at,
        })
    }
}

fn check_text(field: &str, text: &str) -> Result<(), Refusal> {
    if text.chars().count() > MOST_CHARACTERS || text.chars().any(char::is_control) {
        let reason = format!(
            "it must be one line of at most {MOST_CHARACTERS} characters; shorten it or take its line breaks out"
        );
        return Err((field.to_owned(), reason));
    }
    Ok(())
}

fn check_energy(field: &str, value: f64) -> Result<f64, Refusal> {
    match value.is_finite() && value > 0.0 && value <= MOST_PICOJOULES {
        true => Ok(value),
        false => {
            let reason = format!("must be pJ above 0 and at most 1e12, got {value}");
            Err((field.to_owned(), reason))
        }
    }
}

/// A table by width, sorted.
fn widths(field: &str, table: &BTreeMap<String, f64>) -> Result<Vec<(u32, f64)>, Refusal> {
    if table.is_empty() {
        let reason = "it is empty; give at least one width, as in `8 = 0.03`".to_owned();
        return Err((field.to_owned(), reason));
    }
    let mut widths = Vec::new();
    for (key, &value) in table {
        let field = format!("{field}.{}", one_line(key));
        // `08` would be another key for the same width.
        let bits = key.parse::<u32>().ok().filter(|b| b.to_string() == *key);
        let Some(bits) = bits.filter(|bits| (1..=128).contains(bits)) else {
            let reason = "the name must be a width in bits, 1 to 128, as in `8 = 0.03`".to_owned();
            return Err((field, reason));
        };
        widths.push((bits, check_energy(&field, value)?));
    }
    widths.sort_by_key(|&(bits, _)| bits);
    Ok(widths)
}

fn levels(stored: Vec<StoredLevel>) -> Result<Vec<MemoryLevel>, Refusal> {
    if !(1..=MOST_LEVELS).contains(&stored.len()) {
        let reason = format!(
            "must be 1 to {MOST_LEVELS} tables `[[memory]]`, got {}; the last one has no `bytes`",
            stored.len()
        );
        return Err(("memory".to_owned(), reason));
    }
    let last = stored.len() - 1;
    let mut before = 0;
    for (i, level) in stored.iter().enumerate() {
        let field = |name: &str| format!("memory[{i}].{name}");
        check_text(&field("name"), &level.name)?;
        check_energy(&field("access"), level.access)?;
        match level.bytes {
            None if i == last => {}
            Some(_) if i == last => {
                let reason = "the last memory must hold whatever there is; take its `bytes` out, or add one \
                              without `bytes`";
                return Err((field("bytes"), reason.to_owned()));
            }
            Some(bytes) if bytes > before => before = bytes,
            found => {
                let found = found.map_or("nothing".to_owned(), |bytes| bytes.to_string());
                let reason =
                    format!("must be more than {before}, got {found}; sort from small to large");
                return Err((field("bytes"), reason));
            }
        }
    }
    let level = |level: StoredLevel| MemoryLevel {
        name: level.name,
        bytes: level.bytes,
        access: level.access,
    };
    Ok(stored.into_iter().map(level).collect())
}
