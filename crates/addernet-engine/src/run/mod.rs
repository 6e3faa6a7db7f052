//! Runs a program on one image.

mod dense;
mod plain;
pub(crate) use plain::mean;
pub(crate) mod workspace;

use addernet_kernels::{
    AdderKernelU8, AlignedVec, ChannelScales, CodeRows, ConvGeometry, FoldedScales, KernelError,
    MapOutput, PackedWeightsI8, PackedWeightsU8, Residual,
};

use smallvec::SmallVec;

use crate::error::EngineError;
use crate::program::*;
use workspace::{Workspace, sums_len};

/// A program, prepared for one kernel.
pub(crate) struct Runner {
    kernel: &'static dyn AdderKernelU8,
    program: Program,
    /// One for each step.
    prepared: Vec<Prepared>,
}

/// One for each set of codes that a map becomes: seldom more than two.
type Few<T> = SmallVec<[T; 2]>;

/// What a step needs beside the program.
enum Prepared {
    Nothing,
    PixelConv {
        geometry: ConvGeometry,
        weights: PackedWeightsI8,
        scales: FoldedScales,
        sums: usize,
    },
    Adder {
        groups: Vec<PreparedGroup>,
        sums: usize,
        /// The scales of the one group, if there is one.
        folded: Option<FoldedScales>,
    },
}

struct PreparedGroup {
    /// Of the part of the codes that the layer reads, which has its padding.
    geometry: ConvGeometry,
    /// Where that part begins.
    start: usize,
    weights: PackedWeightsU8,
}

impl PreparedGroup {
    /// The part of a map of codes that the layer reads.
    fn input<'a>(&self, codes: &'a [u8]) -> &'a [u8] {
        &codes[self.start..][..self.geometry.in_len()]
    }
}

impl Runner {
    /// Packs the weights; the program's own copies are given up.
    pub(crate) fn new(
        mut program: Program,
        kernel: &'static dyn AdderKernelU8,
    ) -> Result<Self, EngineError> {
        let mut prepared = Vec::with_capacity(program.steps.len());
        for step in &mut program.steps {
            let error = EngineError::kernel(&step.node);
            let item = match &mut step.kind {
                StepKind::PixelConv(conv) => {
                    let layout = &program.codes[conv.input].layout;
                    let weights = std::mem::take(&mut conv.weights);
                    let scales = conv.finish.scales();
                    prepare_pixel_conv(kernel, layout, &conv.window, &weights, scales)
                }
                StepKind::Adder(adder) => prepare_adder(kernel, &program.codes, adder),
                _ => Ok(Prepared::Nothing),
            };
            prepared.push(item.map_err(error)?);
        }
        Ok(Self {
            kernel,
            program,
            prepared,
        })
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    pub(crate) fn kernel(&self) -> &'static dyn AdderKernelU8 {
        self.kernel
    }

    /// Runs one image (height, width, channels) and writes its logits; `done` is called after each step.
    pub(crate) fn run(
        &self,
        pixels: &[u8],
        space: &mut Workspace,
        logits: &mut [i32],
        mut done: impl FnMut(usize),
    ) -> Result<(), EngineError> {
        for (at, (step, prepared)) in self.program.steps.iter().zip(&self.prepared).enumerate() {
            self.step(step, prepared, pixels, space)?;
            done(at);
        }
        match self.program.output.from {
            OutputFrom::Wide => logits.copy_from_slice(&space.wide),
            OutputFrom::Map(id) => {
                let map = &space.maps[self.program.maps[id].slot];
                logits
                    .iter_mut()
                    .zip(map.iter())
                    .for_each(|(logit, &v)| *logit = v.into());
            }
        }
        Ok(())
    }

