//! Storages and the tensors on them.

use super::globals::Global;
use super::value::{Heap, MAX_RANK, Storage, Tensor, Value};
use super::{Refusal, Result};

/// The storage that a persistent identifier names:
/// `('storage', type, key, location, number of elements[, view])`.
pub(super) fn storage<'a>(heap: &mut Heap<'a>, id: Value<'a>) -> Result<Value<'a>> {
    let damaged = || Refusal::from("its pickle describes a storage in an unknown way");
    let Value::Sequence(fields) = id else {
        return Err(damaged());
    };
    let (dtype, key, elements, view) = match *heap.sequences[fields] {
        [
            Value::Str("storage"),
            Value::Global(Global::Storage(dtype)),
            Value::Str(key),
            _,
            elements,
            ref view @ ..,
        ] => (
            dtype,
            key,
            size(elements, "a storage's length")?,
            view.first().copied(),
        ),
        _ => return Err(damaged()),
    };
    // Before PyTorch 0.4 a storage could be part of another: (key, offset, length).
    let (offset, end) = match view {
        None | Some(Value::Scalar) => (0, elements),
        Some(Value::Sequence(view)) => match *heap.sequences[view] {
            [_, offset, length] => {
                let offset = size(offset, "a storage's offset")?;
                let length = size(length, "a storage's length")?;
                (offset, offset.checked_add(length).ok_or_else(damaged)?)
            }
            _ => return Err(damaged()),
        },
        Some(_) => return Err(damaged()),
    };
    if end > elements {
        return Err(damaged());
    }
    let declared = (dtype, elements);
    if *heap.declared.entry(key).or_insert(declared) != declared {
        let key = crate::error::one_line(key);
        return Err(format!("its pickle describes storage `{key}` in two different ways").into());
    }
    heap.storages.push(Storage {
        key,
        dtype,
        elements,
        offset,
    });
    Ok(Value::Storage(heap.storages.len() - 1))
}

/// The tensor that `_rebuild_tensor` or `_rebuild_tensor_v2` makes of its arguments:
/// storage, offset, size, stride (and what training needs).
pub(super) fn rebuild<'a>(heap: &mut Heap<'a>, arguments: usize) -> Result<Value<'a>> {
    let (storage, offset, shape, stride) = match *heap.sequences[arguments] {
        [
            Value::Storage(storage),
            offset,
            Value::Sequence(shape),
            Value::Sequence(stride),
            ..,
        ] => (
            storage,
            size(offset, "a tensor's offset")?,
            extents(heap, shape)?,
            extents(heap, stride)?,
        ),
        _ => return Err("its pickle describes a tensor in an unknown way: it is damaged".into()),
    };
    let Storage {
        key,
        elements,
        offset: base,
        ..
    } = heap.storages[storage];
    let describe = || {
        format!(
            "a tensor of shape {shape:?}, stride {stride:?} and offset {offset} in storage `{}` of \
             {elements} elements",
            crate::error::one_line(key)
        )
    };
    let (count, end) = count_and_end(&shape, &stride, base.checked_add(offset))
        .ok_or_else(|| format!("{} overflows: the file is damaged", describe()))?;
    if end > elements {
        return Err(format!("{} reaches outside of it: the file is damaged", describe()).into());
    }
    // An `expand`ed view repeats its elements: a few bytes in the file could fill the memory.
    if count > elements {
        return Err(format!(
            "{} repeats its elements; call contiguous() on it before saving",
            describe()
        )
        .into());
    }
    let tensor = Tensor::new(storage, base + offset, &shape, &stride)
        .ok_or_else(|| format!("{} has no valid stride: the file is damaged", describe()))?;
    heap.tensors.push(tensor);
    Ok(Value::Tensor(heap.tensors.len() - 1))
}

/// Number of elements, and one past the last element that the view reaches.
fn count_and_end(
    shape: &[usize],
    stride: &[usize],
    offset: Option<usize>,
) -> Option<(usize, usize)> {
    let offset = offset?;
    if shape.contains(&0) {
        return Some((0, offset));
    }
    let (mut count, mut last) = (1usize, offset);
    for (&extent, &step) in shape.iter().zip(stride) {
        count = count.checked_mul(extent)?;
        last = last.checked_add((extent - 1).checked_mul(step)?)?;
    }
    Some((count, last.checked_add(1)?))
}

fn extents(heap: &Heap<'_>, sequence: usize) -> Result<Vec<usize>> {
    let items = &heap.sequences[sequence];
    if items.len() > MAX_RANK {
        return Err(format!(
            "a tensor has {} dimensions, more than {MAX_RANK}",
            items.len()
        )
        .into());
    }
    items
        .iter()
        .map(|&item| size(item, "a tensor's extent"))
        .collect()
}

fn size(value: Value<'_>, what: &str) -> Result<usize> {
    match value {
        Value::Int(value) => usize::try_from(value)
            .map_err(|_| format!("{what} is {value}: the file is damaged").into()),
        other => Err(format!(
            "{what} is of type `{}`: the file is damaged",
            other.type_name()
        )
        .into()),
    }
}
