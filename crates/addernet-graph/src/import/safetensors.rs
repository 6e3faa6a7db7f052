//! Plain safetensors state dicts.

use std::collections::BTreeMap;

use half::{bf16, f16};
use ndarray::ArrayD;
use safetensors::Dtype;

use super::checkpoint;
use crate::file::array;
use crate::file::header::{Container, RawTensor};
use crate::model::Parameters;

/// The container's floating-point tensors as `f32`.
///
/// # Errors
/// What is wrong, in one line: a tensor that is no parameter, or none at all.
pub(super) fn parameters(container: &Container<'_>) -> Result<Parameters, String> {
    let tensors: BTreeMap<&str, &RawTensor<'_>> = container
        .tensors
        .iter()
        .filter(|raw| checkpoint::is_parameter(&raw.name))
        .map(|raw| (raw.name.as_str(), raw))
        .collect();
    if tensors.is_empty() {
        return Err("holds no parameters".into());
    }
    checkpoint::without_prefixes(tensors)
        .into_iter()
        .map(|(name, raw)| Ok((name.to_owned(), decode(raw)?)))
        .collect()
}

fn decode(raw: &RawTensor<'_>) -> Result<ArrayD<f32>, String> {
    match raw.dtype {
        Dtype::F32 => array(raw, f32::from_le_bytes),
        Dtype::F64 => array(raw, |element| f64::from_le_bytes(element) as f32),
        Dtype::F16 => array(raw, |element| f16::from_le_bytes(element).to_f32()),
        Dtype::BF16 => array(raw, |element| bf16::from_le_bytes(element).to_f32()),
        other => Err(format!(
            "tensor `{}` has the element type {other}; parameters have to be floating-point numbers",
            raw.name
        )),
    }
}
