//! Storages and the tensors on them.

use addernet_pickle::{Heap, Id, Value};

use super::globals::{Dtype, Global};
use super::objects::Objects;
use super::{MAX_NAME, Refusal, Result};

/// Largest number of dimensions of a tensor.
pub(in crate::import) const MAX_RANK: usize = 8;

/// A named run of elements in the file.
#[derive(Clone, Copy, Debug)]
pub(in crate::import) struct Storage<'a> {
    /// Its name in the file.
    pub(in crate::import) key: &'a str,
    /// Element type.
    pub(in crate::import) dtype: Dtype,
    /// First element of the view of it that the pickle describes; 0 in all but very old files.
    offset: usize,
}

/// A strided view of a storage that lies within it and has no more elements than it.
#[derive(Clone, Copy, Debug)]
pub(in crate::import) struct Tensor<'a> {
    /// Where its elements are.
    pub(in crate::import) storage: Storage<'a>,
    /// First element, in elements of the root storage.
    pub(in crate::import) offset: usize,
    rank: usize,
    shape: [usize; MAX_RANK],
    stride: [usize; MAX_RANK],
}

impl<'a> Tensor<'a> {
    /// `None` if shape and stride differ in length or have more than [`MAX_RANK`] entries.
    fn new(storage: Storage<'a>, offset: usize, shape: &[usize], stride: &[usize]) -> Option<Self> {
        let rank = shape.len();
        let mut tensor = Self {
            storage,
            offset,
            rank,
            shape: [0; MAX_RANK],
            stride: [0; MAX_RANK],
        };
        tensor.shape.get_mut(..rank)?.copy_from_slice(shape);
        if stride.len() != rank {
            return None;
        }
        tensor.stride[..rank].copy_from_slice(stride);
        Some(tensor)
    }

    /// Extents, outermost first.
    pub(in crate::import) fn shape(&self) -> &[usize] {
        &self.shape[..self.rank]
    }

    /// Distance between neighbours along each dimension, in elements.
    pub(in crate::import) fn stride(&self) -> &[usize] {
        &self.stride[..self.rank]
    }
}

/// The storage that a persistent identifier names, and its number of elements:
/// `('storage', type, key, location, number of elements[, view])`.
pub(super) fn storage<'a>(heap: &Heap<'a, Global>, name: Id) -> Result<(Storage<'a>, usize)> {
    let damaged = || Refusal::from("its pickle describes a storage in an unknown way");
    let [kind, class, key, _, elements, view @ ..] = heap.items(name).ok_or_else(damaged)? else {
        return Err(damaged());
    };
    let (Some("storage"), &Value::Global(Global::Storage(dtype)), Some(key)) =
        (heap.text(*kind), heap.value(*class), heap.text(*key))
    else {
        return Err(damaged());
    };
    if key.len() > MAX_NAME {
        return Err(format!("its pickle gives a storage a name of {} bytes", key.len()).into());
    }
    let elements = size(heap, *elements, "a storage's length")?;
    // Before PyTorch 0.4 a storage could be part of another: (key, offset, length).
    let (offset, end) = match view.first() {
        Some(&view) if !matches!(heap.value(view), Value::None) => {
            let Some(&[_, offset, length]) = heap.items(view) else {
                return Err(damaged());
            };
            let offset = size(heap, offset, "a storage's offset")?;
            let length = size(heap, length, "a storage's length")?;
            (offset, offset.checked_add(length).ok_or_else(damaged)?)
        }
        _ => (0, elements),
    };
    if end > elements {
        return Err(damaged());
    }
    Ok((Storage { key, dtype, offset }, elements))
}

/// The tensor that `_rebuild_tensor` or `_rebuild_tensor_v2` makes of its arguments:
/// storage, offset, size, stride (and what training needs).
pub(super) fn rebuild<'a>(objects: &Objects<'_, 'a>, arguments: &[Id]) -> Result<Tensor<'a>> {
    let heap = objects.heap();
    let damaged = || "its pickle describes a tensor in an unknown way: it is damaged";
    let &[storage, offset, shape, stride, ..] = arguments else {
        return Err(damaged().into());
    };
    let (storage, elements) = objects.storage(storage).ok_or_else(damaged)?;
    let offset = size(heap, offset, "a tensor's offset")?;
    let shape = extents(heap, objects.extents(shape)?.ok_or_else(damaged)?)?;
    let stride = extents(heap, objects.extents(stride)?.ok_or_else(damaged)?)?;
    let describe = || {
        format!(
            "a tensor of shape {shape:?}, stride {stride:?} and offset {offset} in storage `{}` of \
             {elements} elements",
            crate::error::one_line(storage.key)
        )
    };
    let (count, end) = count_and_end(&shape, &stride, storage.offset.checked_add(offset))
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
    let tensor = Tensor::new(storage, storage.offset + offset, &shape, &stride);
    tensor.ok_or_else(|| format!("{} has no valid stride: the file is damaged", describe()).into())
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

fn extents(heap: &Heap<'_, Global>, items: &[Id]) -> Result<Vec<usize>> {
    if items.len() > MAX_RANK {
        let rank = items.len();
        return Err(format!("a tensor has {rank} dimensions, more than {MAX_RANK}").into());
    }
    let items = items.iter();
    items
        .map(|&item| size(heap, item, "a tensor's extent"))
        .collect()
}

fn size(heap: &Heap<'_, Global>, id: Id, what: &str) -> Result<usize> {
    match *heap.value(id) {
        Value::Int(value) => usize::try_from(value)
            .map_err(|_| format!("{what} is {value}: the file is damaged").into()),
        _ => {
            let kind = heap.type_name(id);
            Err(format!("{what} is of type `{kind}`: the file is damaged").into())
        }
    }
}
