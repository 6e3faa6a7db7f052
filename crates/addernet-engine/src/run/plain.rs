//! The steps between layers.

use addernet_graph::FeatureShape;
use addernet_kernels::{AdderKernelU8, KernelError, Residual};

use super::Runner;
use super::workspace::Workspace;
use crate::program::*;

impl Runner {
    /// Copies pixels (height, width, channels) into a padded map.
    pub(super) fn copy_pixels(
        &self,
        pixels: &[u8],
        layout: &CodesLayout,
        codes: &mut [u8],
    ) -> Result<(), KernelError> {
        let (channels, pitch) = (layout.shape.channels, layout.pixel());
        let rows = pixels.chunks_exact(layout.shape.width * channels);
        for (row, from) in rows.enumerate() {
            let start = layout.start([0, 0]) + row * layout.row_pitch();
            let to = &mut codes[start..start + layout.shape.width * pitch];
            self.kernel.spread_pixels(from, channels, to, pitch)?;
        }
        Ok(())
    }

    /// A step that turns maps into a map, or a map into codes.
    pub(super) fn plain(
        &self,
        kind: &StepKind,
        pixels: &[u8],
        space: &mut Workspace,
    ) -> Result<(), KernelError> {
        let spec = |id: MapId| &self.program.maps[id];
        match kind {
            StepKind::PixelMap { scales, map } => {
                space.sums.clear();
                space.sums.extend(pixels.iter().map(|&x| i32::from(x)));
                let to = &mut space.maps[spec(*map).slot][..pixels.len()];
                self.kernel
                    .rescale_to_map(&space.sums, scales, Residual::None, false, to)
            }
            StepKind::Rescale { from, scales, to } => {
                let len = spec(*from).shape.values();
                space.sums.clear();
                space.sums.extend(
                    space.maps[spec(*from).slot][..len]
                        .iter()
                        .map(|&v| i32::from(v)),
                );
                let to = &mut space.maps[spec(*to).slot][..len];
                self.kernel
                    .rescale_to_map(&space.sums, scales, Residual::None, false, to)
            }
            StepKind::Add { from, to } => {
                let len = spec(*to).shape.values();
                let slot = spec(*to).slot;
                let mut own = std::mem::take(&mut space.maps[slot]);
                let [a, b] = from.map(|id| &space.maps[spec(id).slot][..len]);
                for (to, (a, b)) in own.iter_mut().zip(a.iter().zip(b)) {
                    *to = a.saturating_add(*b);
                }
                space.maps[slot] = own;
                Ok(())
            }
            StepKind::Relu { from, to } => self.map_to_map(space, *from, *to, |from, to| {
                to.iter_mut().zip(from).for_each(|(to, &v)| *to = v.max(0));
            }),
            StepKind::Pool { from, pool, to } => {
                let (input, output) = (spec(*from).shape, spec(*to).shape);
                let mut result = Ok(());
                self.map_to_map(space, *from, *to, |from, to| {
                    result = pool.run(self.kernel, input, from, output, to);
                })
                .and(result)
            }
            StepKind::Flatten { from, to } => {
                let shape = spec(*from).shape;
                let area = shape.height * shape.width;
                self.map_to_map(space, *from, *to, |from, to| {
                    for (i, to) in to.iter_mut().enumerate() {
                        *to = from[i % area * shape.channels + i / area];
                    }
                })
            }
            StepKind::Quantize { from, codes } => {
                let shape = spec(*from).shape;
                let slot = spec(*from).slot;
                let map = std::mem::take(&mut space.maps[slot]);
                let size = [shape.width, shape.channels];
                let result = self.quantize(&map[..shape.values()], size, 0, codes, space);
                space.maps[slot] = map;
                result
            }
            // These have their own functions.
            StepKind::Pixels { .. }
            | StepKind::PixelConv(_)
            | StepKind::Adder(_)
            | StepKind::Dense(_) => Ok(()),
        }
    }

    /// Runs `run` on the values of two maps in different slots.
    fn map_to_map(
        &self,
        space: &mut Workspace,
        from: MapId,
        to: MapId,
        run: impl FnOnce(&[i16], &mut [i16]),
    ) -> Result<(), KernelError> {
        let (from, to) = (&self.program.maps[from], &self.program.maps[to]);
        let mut own = std::mem::take(&mut space.maps[to.slot]);
        run(
            &space.maps[from.slot][..from.shape.values()],
            &mut own[..to.shape.values()],
        );
        space.maps[to.slot] = own;
        Ok(())
    }
}

