//! The shape of one adder convolution.

use crate::{KernelError, error::check_len};

#[cfg(test)]
mod tests;

/// Sizes, strides and paddings of one adder convolution, checked once so that no later size
/// computation can overflow.
///
/// Activations are NHWC: the input is `[batch, in_height, in_width, in_channels]`, the output
/// `[batch, out_height, out_width, out_channels]`. Weights are OIHW: `[out_channels, in_channels,
/// kernel height, kernel width]`. Padding is zero padding on both sides of an axis, and a padded
/// tap contributes `|0 − w|` like any other. A linear adder layer is a 1x1 kernel on a 1x1 input.
///
/// ```
/// use addernet_kernels::ConvGeometry;
///
/// // A 3x3 layer with stride 2 and padding 1 on 32x32 images.
/// let geometry = ConvGeometry::new([1, 32, 32, 16], 32, [3, 3], [2, 2], [1, 1])?;
/// assert_eq!((geometry.out_height(), geometry.out_width()), (16, 16));
/// assert_eq!(geometry.taps(), 3 * 3 * 16);
/// assert_eq!(geometry.elements(), 16 * 16 * 32 * 3 * 3 * 16);
/// # Ok::<(), addernet_kernels::KernelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvGeometry {
    batch: usize,
    in_height: usize,
    in_width: usize,
    in_channels: usize,
    out_channels: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    out_height: usize,
    out_width: usize,
    elements: u64,
}

impl ConvGeometry {
    /// Checks and stores a geometry.
    ///
    /// `input` is `[batch, height, width, channels]`; `kernel`, `stride` and `padding` are
    /// `[height, width]`.
    ///
    /// # Errors
    /// [`KernelError::ZeroDimension`] for a size or stride of 0, [`KernelError::KernelTooLarge`]
    /// when the kernel does not fit the padded input, [`KernelError::SizeOverflow`] when an array
    /// would exceed the address range.
    pub fn new(
        input: [usize; 4],
        out_channels: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> Result<Self, KernelError> {
        let [batch, in_height, in_width, in_channels] = input;
        for (dimension, size) in [
            ("batch", batch),
            ("in_height", in_height),
            ("in_width", in_width),
            ("in_channels", in_channels),
            ("out_channels", out_channels),
            ("kernel height", kernel[0]),
            ("kernel width", kernel[1]),
            ("stride height", stride[0]),
            ("stride width", stride[1]),
        ] {
            if size == 0 {
                return Err(KernelError::ZeroDimension { dimension });
            }
        }
        let padded_height = padded("padded height", in_height, padding[0])?;
        let padded_width = padded("padded width", in_width, padding[1])?;
        for (axis, kernel, padded_input) in [
            ("height", kernel[0], padded_height),
            ("width", kernel[1], padded_width),
        ] {
            if kernel > padded_input {
                return Err(KernelError::KernelTooLarge {
                    axis,
                    kernel,
                    padded_input,
                });
            }
        }
        let out_height = (padded_height - kernel[0]) / stride[0] + 1;
        let out_width = (padded_width - kernel[1]) / stride[1] + 1;

        checked_len(
            "padded input",
            &[batch, padded_height, padded_width, in_channels],
        )?;
        // Packing rounds the output channels up to whole vectors, hence the slack of one vector.
        let padded_out = out_channels
            .checked_next_multiple_of(64)
            .ok_or(KernelError::SizeOverflow { what: "weights" })?;
        checked_len("weights", &[padded_out, in_channels, kernel[0], kernel[1]])?;
        let out_len = checked_len("output", &[batch, out_height, out_width, out_channels])?;
        let taps = in_channels * kernel[0] * kernel[1];
        let elements =
            (out_len as u64)
                .checked_mul(taps as u64)
                .ok_or(KernelError::SizeOverflow {
                    what: "number of terms",
                })?;
        Ok(Self {
            batch,
            in_height,
            in_width,
            in_channels,
            out_channels,
            kernel,
            stride,
            padding,
            out_height,
            out_width,
            elements,
        })
    }

    /// The same layer for another batch size.
    ///
    /// # Errors
    /// As [`ConvGeometry::new`].
    pub fn with_batch(&self, batch: usize) -> Result<Self, KernelError> {
        Self::new(
            [batch, self.in_height, self.in_width, self.in_channels],
            self.out_channels,
            self.kernel,
            self.stride,
            self.padding,
        )
    }

    /// The same layer with only the first so many output rows and columns: for an input that is a part of a
    /// larger map.
    ///
    /// # Errors
    /// [`KernelError::WrongLength`] unless there is at least one of each, and no more than the layer has.
    pub fn cropped(&self, [height, width]: [usize; 2]) -> Result<Self, KernelError> {
        for (what, size, most) in [
            ("cropped output's height", height, self.out_height),
            ("cropped output's width", width, self.out_width),
        ] {
            check_len(what, size.clamp(1, most), size)?;
        }
        let pixels = (self.batch * height * width * self.out_channels) as u64;
        Ok(Self {
            out_height: height,
            out_width: width,
            elements: pixels * self.taps() as u64,
            ..*self
        })
    }

    /// Images.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Input rows, without padding.
    pub fn in_height(&self) -> usize {
        self.in_height
    }

    /// Input columns, without padding.
    pub fn in_width(&self) -> usize {
        self.in_width
    }

    /// Input channels.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// Output channels (kernels).
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// Kernel `[height, width]`.
    pub fn kernel(&self) -> [usize; 2] {
        self.kernel
    }

    /// Stride `[vertical, horizontal]`.
    pub fn stride(&self) -> [usize; 2] {
        self.stride
    }

    /// Zero padding `[above and below, left and right]`.
    pub fn padding(&self) -> [usize; 2] {
        self.padding
    }

    /// Output rows: `⌊(in_height + 2·padding − kernel) / stride⌋ + 1`.
    pub fn out_height(&self) -> usize {
        self.out_height
    }

    /// Output columns: `⌊(in_width + 2·padding − kernel) / stride⌋ + 1`.
    pub fn out_width(&self) -> usize {
        self.out_width
    }

    /// Elements of the NHWC input.
    pub fn in_len(&self) -> usize {
        self.batch * self.in_height * self.in_width * self.in_channels
    }

    /// Elements of the OIHW weights.
    pub fn weight_len(&self) -> usize {
        self.out_channels * self.taps()
    }

    /// Elements of the NHWC output.
    pub fn out_len(&self) -> usize {
        self.batch * self.out_height * self.out_width * self.out_channels
    }

    /// Terms `|x − w|` in one output element: kernel height · kernel width · input channels.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.in_channels
    }

    /// OIHW shape of the weights.
    pub fn weight_shape(&self) -> [usize; 4] {
        [
            self.out_channels,
            self.in_channels,
            self.kernel[0],
            self.kernel[1],
        ]
    }

    /// Terms `|x − w|` of the whole convolution, the unit in which throughput is given.
    pub fn elements(&self) -> u64 {
        self.elements
    }
}

fn padded(what: &'static str, size: usize, padding: usize) -> Result<usize, KernelError> {
    padding
        .checked_mul(2)
        .and_then(|both| both.checked_add(size))
        .ok_or(KernelError::SizeOverflow { what })
}

/// The product of `sizes`, if an array of that many f32 can exist.
pub(crate) fn checked_len(what: &'static str, sizes: &[usize]) -> Result<usize, KernelError> {
    sizes
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size))
        .filter(|&len| len <= isize::MAX as usize / size_of::<f32>())
        .ok_or(KernelError::SizeOverflow { what })
}
