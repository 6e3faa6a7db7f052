//! What can go wrong before a kernel runs.

use crate::geometry::checked_len;

/// A request that no kernel can carry out.
///
/// Every variant is found before any arithmetic starts: an output buffer is either untouched or
/// complete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A size or a stride of a convolution is zero.
    #[error("adder convolution: {dimension} is 0; every size and stride must be at least 1")]
    ZeroDimension {
        /// The offending dimension, for example `in_channels`.
        dimension: &'static str,
    },
    /// The kernel does not fit the padded input even once.
    #[error(
        "adder convolution: kernel {axis} {kernel} is larger than the padded input {axis} \
         {padded_input}; use a larger input or more padding"
    )]
    KernelTooLarge {
        /// `height` or `width`.
        axis: &'static str,
        /// The kernel's size along that axis.
        kernel: usize,
        /// The input's size along that axis, padding on both sides included.
        padded_input: usize,
    },
    /// A size does not fit in memory's address range.
    #[error("adder convolution: the size of {what} overflows; split the batch or the layer")]
    SizeOverflow {
        /// The array or count whose size overflows, for example `output`.
        what: &'static str,
    },
    /// A kernel has so many terms that its largest sum does not fit an i32.
    #[error(
        "adder convolution: the sum of {taps} terms of up to 255 can exceed an i32; at most {limit} \
         terms (kernel height x kernel width x input channels) are possible"
    )]
    AccumulatorOverflow {
        /// Terms of one output.
        taps: usize,
        /// The largest number of terms whose sum always fits.
        limit: usize,
    },
    /// A buffer's length is not what the geometry asks for.
    #[error("adder convolution: {what} has {actual} elements, the geometry needs {expected}")]
    WrongLength {
        /// The buffer, for example `input`.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        actual: usize,
    },
    /// The weights were packed for another layer.
    #[error(
        "adder convolution: packed weights have OIHW shape {packed:?}, the geometry needs \
         {expected:?}; pack the weights of this layer"
    )]
    WeightShape {
        /// OIHW shape that the geometry asks for.
        expected: [usize; 4],
        /// OIHW shape of the packed weights.
        packed: [usize; 4],
    },
    /// The weights were packed by a kernel with another layout.
    #[error(
        "adder convolution: weights packed by kernel `{packed_by}` given to kernel `{kernel}`, \
         which has another layout; pack them with `{kernel}`"
    )]
    PackedLayout {
        /// Name of the kernel that packed the weights.
        packed_by: &'static str,
        /// Name of the kernel that was asked to use them.
        kernel: &'static str,
    },
    /// A fixed-point scale shifts by more, or less, than it can.
    #[error("fixed-point scale: a shift of {shift} bits is not possible; {limit} are the most")]
    Shift {
        /// The shift.
        shift: u32,
        /// The largest one.
        limit: u32,
    },
    /// No kernel of that name runs here.
    #[error(
        "kernel `{name}` ({origin}) is unknown or not supported by this CPU; available here: \
         {available}"
    )]
    UnknownKernel {
        /// The name asked for.
        name: String,
        /// Where the name came from: an argument or an environment variable.
        origin: &'static str,
        /// Names of the kernels that run here, best first, separated by commas.
        available: String,
    },
}

/// Checks one buffer's length.
pub(crate) fn check_len(
    what: &'static str,
    expected: usize,
    actual: usize,
) -> Result<(), KernelError> {
    if expected == actual {
        Ok(())
    } else {
        Err(KernelError::WrongLength {
            what,
            expected,
            actual,
        })
    }
}

/// Checks that a layer's OIHW shape is not empty and that its weights are as many as it says.
pub(crate) fn check_weights(shape: [usize; 4], actual: usize) -> Result<(), KernelError> {
    let dimensions = [
        "out_channels",
        "in_channels",
        "kernel height",
        "kernel width",
    ];
    for (dimension, size) in dimensions.into_iter().zip(shape) {
        if size == 0 {
            return Err(KernelError::ZeroDimension { dimension });
        }
    }
    check_len("weights", checked_len("weights", &shape)?, actual)
}

/// Checks that the largest sum of so many terms of u8 codes fits an i32.
pub(crate) fn check_taps(taps: usize) -> Result<(), KernelError> {
    const LIMIT: usize = i32::MAX as usize / 255;
    if taps <= LIMIT {
        Ok(())
    } else {
        Err(KernelError::AccumulatorOverflow { taps, limit: LIMIT })
    }
}