impl Pool {
    /// Pools a map; both are height, width, channels.
    fn run(
        &self,
        kernel: &dyn AdderKernelU8,
        input: FeatureShape,
        from: &[i16],
        output: FeatureShape,
        to: &mut [i16],
    ) -> Result<(), KernelError> {
        let area = self.kernel[0] * self.kernel[1];
        if self.max {
            let max = |all: &mut i16, value| *all = (*all).max(value);
            self.windows(input, from, output, to, i16::MIN, max, |value| value);
        } else if area <= 1 << 16 {
            // Sums of so many values fit an i32.
            return self.means(kernel, input, from, output, to);
        } else {
            let add = |all: &mut i64, value| *all += i64::from(value);
            self.windows(input, from, output, to, 0, add, |sum| {
                mean(sum, area as i64)
            });
        }
        Ok(())
    }

    /// The mean of each window.
    fn means(
        &self,
        kernel: &dyn AdderKernelU8,
        input: FeatureShape,
        from: &[i16],
        output: FeatureShape,
        to: &mut [i16],
    ) -> Result<(), KernelError> {
        let count = (self.kernel[0] * self.kernel[1]) as i64;
        let channels = input.channels;
        let mut sums = vec![0; channels];
        for (pixel, to) in to.chunks_exact_mut(channels).enumerate() {
            let (row, column) = (pixel / output.width, pixel % output.width);
            let (top, left) = (row * self.stride[0], column * self.stride[1]);
            let rows = inside(top, self.padding[0], self.kernel[0], input.height);
            let columns = inside(left, self.padding[1], self.kernel[1], input.width);
            sums.fill(0);
            let mut add = |first: usize, pixels: usize| {
                let values = &from[first * channels..][..pixels * channels];
                kernel.add_pixels(values, &mut sums)
            };
            if columns.len() == input.width {
                add(rows.start * input.width, rows.len() * input.width)?;
            } else {
                for y in rows {
                    add(y * input.width + columns.start, columns.len())?;
                }
            }
            for (to, &sum) in to.iter_mut().zip(&sums) {
                *to = mean(sum.into(), count);
            }
        }
        Ok(())
    }

    /// Puts `last` of what `add` makes of each window's values, from `start` on, into `to`.
    #[expect(
        clippy::too_many_arguments,
        reason = "a map and three parts of one function"
    )]
    fn windows<T: Copy>(
        &self,
        input: FeatureShape,
        from: &[i16],
        output: FeatureShape,
        to: &mut [i16],
        start: T,
        add: impl Fn(&mut T, i16),
        last: impl Fn(T) -> i16,
    ) {
        let channels = input.channels;
        let mut window = vec![start; channels];
        for (pixel, to) in to.chunks_exact_mut(channels).enumerate() {
            let (row, column) = (pixel / output.width, pixel % output.width);
            window.fill(start);
            let top = row * self.stride[0];
            let left = column * self.stride[1];
            for y in inside(top, self.padding[0], self.kernel[0], input.height) {
                for x in inside(left, self.padding[1], self.kernel[1], input.width) {
                    let values = &from[(y * input.width + x) * channels..][..channels];
                    window
                        .iter_mut()
                        .zip(values)
                        .for_each(|(all, &value)| add(all, value));
                }
            }
            to.iter_mut()
                .zip(&window)
                .for_each(|(to, &all)| *to = last(all));
        }
    }
}

/// sum/count, rounded, halves up.
pub(crate) fn mean(sum: i64, count: i64) -> i16 {
    let (double, by) = (2 * sum + count, 2 * count);
    // A mean of i16 values is one; a shift is many times as fast as a division.
    match by & (by - 1) {
        0 => (double >> by.trailing_zeros()) as i16,
        _ => double.div_euclid(by) as i16,
    }
}

/// The rows (or columns) of a window that are not padding; `first` is counted from the first padding row.
pub(super) fn inside(
    first: usize,
    padding: usize,
    kernel: usize,
    size: usize,
) -> std::ops::Range<usize> {
    let end = (first + kernel).saturating_sub(padding).min(size);
    first.saturating_sub(padding).min(end)..end
}
