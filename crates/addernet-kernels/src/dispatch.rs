//! Which kernels run here, and which one to take.

use crate::{
    AdderKernelF32, AdderKernelU8, KernelError, fp32::generic::Generic,
    uint8::generic::Generic as GenericU8,
};
use std::sync::LazyLock;

#[cfg(test)]
mod tests;

/// The environment variable that names the kernel when the caller does not.
pub const KERNEL_ENV: &str = "ADDERNET_KERNEL";

type Kernel = &'static dyn AdderKernelF32;
type KernelU8 = &'static dyn AdderKernelU8;

static AVAILABLE: LazyLock<Vec<Kernel>> = LazyLock::new(|| {
    let mut kernels: Vec<Kernel> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        kernels.extend(crate::x86_64::Avx512::detect().map(leak));
        kernels.extend(crate::x86_64::Avx2::detect().map(leak));
    }
    #[cfg(target_arch = "aarch64")]
    kernels.extend(crate::aarch64::Neon::detect().map(leak));
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernels.push(&crate::wasm::Simd128);
    kernels.push(&Generic);
    kernels
});

static AVAILABLE_U8: LazyLock<Vec<KernelU8>> = LazyLock::new(|| {
    let mut kernels: Vec<KernelU8> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        kernels.extend(crate::x86_64::Avx512Vnni::detect().map(leak_u8));
        kernels.extend(crate::x86_64::Avx512U8::detect().map(leak_u8));
        kernels.extend(crate::x86_64::Avx2Vnni::detect().map(leak_u8));
        let packs = crate::x86_64::Avx2U8::<false>::detect().map(leak_u8);
        let shifts = crate::x86_64::Avx2U8::<true>::detect().map(leak_u8);
        match crate::x86_64::shifting_is_faster() {
            true => kernels.extend(shifts.into_iter().chain(packs)),
            false => kernels.extend(packs.into_iter().chain(shifts)),
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        kernels.extend(crate::aarch64::NeonDot::detect().map(leak_u8));
        kernels.extend(crate::aarch64::NeonU8::detect().map(leak_u8));
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    kernels.push(&crate::wasm::Simd128U8);
    kernels.push(&GenericU8);
    kernels
});

/// A token has no size, so nothing is allocated.
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    expect(dead_code)
)]
fn leak(token: impl AdderKernelF32 + 'static) -> Kernel {
    Box::leak(Box::new(token))
}

/// The same for a u8 kernel.
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    expect(dead_code)
)]
fn leak_u8(token: impl AdderKernelU8 + 'static) -> KernelU8 {
    Box::leak(Box::new(token))
}

/// The kernels that this CPU can run, best first. The last one, `generic`, runs everywhere.
///
/// ```
/// let names: Vec<_> = addernet_kernels::available().iter().map(|kernel| kernel.name()).collect();
/// assert_eq!(names.last(), Some(&"generic"));
/// ```
pub fn available() -> &'static [Kernel] {
    &AVAILABLE
}

/// The u8 kernels that this CPU can run, best first. The last one, `generic`, runs everywhere.
///
/// ```
/// let names: Vec<_> = addernet_kernels::available_u8().iter().map(|kernel| kernel.name()).collect();
/// assert_eq!(names.last(), Some(&"generic"));
/// ```
pub fn available_u8() -> &'static [KernelU8] {
    &AVAILABLE_U8
}

/// The kernel called `name`; without a name, the one that the environment variable [`KERNEL_ENV`]
/// names; if that is unset or empty too, the best one.
///
/// The name may be that of a u8 kernel, of which there are more: an extension that only they use, as in
/// `avx512-vnni`, counts as its base `avx512` here.
///
/// # Errors
/// [`KernelError::UnknownKernel`], listing the available kernels, when no kernel of that name runs
/// here.
///
/// ```
/// use addernet_kernels::{KernelError, select};
///
/// assert_eq!(select(Some("generic"))?.name(), "generic");
/// assert!(matches!(select(Some("abacus")), Err(KernelError::UnknownKernel { .. })));
/// # Ok::<(), KernelError>(())
/// ```
pub fn select(name: Option<&str>) -> Result<Kernel, KernelError> {
    choose(name, environment().as_deref())
}

/// The u8 kernel called `name`; without a name, the one that the environment variable
/// [`KERNEL_ENV`] names; if that is unset or empty too, the best one.
///
/// # Errors
/// [`KernelError::UnknownKernel`], listing the available kernels, when no kernel of that name runs
/// here.
///
/// ```
/// use addernet_kernels::{KernelError, select_u8};
///
/// assert_eq!(select_u8(Some("generic"))?.name(), "generic");
/// assert!(matches!(select_u8(Some("abacus")), Err(KernelError::UnknownKernel { .. })));
/// # Ok::<(), KernelError>(())
/// ```
pub fn select_u8(name: Option<&str>) -> Result<KernelU8, KernelError> {
    choose_u8(name, environment().as_deref())
}

fn environment() -> Option<String> {
    std::env::var_os(KERNEL_ENV).map(|name| name.to_string_lossy().into_owned())
}

fn choose(name: Option<&str>, environment: Option<&str>) -> Result<Kernel, KernelError> {
    let names: Vec<_> = available().iter().map(|kernel| kernel.name()).collect();
    let names_u8: Vec<_> = available_u8().iter().map(|kernel| kernel.name()).collect();
    let base = |name| base_of(name, &names, &names_u8);
    position(&names, name.map(base), environment.map(base)).map(|at| available()[at])
}

fn choose_u8(name: Option<&str>, environment: Option<&str>) -> Result<KernelU8, KernelError> {
    let names: Vec<_> = available_u8().iter().map(|kernel| kernel.name()).collect();
    position(&names, name, environment).map(|at| available_u8()[at])
}

/// `avx512` for `avx512-vnni`, which is only among the u8 kernels; any other name as it is.
fn base_of<'a>(name: &'a str, names: &[&str], names_u8: &[&str]) -> &'a str {
    match name.split_once('-') {
        Some((base, _)) if names_u8.contains(&name) && !names.contains(&name) => base,
        _ => name,
    }
}

/// The position in `names` of the kernel to take.
fn position(
    names: &[&str],
    name: Option<&str>,
    environment: Option<&str>,
) -> Result<usize, KernelError> {
    let (name, origin) = match (name, environment) {
        (Some(name), _) => (name, "requested"),
        (None, Some(name)) if !name.is_empty() => {
            (name, "from the environment variable ADDERNET_KERNEL")
        }
        (None, _) => return Ok(0),
    };
    names
        .iter()
        .position(|&known| known == name)
        .ok_or_else(|| KernelError::UnknownKernel {
            name: name.to_owned(),
            origin,
            available: names.join(", "),
        })
}
