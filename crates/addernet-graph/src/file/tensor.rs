//! Tensors of the element types that model files hold.

use std::borrow::Cow;

use ndarray::{ArrayD, IxDyn};
use safetensors::Dtype;

use super::header::RawTensor;

/// One tensor of a model file, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredTensor {
    /// 32-bit floating point: parameters, scales.
    F32(ArrayD<f32>),
    /// 32-bit signed integers: sums, integer biases.
    I32(ArrayD<i32>),
    /// 8-bit signed integers: signed codes.
    I8(ArrayD<i8>),
    /// 8-bit unsigned integers: unsigned codes.
    U8(ArrayD<u8>),
}

mod sealed {
    pub trait Sealed {}
}

/// Element types of a [`StoredTensor`]: `f32`, `i32`, `i8` and `u8`.
pub trait Element: sealed::Sealed + Copy + Sized {
    /// The type's name in safetensors files.
    const DTYPE: &'static str;

    /// The array, if the tensor has this element type; the tensor itself otherwise.
    ///
    /// # Errors
    /// The unchanged tensor, if it has another element type.
    fn from_tensor(tensor: StoredTensor) -> Result<ArrayD<Self>, StoredTensor>;

    /// Number of NaNs and infinities, and the flat index of the first.
    fn non_finite(values: &ArrayD<Self>) -> Option<(usize, usize)> {
        let _ = values;
        None
    }
}

macro_rules! elements {
    ($($variant:ident($type:ty) { $($non_finite:item)? })*) => {$(
        impl sealed::Sealed for $type {}

        impl Element for $type {
            const DTYPE: &'static str = stringify!($variant);

            fn from_tensor(tensor: StoredTensor) -> Result<ArrayD<Self>, StoredTensor> {
                match tensor {
                    StoredTensor::$variant(array) => Ok(array),
                    other => Err(other),
                }
            }

            $($non_finite)?
        }

        impl From<ArrayD<$type>> for StoredTensor {
            fn from(array: ArrayD<$type>) -> Self {
                StoredTensor::$variant(array)
            }
        }
    )*};
}

elements! {
    F32(f32) {
        fn non_finite(values: &ArrayD<f32>) -> Option<(usize, usize)> {
            let first = values.iter().position(|v| !v.is_finite())?;
            Some((values.iter().filter(|v| !v.is_finite()).count(), first))
        }
    }
    I32(i32) {}
    I8(i8) {}
    U8(u8) {}
}

impl StoredTensor {
    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        match self {
            StoredTensor::F32(array) => array.shape(),
            StoredTensor::I32(array) => array.shape(),
            StoredTensor::I8(array) => array.shape(),
            StoredTensor::U8(array) => array.shape(),
        }
    }

    /// The element type's name in safetensors files: `F32`, `I32`, `I8` or `U8`.
    pub fn dtype(&self) -> &'static str {
        match self {
            StoredTensor::F32(_) => f32::DTYPE,
            StoredTensor::I32(_) => i32::DTYPE,
            StoredTensor::I8(_) => i8::DTYPE,
            StoredTensor::U8(_) => u8::DTYPE,
        }
    }

    /// `Err(reason)` if the element type is not one that model files hold.
    pub(super) fn from_raw(raw: &RawTensor<'_>) -> Result<Self, String> {
        Ok(match raw.dtype {
            Dtype::F32 => array(raw, f32::from_le_bytes)?.into(),
            Dtype::I32 => array(raw, i32::from_le_bytes)?.into(),
            Dtype::I8 => array(raw, i8::from_le_bytes)?.into(),
            Dtype::U8 => array(raw, u8::from_le_bytes)?.into(),
            other => {
                return Err(format!(
                    "tensor `{}` has the element type {other}; model files hold F32, I32, I8 and U8",
                    raw.name
                ));
            }
        })
    }
}

/// The tensor's elements, each made of `N` bytes by `element`.
///
/// # Errors
/// If the shape does not fit into memory's address range.
pub(crate) fn array<T, const N: usize>(
    raw: &RawTensor<'_>,
    element: impl Fn([u8; N]) -> T,
) -> Result<ArrayD<T>, String> {
    let (chunks, _) = raw.data.as_chunks::<N>();
    let values = chunks.iter().map(|&chunk| element(chunk)).collect();
    ArrayD::from_shape_vec(IxDyn(&raw.shape), values)
        .map_err(|error| format!("tensor `{}` of shape {:?}: {error}", raw.name, raw.shape))
}

impl safetensors::View for &StoredTensor {
    fn dtype(&self) -> Dtype {
        match self {
            StoredTensor::F32(_) => Dtype::F32,
            StoredTensor::I32(_) => Dtype::I32,
            StoredTensor::I8(_) => Dtype::I8,
            StoredTensor::U8(_) => Dtype::U8,
        }
    }

    fn shape(&self) -> &[usize] {
        StoredTensor::shape(self)
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // In logical order, whatever the array's layout.
        Cow::Owned(match self {
            StoredTensor::F32(array) => array.iter().flat_map(|v| v.to_le_bytes()).collect(),
            StoredTensor::I32(array) => array.iter().flat_map(|v| v.to_le_bytes()).collect(),
            StoredTensor::I8(array) => array.iter().flat_map(|v| v.to_le_bytes()).collect(),
            StoredTensor::U8(array) => array.iter().copied().collect(),
        })
    }

    fn data_len(&self) -> usize {
        match self {
            StoredTensor::F32(array) => size_of::<f32>() * array.len(),
            StoredTensor::I32(array) => size_of::<i32>() * array.len(),
            StoredTensor::I8(array) => array.len(),
            StoredTensor::U8(array) => array.len(),
        }
    }
}
