//! Which kernels run here, and which one to take.

use crate::{AdderKernelF32, KernelError, fp32::generic::Generic};
use std::sync::LazyLock;

#[cfg(test)]
mod tests;

/// The environment variable that names the kernel when the caller does not.
pub const KERNEL_ENV: &str = "ADDERNET_KERNEL";

type Kernel = &'static dyn AdderKernelF32;

static AVAILABLE: LazyLock<Vec<Kernel>> = LazyLock::new(|| {
    let mut kernels: Vec<Kernel> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        kernels.extend(crate::x86_64::Avx512::detect().map(leak));
        kernels.extend(crate::x86_64::Avx2::detect().map(leak));
    }
    #[cfg(target_arch = "aarch64")]
    kernels.extend(crate::aarch64::Neon::detect().map(leak));
    kernels.push(&Generic);
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

/// The kernels that this CPU can run, best first. The last one, `generic`, runs everywhere.
///
/// ```
/// let names: Vec<_> = addernet_kernels::available().iter().map(|kernel| kernel.name()).collect();
/// assert_eq!(names.last(), Some(&"generic"));
/// ```
pub fn available() -> &'static [Kernel] {
    &AVAILABLE
}

/// The kernel called `name`; without a name, the one that the environment variable [`KERNEL_ENV`]
/// names; if that is unset or empty too, the best one.
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
    let environment = std::env::var_os(KERNEL_ENV).map(|name| name.to_string_lossy().into_owned());
    choose(name, environment.as_deref())
}

fn choose(name: Option<&str>, environment: Option<&str>) -> Result<Kernel, KernelError> {
    let (name, origin) = match (name, environment) {
        (Some(name), _) => (name, "requested"),
        (None, Some(name)) if !name.is_empty() => {
            (name, "from the environment variable ADDERNET_KERNEL")
        }
        (None, _) => return Ok(available().first().copied().unwrap_or(&Generic)),
    };
    available()
        .iter()
        .copied()
        .find(|kernel| kernel.name() == name)
        .ok_or_else(|| {
            let names: Vec<_> = available().iter().map(|kernel| kernel.name()).collect();
            KernelError::UnknownKernel {
                name: name.to_owned(),
                origin,
                available: names.join(", "),
            }
        })
}
