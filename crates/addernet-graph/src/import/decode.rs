//! From the elements in a file to arrays of `f32`.

use std::collections::BTreeMap;

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};

use super::pickle::{self, Dtype, MAX_RANK, Tensor};
use crate::model::Parameters;

/// Tensors of one file may take this many times its length as `f32`: half precision doubles it,
/// tied weights are stored once. Beyond, a few bytes that name one storage over and over fill the
/// memory.
const MAX_EXPANSION: usize = 8;

/// Decodes the tensors `entries`; `storage` finds a storage's bytes.
pub(super) fn parameters<'a>(
    entries: &BTreeMap<&str, Tensor<'_>>,
    file_length: usize,
    mut storage: impl FnMut(&str) -> pickle::Result<&'a [u8]>,
) -> pickle::Result<Parameters> {
    let budget = file_length.saturating_mul(MAX_EXPANSION);
    let mut total = 0usize;
    for tensor in entries.values() {
        let values = tensor.shape().iter().product::<usize>();
        total = total.saturating_add(values.saturating_mul(size_of::<f32>()));
    }
    if total > budget {
        return Err(format!(
            "its tensors take {total} bytes, more than {MAX_EXPANSION} times the file: it is damaged"
        )
        .into());
    }
    entries
        .iter()
        .map(|(&name, tensor)| {
            let bytes = storage(tensor.storage.key)?;
            let values = decode(tensor, bytes)
                .map_err(|reason| format!("tensor `{}` {reason}", crate::error::one_line(name)))?;
            let array = ArrayD::from_shape_vec(IxDyn(tensor.shape()), values)
                .map_err(|error| format!("tensor `{}`: {error}", crate::error::one_line(name)))?;
            Ok((name.to_owned(), array))
        })
        .collect()
}

/// The tensor's values, row-major, or what is wrong with it.
fn decode(tensor: &Tensor<'_>, bytes: &[u8]) -> Result<Vec<f32>, String> {
    let values = match tensor.storage.dtype {
        Dtype::F32 => gather(tensor, bytes, f32::from_le_bytes),
        Dtype::F64 => gather(tensor, bytes, |element| f64::from_le_bytes(element) as f32),
        Dtype::F16 => gather(tensor, bytes, |element| {
            f16::from_le_bytes(element).to_f32()
        }),
        Dtype::Bf16 => gather(tensor, bytes, |element| {
            bf16::from_le_bytes(element).to_f32()
        }),
        Dtype::Other(name, _) => {
            return Err(format!(
                "is stored as {name}; parameters have to be floating-point numbers"
            ));
        }
    };
    values.ok_or_else(|| "reaches outside of its storage: the file is damaged".into())
}

/// Walks the view in row-major order; `None` if it leaves the storage.
fn gather<const N: usize>(
    tensor: &Tensor<'_>,
    bytes: &[u8],
    element: impl Fn([u8; N]) -> f32,
) -> Option<Vec<f32>> {
    let (elements, _) = bytes.as_chunks::<N>();
    let (shape, stride) = (tensor.shape(), tensor.stride());
    let count: usize = shape.iter().product();
    let mut values = Vec::with_capacity(count.min(elements.len()));
    let mut position = [0usize; MAX_RANK];
    let mut index = tensor.offset;
    while values.len() < count {
        values.push(element(*elements.get(index)?));
        for (axis, (&extent, &step)) in shape.iter().zip(stride).enumerate().rev() {
            position[axis] += 1;
            if position[axis] < extent {
                index += step;
                break;
            }
            // Back to the start of this axis; the next outer one moves on.
            position[axis] = 0;
            index -= (extent - 1) * step;
        }
    }
    Some(values)
}
