//! The steps between layers.

use addernet_kernels::{KernelError, Residual};

use super::Runner;
use super::workspace::Workspace;
use crate::program::*;

/// Copies pixels (height, width, channels) into a padded map.
pub(super) fn copy_pixels(pixels: &[u8], layout: &CodesLayout, codes: &mut [u8]) {
    let channels = layout.shape.channels;
    let rows = pixels.chunks_exact(layout.shape.width * channels);
    for (row, from) in rows.enumerate() {
        let start = layout.start([0, 0]) + row * layout.row_pitch();
        let to = &mut codes[start..start + layout.shape.width * layout.pixel()];
        if let (3, 4) = (channels, layout.pixel()) {
            for (from, to) in from
                .as_chunks::<3>()
                .0
                .iter()
                .zip(to.as_chunks_mut::<4>().0)
            {
                *to = [from[0], from[1], from[2], 0];
            }
            continue;
        }
        for (from, to) in from
            .chunks_exact(channels)
            .zip(to.chunks_exact_mut(layout.pixel()))
        {
            to[..channels].copy_from_slice(from);
        }
    }
}

impl Runner {
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
                self.map_to_map(space, *from, *to, |from, to| {
                    pool.run(input, from, output, to)
                })
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
        input: addernet_graph::FeatureShape,
        from: &[i16],
        output: addernet_graph::FeatureShape,
        to: &mut [i16],
    ) {
        let channels = input.channels;
        let start = if self.max { i64::from(i16::MIN) } else { 0 };
        let area = (self.kernel[0] * self.kernel[1]) as i64;
        let mut window = vec![0i64; channels];
        for (pixel, to) in to.chunks_exact_mut(channels).enumerate() {
            let (row, column) = (pixel / output.width, pixel % output.width);
            window.fill(start);
            for y in inside(
                row * self.stride[0],
                self.padding[0],
                self.kernel[0],
                input.height,
            ) {
                for x in inside(
                    column * self.stride[1],
                    self.padding[1],
                    self.kernel[1],
                    input.width,
                ) {
                    let values = &from[(y * input.width + x) * channels..][..channels];
                    for (all, &value) in window.iter_mut().zip(values) {
                        let value = i64::from(value);
                        *all = if self.max {
                            (*all).max(value)
                        } else {
                            *all + value
                        };
                    }
                }
            }
            for (to, &all) in to.iter_mut().zip(&window) {
                *to = if self.max {
                    all as i16
                } else {
                    mean(all, area)
                };
            }
        }
    }
}

/// sum/count, rounded, halves up.
pub(crate) fn mean(sum: i64, count: i64) -> i16 {
    // A mean of i16 values is one.
    (2 * sum + count).div_euclid(2 * count) as i16
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
