//! The operator's variants that are measured: on floats or on codes.

use std::time::Duration;

use addernet::kernels::{
    self, AdderKernelF32, AdderKernelU8, ConvGeometry, KernelError, bench, peak,
};

/// Variants of one of the two operators.
pub(super) enum Variants {
    F32(Vec<&'static dyn AdderKernelF32>),
    U8(Vec<&'static dyn AdderKernelU8>),
}

/// What a variant's instructions reach on registers alone, per second and thread.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Terms |x − w|.
    pub(super) l1: f64,
    /// Products; on floats only.
    pub(super) fma: Option<f64>,
}

impl Variants {
    /// All that this CPU offers, or the one of that name.
    pub(super) fn choose(codes: bool, name: Option<&str>) -> Result<Self, KernelError> {
        Ok(match (codes, name) {
            (false, None) => Self::F32(kernels::available().to_vec()),
            (false, name) => Self::F32(vec![kernels::select(name)?]),
            (true, None) => Self::U8(kernels::available_u8().to_vec()),
            (true, name) => Self::U8(vec![kernels::select_u8(name)?]),
        })
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        match self {
            Self::F32(kernels) => kernels.iter().map(|kernel| kernel.name()).collect(),
            Self::U8(kernels) => kernels.iter().map(|kernel| kernel.name()).collect(),
        }
    }

    /// The limits of variant `at`.
    pub(super) fn limits(&self, at: usize, time: Duration) -> Limits {
        match self {
            Self::F32(kernels) => Limits {
                l1: peak::l1_elements_per_second(kernels[at], time),
                fma: Some(peak::fma_elements_per_second(kernels[at], time)),
            },
            Self::U8(kernels) => Limits {
                l1: peak::u8_elements_per_second(kernels[at], time),
                fma: None,
            },
        }
    }

    /// Terms |x − w| per second of each on a layer, in the current thread pool.
    pub(super) fn throughputs(
        &self,
        geometry: &ConvGeometry,
        time: Duration,
    ) -> Result<Vec<f64>, KernelError> {
        match self {
            Self::F32(kernels) => {
                let kernels: &[&dyn AdderKernelF32] = kernels;
                bench::forward_throughputs(kernels, geometry, time)
            }
            Self::U8(kernels) => {
                let kernels: &[&dyn AdderKernelU8] = kernels;
                bench::forward_throughputs_u8(kernels, geometry, time)
            }
        }
    }
}