    fn step(
        &self,
        step: &Step,
        prepared: &Prepared,
        pixels: &[u8],
        space: &mut Workspace,
    ) -> Result<(), EngineError> {
        match (&step.kind, prepared) {
            (StepKind::Pixels { codes }, _) => {
                let spec = &self.program.codes[*codes];
                self.copy_pixels(pixels, &spec.layout, &mut space.codes[spec.slot])
                    .map_err(EngineError::kernel(&step.node))
            }
            (
                StepKind::PixelConv(conv),
                Prepared::PixelConv {
                    geometry,
                    weights,
                    scales,
                    sums,
                },
            ) => {
                let slot = self.program.codes[conv.input].slot;
                let codes = std::mem::take(&mut space.codes[slot]);
                let input = &codes[..geometry.in_len()];
                let result = match &conv.finish {
                    Finish::Map { .. } => self.to_map(&conv.finish, space, |kernel, output| {
                        kernel.convolve_map(geometry, input, weights, scales, output)
                    }),
                    Finish::Codes(_) => self.with_sums(space, *sums, |space, buffer| {
                        let mut finished = Ok(());
                        let sink = &mut |row: usize, sums: &[i32]| {
                            if finished.is_ok() {
                                finished = self.finish(&conv.finish, space, geometry, row, sums);
                            }
                        };
                        let kernel = self.kernel;
                        kernel
                            .convolve_rows(geometry, input, weights, buffer, sink)
                            .and(finished)
                    }),
                };
                space.codes[slot] = codes;
                result.map_err(EngineError::kernel(&step.node))
            }
            (
                StepKind::Adder(adder),
                Prepared::Adder {
                    groups,
                    sums,
                    folded,
                },
            ) => match (groups.as_slice(), folded) {
                ([group], Some(scales)) => self.one_group(adder, group, scales, space),
                _ => self.groups(adder, groups, *sums, space),
            }
            .map_err(EngineError::kernel(&step.node)),
            (StepKind::Dense(dense), _) => {
                let spec = &self.program.maps[dense.from];
                let from = std::mem::take(&mut space.maps[spec.slot]);
                let to = dense.to.map(|to| self.program.maps[to].slot);
                dense::run(dense, spec.shape, &from, to, space);
                space.maps[spec.slot] = from;
                Ok(())
            }
            (kind, _) => self
                .plain(kind, pixels, space)
                .map_err(EngineError::kernel(&step.node)),
        }
    }

    /// An adder layer whose kernels share a scale: sums are scaled before they leave the registers.
    fn one_group(
        &self,
        adder: &Adder,
        group: &PreparedGroup,
        scales: &FoldedScales,
        space: &mut Workspace,
    ) -> Result<(), KernelError> {
        let PreparedGroup {
            geometry, weights, ..
        } = group;
        let slot = |codes: CodesId| self.program.codes[codes].slot;
        let input_slot = slot(adder.groups[0].input);
        let codes = std::mem::take(&mut space.codes[input_slot]);
        let input = group.input(&codes);
        let result = match &adder.finish {
            Finish::Codes(SumCodes { codes, range, .. }) => {
                let layout = &self.program.codes[*codes].layout;
                let to = code_rows(layout, &mut space.codes[slot(*codes)], 0, *range);
                self.kernel
                    .forward_codes(geometry, input, weights, scales, to)
            }
            Finish::Map { .. } => self.to_map(&adder.finish, space, |kernel, output| {
                kernel.forward_map(geometry, input, weights, scales, output)
            }),
        };
        space.codes[input_slot] = codes;
        result
    }

    /// Runs a layer whose sums become a map, if `finish` says so.
    fn to_map(
        &self,
        finish: &Finish,
        space: &mut Workspace,
        run: impl FnOnce(&dyn AdderKernelU8, MapOutput<'_, '_>) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let Finish::Map {
            residual,
            relu,
            map,
            codes,
            ..
        } = finish
        else {
            return Ok(());
        };
        let slot = |codes: CodesId| self.program.codes[codes].slot;
        let spec = &self.program.maps[*map];
        let mut own = std::mem::take(&mut space.maps[spec.slot]);
        let len = spec.shape.values();
        let residual = match residual.map(|id| self.program.maps[id].slot) {
            None => Residual::None,
            Some(slot) if slot == spec.slot => Residual::InPlace,
            Some(slot) => Residual::Map(&space.maps[slot][..len]),
        };
        let mut lent: Few<AlignedVec<u8>> = codes
            .iter()
            .map(|codes| std::mem::take(&mut space.codes[slot(codes.codes)]))
            .collect();
        let mut targets: Few<_> = codes
            .iter()
            .zip(&mut lent)
            .map(|(to, lent)| addernet_kernels::MapCodes {
                scale: to.scale,
                rows: code_rows(&self.program.codes[to.codes].layout, lent, 0, to.range),
            })
            .collect();
        let output = MapOutput {
            residual,
            relu: *relu,
            map: &mut own[..len],
            codes: &mut targets,
        };
        let result = run(self.kernel, output);
        drop(targets);
        for (codes, lent) in codes.iter().zip(lent) {
            space.codes[slot(codes.codes)] = lent;
        }
        space.maps[spec.slot] = own;
        result
    }

