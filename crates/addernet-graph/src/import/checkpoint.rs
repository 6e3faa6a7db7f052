//! The state dict within a checkpoint, and the names of its tensors.

use std::collections::BTreeMap;

use super::pickle::{Heap, Result, Value};

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

/// The tensors of the state dict in the pickled `root`: names without the wrappers' prefixes, and
/// indices of tensors in the heap.
pub(super) fn tensors<'a>(heap: &Heap<'a>, root: Value<'a>) -> Result<BTreeMap<&'a str, usize>> {
    let Value::Dict(root) = root else {
        return Err(format!(
            "holds no state dict but a value of type `{}`; in Python, save it with \
             torch.save(model.state_dict(), \"model.pth\")",
            root.type_name()
        )
        .into());
    };
    let items = state_dict(heap, &heap.dicts[root])?;
    let mut tensors = BTreeMap::new();
    for &(name, value) in items {
        let Value::Str(name) = name else {
            return Err(format!("its state dict has a key of type `{}`", name.type_name()).into());
        };
        match value {
            _ if !is_parameter(name) => {}
            Value::Tensor(tensor) => drop(tensors.insert(name, tensor)),
            other => {
                return Err(format!(
                    "entry `{}` of its state dict is no tensor but of type `{}`",
                    crate::error::one_line(name),
                    other.type_name()
                )
                .into());
            }
        }
    }
    if tensors.is_empty() {
        return Err("its state dict holds no parameters".into());
    }
    Ok(without_prefixes(tensors))
}

/// The state dict that `root` holds under one of the usual keys, or that it is itself. The keys
/// come first: a checkpoint may hold tensors beside the state dict, a random generator's state.
fn state_dict<'h, 'a>(
    heap: &'h Heap<'a>,
    root: &'h [(Value<'a>, Value<'a>)],
) -> Result<&'h [(Value<'a>, Value<'a>)]> {
    for key in STATE_DICT_KEYS {
        // The last one counts, as in Python.
        let is_key = |name: &Value<'a>| matches!(name, Value::Str(name) if *name == key);
        let found = root.iter().rev().find(|(name, _)| is_key(name));
        if let Some(&(_, Value::Dict(index))) = found {
            return Ok(&heap.dicts[index]);
        }
    }
    if root
        .iter()
        .any(|(_, value)| matches!(value, Value::Tensor(_)))
    {
        return Ok(root);
    }
    let keys: Vec<&str> = root
        .iter()
        .take(20)
        .filter_map(|(key, _)| {
            if let Value::Str(key) = key {
                Some(*key)
            } else {
                None
            }
        })
        .collect();
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
