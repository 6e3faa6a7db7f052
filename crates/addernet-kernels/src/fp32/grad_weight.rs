//! The weight gradient: every weight gathers from all output pixels of its kernel.
#![allow(unsafe_code)]

use super::{
    grad::{Layout, WeightGradient, place},
    simd::{SimdF32, Task},
};
use crate::{ConvGeometry, KernelError, aligned::AlignedVec, error::check_len};

pub(super) fn grad_weight<S: SimdF32>(
    simd: S,
    geometry: &ConvGeometry,
    x: &[f32],
    w: &[f32],
    grad_y: &[f32],
    kind: WeightGradient,
    grad_w: &mut [f32],
) -> Result<(), KernelError> {
    check_len("input", geometry.in_len(), x.len())?;
    check_len("weights", geometry.weight_len(), w.len())?;
    check_len("output gradient", geometry.out_len(), grad_y.len())?;
    check_len("weight gradient", geometry.weight_len(), grad_w.len())?;
    let g = geometry;
    let layout = Layout::new(g, S::LANES);
    let [pad_v, pad_h] = g.padding();
    let width = g.in_width() + 2 * pad_h;
    let mut image = Image {
        geometry,
        layout,
        weights: layout.pack(w),
        sums: AlignedVec::zeros(layout.len()),
        x: AlignedVec::zeros((g.in_height() + 2 * pad_v) * width * layout.channels()),
        width,
    };
    let image_len = x.len() / g.batch();
    let grad_len = grad_y.len() / g.batch();
    for (x, grad_y) in x.chunks_exact(image_len).zip(grad_y.chunks_exact(grad_len)) {
        place(
            x,
            [g.in_height(), g.in_width()],
            g.in_channels(),
            image.x.as_mut_slice(),
            [pad_v, pad_h],
            [width, layout.channels()],
        );
        match kind {
            WeightGradient::FullPrecision => simd.vectorize(Run::<false>(&mut image, grad_y)),
            WeightGradient::Clamped => simd.vectorize(Run::<true>(&mut image, grad_y)),
        }
    }
    let sums = image.sums.as_slice();
    layout.for_each(|to, from| grad_w[to] = sums[from]);
    Ok(())
}

/// One image's input, and the sums over all images so far.
struct Image<'a> {
    geometry: &'a ConvGeometry,
    layout: Layout,
    weights: AlignedVec<f32>,
    /// In the same layout as the weights.
    sums: AlignedVec<f32>,
    /// The padded input, `[height][width][layout.channels()]`.
    x: AlignedVec<f32>,
    /// Columns of the padded input.
    width: usize,
}

impl Image<'_> {
    /// `B` neighbouring kernels' gradients of one tap, one vector of channels.
    #[inline(always)]
    fn tile<S: SimdF32, const B: usize, const CLAMP: bool>(
        &mut self,
        simd: S,
        one: S::V,
        grad_y: &[f32],
        [block, u, v]: [usize; 3],
        kernel: usize,
    ) {
        let g = self.geometry;
        let [stride_v, stride_h] = g.stride();
        let (out_channels, channels) = (g.out_channels(), self.layout.channels());
        let at = self.layout.tap(block, u, v) + kernel * S::LANES;
        let weights = &self.weights.as_slice()[at..at + B * S::LANES];
        let sums = &mut self.sums.as_mut_slice()[at..at + B * S::LANES];
        let (mut w, mut acc) = ([one; B], [one; B]);
        for b in 0..B {
            // SAFETY: both slices have B vectors.
            unsafe {
                w[b] = simd.load(weights.as_ptr().add(b * S::LANES));
                acc[b] = simd.load(sums.as_ptr().add(b * S::LANES));
            }
        }
        let row_len = g.out_width() * out_channels;
        for (i, grad_y) in grad_y.chunks_exact(row_len).enumerate() {
            let start = ((i * stride_v + u) * self.width + v) * channels + block * S::LANES;
            let len = (g.out_width() - 1) * stride_h * channels + S::LANES;
            let x = &self.x.as_slice()[start..start + len];
            for j in 0..g.out_width() {
                // SAFETY: `x` reaches to the end of the vector of the last of these pixels.
                let x = unsafe { simd.load(x.as_ptr().add(j * stride_h * channels)) };
                for b in 0..B {
                    // SAFETY: a row has `out_width` pixels of `out_channels`, and the caller asks for B
                    // kernels that exist.
                    let g = unsafe { *grad_y.get_unchecked(j * out_channels + kernel + b) };
                    let difference = match CLAMP {
                        true => simd.clamp_diff(x, w[b], one),
                        false => simd.sub(x, w[b]),
                    };
                    acc[b] = simd.mul_add(simd.splat(g), difference, acc[b]);
                }
            }
        }
        for (b, &acc) in acc.iter().enumerate() {
            // SAFETY: the slice has B vectors.
            unsafe { simd.store(sums.as_mut_ptr().add(b * S::LANES), acc) };
        }
    }
}

struct Run<'i, 'a, const CLAMP: bool>(&'i mut Image<'a>, &'i [f32]);

impl<const CLAMP: bool> Task for Run<'_, '_, CLAMP> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdF32>(self, simd: S) {
        let Run(image, grad_y) = self;
        let one = simd.splat(std::hint::black_box(1.0));
        let [height, width] = image.layout.kernel;
        let kernels = image.layout.out_channels;
        for block in 0..image.layout.blocks() {
            for tap in 0..height * width {
                let place = [block, tap / width, tap % width];
                let mut kernel = 0;
                while kernel < kernels {
                    let left = kernels - kernel;
                    kernel += if S::TILE[0] >= 8 && left >= 8 {
                        image.tile::<S, 8, CLAMP>(simd, one, grad_y, place, kernel);
                        8
                    } else if left >= 4 {
                        image.tile::<S, 4, CLAMP>(simd, one, grad_y, place, kernel);
                        4
                    } else {
                        image.tile::<S, 1, CLAMP>(simd, one, grad_y, place, kernel);
                        1
                    };
                }
            }
        }
    }
}