    /// An adder layer of several groups, whose sums are put in order before they are scaled.
    fn groups(
        &self,
        adder: &Adder,
        groups: &[PreparedGroup],
        sums: usize,
        space: &mut Workspace,
    ) -> Result<(), KernelError> {
        let mut layer_sums = std::mem::take(&mut space.layer_sums);
        layer_sums.resize(adder.out.values(), 0);
        for (group, prepared) in adder.groups.iter().zip(groups) {
            let PreparedGroup {
                geometry, weights, ..
            } = prepared;
            let slot = self.program.codes[group.input].slot;
            let codes = std::mem::take(&mut space.codes[slot]);
            let result = self.with_sums(space, sums, |_, buffer| {
                let sink = &mut |row: usize, sums: &[i32]| {
                    scatter(group, adder, row, sums, &mut layer_sums);
                };
                let input = prepared.input(&codes);
                self.kernel
                    .forward_rows(geometry, input, weights, buffer, sink)
            });
            space.codes[slot] = codes;
            result?;
        }
        if let Some(prepared) = groups.first() {
            self.finish(&adder.finish, space, &prepared.geometry, 0, &layer_sums)?;
        }
        space.layer_sums = layer_sums;
        Ok(())
    }

    /// Lends the buffer for sums, `len` of them.
    fn with_sums<T>(
        &self,
        space: &mut Workspace,
        len: usize,
        run: impl FnOnce(&mut Workspace, &mut [i32]) -> T,
    ) -> T {
        let mut sums = std::mem::take(&mut space.sums);
        if sums.len() < len {
            sums.resize(len, 0);
        }
        let result = run(space, &mut sums[..len]);
        space.sums = sums;
        result
    }

    /// What becomes of rows of sums, from output row `row` on.
    fn finish(
        &self,
        finish: &Finish,
        space: &mut Workspace,
        geometry: &ConvGeometry,
        row: usize,
        sums: &[i32],
    ) -> Result<(), KernelError> {
        let width = geometry.out_width();
        match finish {
            Finish::Codes(SumCodes {
                codes,
                scales,
                range,
            }) => {
                let spec = &self.program.codes[*codes];
                let rows = code_rows(&spec.layout, &mut space.codes[spec.slot], row, *range);
                self.kernel.rescale_to_codes(sums, width, scales, rows)?;
            }
            Finish::Map {
                scales,
                residual,
                relu,
                map,
                codes,
            } => {
                let spec = &self.program.maps[*map];
                let mut own = std::mem::take(&mut space.maps[spec.slot]);
                let first = row * width * spec.shape.channels;
                let part = first..first + sums.len();
                let residual = match residual.map(|id| self.program.maps[id].slot) {
                    None => Residual::None,
                    Some(slot) if slot == spec.slot => Residual::InPlace,
                    Some(slot) => Residual::Map(&space.maps[slot][part.clone()]),
                };
                let result = self
                    .kernel
                    .rescale_to_map(sums, scales, residual, *relu, &mut own[part.clone()])
                    .and_then(|()| {
                        self.quantize(&own[part], [width, spec.shape.channels], row, codes, space)
                    });
                space.maps[spec.slot] = own;
                result?;
            }
        }
        Ok(())
    }

    /// The codes of rows of a map, from row `row` on.
    fn quantize(
        &self,
        map: &[i16],
        size: [usize; 2],
        row: usize,
        all: &[MapCodes],
        space: &mut Workspace,
    ) -> Result<(), KernelError> {
        for MapCodes {
            codes,
            scale,
            range,
        } in all
        {
            let spec = &self.program.codes[*codes];
            let rows = code_rows(&spec.layout, &mut space.codes[spec.slot], row, *range);
            self.kernel.map_to_codes(map, size, *scale, rows)?;
        }
        Ok(())
    }
}

