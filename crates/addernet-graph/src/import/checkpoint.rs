//! The state dict within a checkpoint, and the names of its tensors.

use std::collections::BTreeMap;

use addernet_pickle::Id;

use super::pickle::{Entries, MAX_NAME, Objects, Result, Tensor};

/// Keys under which training scripts put the state dict of a whole checkpoint, in the order in
/// which they are tried.
const STATE_DICT_KEYS: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];

/// Prefixes that wrappers put before every name: `DataParallel` and `DistributedDataParallel`,
/// `torch.compile`, and trainers that keep the network in an attribute.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// A counter of BN layers that inference has no use for.
const COUNTER: &str = "num_batches_tracked";

/// Whether the tensor `name` is to be loaded.
pub(super) fn is_parameter(name: &str) -> bool {
    name.rsplit('.').next() != Some(COUNTER)
}

/// The tensors of the state dict in the pickled `root`, by their names without the wrappers'
/// prefixes.
pub(super) fn tensors<'a>(
    objects: &Objects<'_, 'a>,
    root: Id,
) -> Result<BTreeMap<&'a str, Tensor<'a>>> {
    let items = state_dict(objects, root)?;
    let mut tensors = BTreeMap::new();
    for &(name, value) in &*items {
        let Some(name) = objects.heap().text(name) else {
            let kind = objects.type_name(name)?;
            return Err(format!("its state dict has a key of type `{kind}`").into());
        };
        if name.len() > MAX_NAME {
            return Err(format!("its state dict has a name of {} bytes", name.len()).into());
        }
        if !is_parameter(name) {
            continue;
        }
        let Some(tensor) = objects.tensor(value)? else {
            return Err(format!(
                "entry `{}` of its state dict is no tensor but of type `{}`",
                crate::error::one_line(name),
                objects.type_name(value)?
            )
            .into());
        };
        tensors.insert(name, tensor);
    }
    if tensors.is_empty() {
        return Err("its state dict holds no parameters".into());
    }
    Ok(without_prefixes(tensors))
}

/// The state dict that `root` holds under one of the usual keys, or that it is itself. The keys
/// come first: a checkpoint may hold tensors beside the state dict, a random generator's state.
fn state_dict<'h>(objects: &Objects<'h, '_>, root: Id) -> Result<Entries<'h>> {
    let Some(items) = objects.entries(root)? else {
        return Err(format!(
            "holds no state dict but a value of type `{}`; in Python, save it with \
             torch.save(model.state_dict(), \"model.pth\")",
            objects.type_name(root)?
        )
        .into());
    };
    for key in STATE_DICT_KEYS {
        if let Some(value) = objects.heap().get(&items, key)
            && let Some(state_dict) = objects.entries(value)?
        {
            return Ok(state_dict);
        }
    }
    for &(_, value) in &*items {
        if objects.tensor(value)?.is_some() {
            return Ok(items);
        }
    }
    let keys = items
        .iter()
        .filter_map(|&(key, _)| objects.heap().text(key));
    let keys: Vec<&str> = keys.take(20).collect();
    Err(format!(
        "is a checkpoint without a state dict: it holds [{}], none of [{}]",
        keys.join(", "),
        STATE_DICT_KEYS.join(", ")
    )
    .into())
}

/// The same entries without the prefixes that all names have in common.
pub(super) fn without_prefixes<T>(mut entries: BTreeMap<&str, T>) -> BTreeMap<&str, T> {
    while let Some(prefix) = PREFIXES
        .iter()
        .find(|prefix| entries.keys().all(|name| name.starts_with(**prefix)))
    {
        if entries.is_empty() {
            break;
        }
        entries = entries
            .into_iter()
            .map(|(name, entry)| (&name[prefix.len()..], entry))
            .collect();
    }
    entries
}
