//! The input gradient: every input pixel gathers from the outputs that see it.
#![allow(unsafe_code)]

use super::{
    grad::{Layout, place},
    simd::{SimdF32, Task},
};
use crate::{ConvGeometry, KernelError, aligned::AlignedVec, error::check_len};
use rayon::prelude::*;

pub(super) fn grad_input<S: SimdF32>(
    simd: S,
    geometry: &ConvGeometry,
    x: &[f32],
    w: &[f32],
    grad_y: &[f32],
    grad_x: &mut [f32],
) -> Result<(), KernelError> {
    check_len("input", geometry.in_len(), x.len())?;
    check_len("weights", geometry.weight_len(), w.len())?;
    check_len("output gradient", geometry.out_len(), grad_y.len())?;
    check_len("input gradient", geometry.in_len(), grad_x.len())?;
    let layout = Layout::new(geometry, S::LANES);
    let weights = layout.pack(w);
    let image_len = x.len() / geometry.batch();
    let grad_len = grad_y.len() / geometry.batch();
    grad_x
        .par_chunks_exact_mut(image_len)
        .zip(x.par_chunks_exact(image_len))
        .zip(grad_y.par_chunks_exact(grad_len))
        .for_each_init(
            || Image::new(geometry, layout, weights.as_slice()),
            |image, ((grad_x, x), grad_y)| {
                image.fill(x, grad_y);
                simd.vectorize(Run(image));
                image.take(grad_x);
            },
        );
    Ok(())
}

/// One image's maps, in the form that the tiles read.
struct Image<'a> {
    geometry: &'a ConvGeometry,
    layout: Layout,
    weights: &'a [f32],
    /// `[height][width][layout.channels()]`.
    x: AlignedVec<f32>,
    /// Likewise.
    grad_x: AlignedVec<f32>,
    /// The output gradient with a border of zeros, so that every tap of every pixel has a place there:
    /// row i of the output is row i + kernel height − 1, columns alike.
    grad_y: AlignedVec<f32>,
    /// Columns of the padded output gradient.
    grad_width: usize,
}

impl<'a> Image<'a> {
    fn new(geometry: &'a ConvGeometry, layout: Layout, weights: &'a [f32]) -> Self {
        let g = geometry;
        let pixels = g.in_height() * g.in_width();
        let extent = |axis: usize, input: usize, output: usize| {
            let reached = (input - 1 + g.padding()[axis]) / g.stride()[axis] + 1;
            reached.max(output) + g.kernel()[axis] - 1
        };
        let height = extent(0, g.in_height(), g.out_height());
        let width = extent(1, g.in_width(), g.out_width());
        Self {
            geometry,
            layout,
            weights,
            x: AlignedVec::zeros(pixels * layout.channels()),
            grad_x: AlignedVec::zeros(pixels * layout.channels()),
            grad_y: AlignedVec::zeros(height * width * g.out_channels()),
            grad_width: width,
        }
    }

    fn fill(&mut self, x: &[f32], grad_y: &[f32]) {
        let g = self.geometry;
        place(
            x,
            [g.in_height(), g.in_width()],
            g.in_channels(),
            self.x.as_mut_slice(),
            [0, 0],
            [g.in_width(), self.layout.channels()],
        );
        place(
            grad_y,
            [g.out_height(), g.out_width()],
            g.out_channels(),
            self.grad_y.as_mut_slice(),
            [g.kernel()[0] - 1, g.kernel()[1] - 1],
            [self.grad_width, g.out_channels()],
        );
    }

    fn take(&self, grad_x: &mut [f32]) {
        let channels = self.geometry.in_channels();
        for (to, from) in grad_x
            .chunks_exact_mut(channels)
            .zip(self.grad_x.as_slice().chunks_exact(self.layout.channels()))
        {
            to.copy_from_slice(&from[..channels]);
        }
    }

    /// `P` pixels of one row, `stride` columns apart, starting at `column`; one vector of channels.
    #[inline(always)]
    fn tile<S: SimdF32, const P: usize>(
        &mut self,
        simd: S,
        one: S::V,
        [row, column]: [usize; 2],
        block: usize,
    ) {
        let g = self.geometry;
        let ([stride_v, stride_h], [pad_v, pad_h]) = (g.stride(), g.padding());
        let [kernel_height, kernel_width] = g.kernel();
        let out_channels = g.out_channels();
        let channels = self.layout.channels();
        let place =
            |p: usize| (row * g.in_width() + column + p * stride_h) * channels + block * S::LANES;
        assert!(place(P - 1) + S::LANES <= self.x.as_slice().len());
        let mut x = [one; P];
        for (p, x) in x.iter_mut().enumerate() {
            // SAFETY: the last pixel's vector lies inside the map, as asserted.
            *x = unsafe { simd.load(self.x.as_slice().as_ptr().add(place(p))) };
        }
        let mut acc = [simd.splat(0.0); P];
        for u in ((row + pad_v) % stride_v..kernel_height).step_by(stride_v) {
            // Row (row + pad − u)/stride of the output, with the border.
            let i = (row + pad_v + (kernel_height - 1) * stride_v - u) / stride_v;
            for v in ((column + pad_h) % stride_h..kernel_width).step_by(stride_h) {
                let j = (column + pad_h + (kernel_width - 1) * stride_h - v) / stride_h;
                let from = (i * self.grad_width + j) * out_channels;
                let grad = &self.grad_y.as_slice()[from..from + P * out_channels];
                let tap = self.layout.tap(block, u, v);
                let weights = &self.weights[tap..tap + out_channels * S::LANES];
                for o in 0..out_channels {
                    // SAFETY: `weights` has a vector for every output channel.
                    let w = unsafe { simd.load(weights.as_ptr().add(o * S::LANES)) };
                    for p in 0..P {
                        // SAFETY: `grad` has P pixels of so many channels.
                        let g = simd.splat(unsafe { *grad.get_unchecked(p * out_channels + o) });
                        acc[p] = simd.mul_add(g, simd.clamp_diff(w, x[p], one), acc[p]);
                    }
                }
            }
        }
        for (p, &acc) in acc.iter().enumerate() {
            // SAFETY: the map is as long as `x`, for which the assertion was made.
            unsafe { simd.store(self.grad_x.as_mut_slice().as_mut_ptr().add(place(p)), acc) };
        }
    }
}

struct Run<'i, 'a>(&'i mut Image<'a>);

impl Task for Run<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: SimdF32>(self, simd: S) {
        let image = self.0;
        let one = simd.splat(std::hint::black_box(1.0));
        let (height, width) = (image.geometry.in_height(), image.geometry.in_width());
        let stride = image.geometry.stride()[1];
        for block in 0..image.layout.blocks() {
            for row in 0..height {
                // Columns of one phase are seen by the same taps.
                for phase in 0..stride.min(width) {
                    let mut column = phase;
                    while column < width {
                        let left = (width - column).div_ceil(stride);
                        let step = if S::TILE[0] >= 8 && left >= 8 {
                            image.tile::<S, 8>(simd, one, [row, column], block);
                            8
                        } else if left >= 4 {
                            image.tile::<S, 4>(simd, one, [row, column], block);
                            4
                        } else {
                            image.tile::<S, 1>(simd, one, [row, column], block);
                            1
                        };
                        column += step * stride;
                    }
                }
            }
        }
    }
}