/// The rows of a map of codes from `row` on.
fn code_rows<'a>(
    layout: &CodesLayout,
    codes: &'a mut [u8],
    row: usize,
    range: addernet_kernels::CodeRange,
) -> CodeRows<'a> {
    CodeRows {
        codes,
        start: layout.start([0, 0]) + row * layout.row_pitch(),
        row_pitch: layout.row_pitch(),
        pixel_pitch: layout.pixel(),
        range,
    }
}

/// Puts the sums of one group's kernels where they belong among the layer's.
fn scatter(group: &AdderGroup, adder: &Adder, row: usize, sums: &[i32], layer_sums: &mut [i32]) {
    let channels = adder.out.channels;
    let pixels = layer_sums[row * adder.out.width * channels..].chunks_exact_mut(channels);
    for (to, from) in pixels.zip(sums.chunks_exact(group.channels.len())) {
        for (&channel, &sum) in group.channels.iter().zip(from) {
            to[channel] = sum;
        }
    }
}

fn prepare_pixel_conv(
    kernel: &dyn AdderKernelU8,
    layout: &CodesLayout,
    window: &Window,
    weights: &[i8],
    scales: &ChannelScales,
) -> Result<Prepared, KernelError> {
    let geometry = geometry(layout, window)?;
    let (row, rows) = (
        geometry.out_width() * geometry.out_channels(),
        geometry.out_height(),
    );
    let packed = PackedWeightsI8::new(window.shape, weights)?;
    Ok(Prepared::PixelConv {
        geometry,
        scales: kernel.fold_convolution(&packed, scales)?,
        weights: packed,
        sums: sums_len(row, rows, weights.len()),
    })
}

fn prepare_adder(
    kernel: &dyn AdderKernelU8,
    codes: &[CodesSpec],
    adder: &mut Adder,
) -> Result<Prepared, KernelError> {
    let mut groups = Vec::with_capacity(adder.groups.len());
    let mut sums = 0;
    for group in &mut adder.groups {
        let layout = &codes[group.input].layout;
        let geometry = geometry(layout, &group.window)?;
        let weights = std::mem::take(&mut group.weights);
        let weights = filled_up(&weights, group.window.shape, layout.pixel());
        let row = geometry.out_width() * geometry.out_channels();
        sums = sums.max(sums_len(row, geometry.out_height(), weights.len()));
        groups.push(PreparedGroup {
            geometry,
            start: layout.start(group.window.padding),
            weights: kernel.pack_small(geometry.weight_shape(), &weights, group.largest)?,
        });
    }
    let scales = adder.finish.scales();
    let folded = match groups.as_slice() {
        [group] => Some(kernel.fold(&group.weights, scales)?),
        _ => None,
    };
    Ok(Prepared::Adder {
        groups,
        sums,
        folded,
    })
}

/// The geometry of a layer that reads a map with at least its padding around it.
fn geometry(layout: &CodesLayout, window: &Window) -> Result<ConvGeometry, KernelError> {
    let [out_channels, _, kernel_height, kernel_width] = window.shape;
    let height = layout.shape.height + 2 * window.padding[0];
    let width = layout.shape.width + 2 * window.padding[1];
    let whole = ConvGeometry::new(
        [1, height, layout.padded()[1], layout.pixel()],
        out_channels,
        [kernel_height, kernel_width],
        window.stride,
        [0, 0],
    )?;
    // The wider border of another layer gives no outputs.
    whole.cropped([
        (height - kernel_height) / window.stride[0] + 1,
        (width - kernel_width) / window.stride[1] + 1,
    ])
}

/// OIHW weights with zeros in the channels that fill up a pixel: the codes there are zeros too.
fn filled_up(weights: &[u8], [out, channels, height, width]: [usize; 4], pixel: usize) -> Vec<u8> {
    let area = height * width;
    let mut filled = vec![0; out * pixel * area];
    for (from, to) in weights
        .chunks_exact(channels * area)
        .zip(filled.chunks_exact_mut(pixel * area))
    {
        to[..from.len()].copy_from_slice(from);
    }
    filled
}
