//! A sweep's folder: one file per finished cell, so that a killed sweep goes on where it was.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::output;

/// Version of the cells' files. Files of another version are stale.
const VERSION: u32 = 1;

/// The folder.
pub(super) struct Store {
    folder: PathBuf,
    runs: PathBuf,
    models: PathBuf,
}

/// What a file of an earlier run is worth.
pub(super) enum Found<T> {
    /// There is none.
    Nothing,
    /// It is of these very options.
    Fresh(T),
    /// It is not, and why.
    Stale(String),
}

/// A file: what it was made from, and what came out.
#[derive(Serialize)]
struct Entry<'a, K, T> {
    version: u32,
    key: &'a K,
    result: &'a T,
}

impl Store {
    /// Opens or creates the folder.
    pub(super) fn open(folder: &Path, keep_models: bool) -> anyhow::Result<Self> {
        let store = Self {
            folder: folder.to_owned(),
            runs: folder.join("runs"),
            models: folder.join("models"),
        };
        let mut folders = vec![&store.runs];
        if keep_models {
            folders.push(&store.models);
        }
        for folder in folders {
            fs::create_dir_all(folder).with_context(|| {
                format!(
                    "{}: the folder cannot be created; choose another --out",
                    folder.display()
                )
            })?;
            // Fails now, not after the first cell, if nothing can be written there.
            output::check_destination(&folder.join("x"))?;
        }
        Ok(store)
    }

    /// Where the table goes, with this extension.
    pub(super) fn table(&self, extension: &str) -> PathBuf {
        self.folder.join("table").with_extension(extension)
    }

    /// Where the chart of accuracy against energy goes.
    pub(super) fn pareto(&self) -> PathBuf {
        self.folder.join("pareto.svg")
    }

    /// Where a cell's model goes.
    pub(super) fn model(&self, name: &str) -> PathBuf {
        self.models.join(format!("{name}.safetensors"))
    }

    fn run(&self, name: &str) -> PathBuf {
        self.runs.join(format!("{name}.json"))
    }

    /// What the folder has under `name`, compared with what `key` asks for.
    pub(super) fn find<T: DeserializeOwned>(
        &self,
        name: &str,
        key: &impl Serialize,
    ) -> anyhow::Result<Found<T>> {
        let path = self.run(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => {
                return Err(error).with_context(|| format!("{}: cannot be read", path.display()));
            }
        };
        let stale = |reason: String| Ok(Found::Stale(format!("{}: {reason}", path.display())));
        let mut entry: Value = match serde_json::from_slice(&bytes) {
            Ok(entry) => entry,
            Err(error) => return stale(format!("is damaged ({error})")),
        };
        if entry["version"] != VERSION {
            return stale("was written by another version of this program".to_owned());
        }
        // Through text, as the file: numbers are then rounded alike.
        let key: Value = serde_json::from_str(&serde_json::to_string(key)?)?;
        let differing = differences(&entry["key"], &key);
        if !differing.is_empty() {
            return stale(format!("has another {}", differing.join(", ")));
        }
        match serde_json::from_value(entry["result"].take()) {
            Ok(result) => Ok(Found::Fresh(result)),
            Err(error) => stale(format!("is damaged ({error})")),
        }
    }

    /// Keeps a result: whole or not at all.
    pub(super) fn keep(
        &self,
        name: &str,
        key: &impl Serialize,
        result: &impl Serialize,
    ) -> anyhow::Result<()> {
        let entry = Entry {
            version: VERSION,
            key,
            result,
        };
        let mut bytes = serde_json::to_vec_pretty(&entry)?;
        bytes.push(b'\n');
        output::write(&self.run(name), &bytes)
    }
}

/// Names of the members in which two objects differ.
fn differences(a: &Value, b: &Value) -> Vec<String> {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return vec!["key".to_owned()];
    };
    let mut names: Vec<String> = a
        .keys()
        .chain(b.keys())
        .filter(|name| a.get(*name) != b.get(*name))
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    names
}
