//! Every variant against plain loops in i64, bit for bit.

use super::*;
use crate::{AdderKernelU8, available_u8};
use proptest::prelude::*;

/// A map of sums with its scales, in ranges where nothing wraps.
#[derive(Clone, Debug)]
struct Problem {
    rows: usize,
    width: usize,
    channels: usize,
    /// Codes beyond the channels, before the first pixel and behind each row.
    gaps: [usize; 3],
    range: CodeRange,
    relu: bool,
    seed: u64,
}

impl Problem {
    fn numbers(&self, stream: u64, low: i64, high: i64, count: usize) -> Vec<i64> {
        let mut state = self.seed ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let span = (high - low + 1) as u64;
        (0..count)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                low + ((state >> 24) % span) as i64
            })
            .collect()
    }

    fn len(&self) -> usize {
        self.rows * self.width * self.channels
    }

    fn sums(&self) -> Vec<i32> {
        let sums = self.numbers(1, -(1 << 16), 1 << 16, self.len());
        sums.into_iter().map(|s| s as i32).collect()
    }

    fn map(&self, stream: u64) -> Vec<i16> {
        let map = self.numbers(stream, i16::MIN.into(), i16::MAX.into(), self.len());
        map.into_iter().map(|v| v as i16).collect()
    }

    fn scales(&self) -> Vec<(i32, i32, u32)> {
        let multipliers = self.numbers(2, -(1 << 13), 1 << 13, self.channels);
        let offsets = self.numbers(3, -(1 << 29), 1 << 29, self.channels);
        let shifts = self.numbers(4, 8, 22, self.channels);
        (0..self.channels)
            .map(|c| (multipliers[c] as i32, offsets[c] as i32, shifts[c] as u32))
            .collect()
    }

    fn row_pitch(&self) -> usize {
        self.width * self.pixel_pitch() + self.gaps[2]
    }

    fn pixel_pitch(&self) -> usize {
        self.channels + self.gaps[0]
    }

    /// Codes of what `value` gives for each place, in a map of threes.
    fn expected_codes(&self, value: impl Fn(usize, usize) -> i64) -> Vec<u8> {
        let mut codes = vec![3; self.gaps[1] + self.rows * self.row_pitch()];
        for i in 0..self.len() {
            let (pixel, c) = (i / self.channels, i % self.channels);
            let (row, column) = (pixel / self.width, pixel % self.width);
            let q = value(i, c).clamp(0, self.range.max.into()) * i64::from(self.range.factor);
            let at = self.gaps[1] + row * self.row_pitch() + column * self.pixel_pitch() + c;
            codes[at] = q as u8;
        }
        codes
    }

    /// Codes that `write` puts into such a map.
    fn codes(&self, write: impl Fn(CodeRows<'_>)) -> Vec<u8> {
        let mut codes = vec![3; self.gaps[1] + self.rows * self.row_pitch()];
        write(CodeRows {
            codes: &mut codes,
            start: self.gaps[1],
            row_pitch: self.row_pitch(),
            pixel_pitch: self.pixel_pitch(),
            range: self.range,
        });
        codes
    }
}

fn problems() -> impl Strategy<Value = Problem> {
    let channels = prop_oneof![1..70usize, Just(16), Just(32), Just(64)];
    let range = prop_oneof![(1..=255u8, Just(1u8)), (1..=51u8, 1..=5u8)];
    (
        1..4usize,
        1..20usize,
        channels,
        [0..9usize, 0..40, 0..5],
        range,
        any::<bool>(),
        any::<u64>(),
    )
        .prop_map(
            |(rows, width, channels, gaps, (max, factor), relu, seed)| Problem {
                rows,
                width,
                channels,
                gaps,
                range: CodeRange { max, factor },
                relu,
                seed,
            },
        )
}

fn scaled(s: i64, (multiplier, offset, shift): (i32, i32, u32)) -> i64 {
    (s * i64::from(multiplier) + i64::from(offset)) >> shift
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sums_become_codes(problem in problems()) {
        let (sums, scales) = (problem.sums(), problem.scales());
        let expected = problem.expected_codes(|i, c| scaled(sums[i].into(), scales[c]));
        let scales = ChannelScales::new(scales).unwrap();
        for kernel in available_u8() {
            let codes = problem.codes(|to| {
                kernel.rescale_to_codes(&sums, problem.width, &scales, to).unwrap();
            });
            prop_assert!(codes == expected, "{}", kernel.name());
        }
    }

    #[test]
    fn sums_become_a_map(problem in problems()) {
        let (sums, scales, old) = (problem.sums(), problem.scales(), problem.map(5));
        let low = if problem.relu { 0 } else { i64::from(i16::MIN) };
        let expected = |with_residual: bool| -> Vec<i16> {
            (0..problem.len()).map(|i| {
                let residual = if with_residual { i64::from(old[i]) } else { 0 };
                let z = scaled(sums[i].into(), scales[i % problem.channels]);
                let z = z.clamp(i16::MIN.into(), i16::MAX.into());
                (z + residual).clamp(low, i16::MAX.into()) as i16
            }).collect()
        };
        let (with, without) = (expected(true), expected(false));
        let scales = ChannelScales::new(scales).unwrap();
        for kernel in available_u8() {
            let run = |residual: Residual<'_>| {
                let mut map = old.clone();
                kernel.rescale_to_map(&sums, &scales, residual, problem.relu, &mut map).unwrap();
                map
            };
            prop_assert!(run(Residual::None) == without, "{}", kernel.name());
            prop_assert!(run(Residual::InPlace) == with, "{}", kernel.name());
            prop_assert!(run(Residual::Map(&old)) == with, "{}", kernel.name());
        }
    }

    #[test]
    fn a_map_becomes_codes(problem in problems(), multiplier: i16, shift in 1..30u32, zero in -255..256i16) {
        let map = problem.map(6);
        let scale = CodeScale::new(multiplier, shift, zero).unwrap();
        let own = (multiplier.into(), 1 << (shift - 1), shift);
        let expected = problem.expected_codes(|i, _| scaled(map[i].into(), own) + i64::from(zero));
        for kernel in available_u8() {
            let codes = problem.codes(|to| {
                kernel.map_to_codes(&map, [problem.width, problem.channels], scale, to).unwrap();
            });
            prop_assert!(codes == expected, "{}", kernel.name());
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let too_large = ChannelScales::new([(1, 0, 32)]);
    assert!(CodeScale::new(1, 0, 0).is_err() && CodeScale::new(1, 30, 0).is_err());
    assert_eq!(
        too_large,
        Err(KernelError::Shift {
            shift: 32,
            limit: 31
        })
    );
    let scales = ChannelScales::new([(1, 0, 0); 3]).unwrap();
    let kernel: &dyn AdderKernelU8 = available_u8()[0];
    let refused = |result| matches!(result, Err(KernelError::WrongLength { .. }));
    let to_codes = |sums: usize, codes: usize, row_pitch: usize| {
        let to = CodeRows {
            codes: &mut vec![0; codes],
            start: 1,
            row_pitch,
            pixel_pitch: 4,
            range: CodeRange {
                max: 255,
                factor: 1,
            },
        };
        kernel.rescale_to_codes(&vec![0; sums], 2, &scales, to)
    };
    assert!(to_codes(12, 16, 8).is_ok());
    assert!(refused(to_codes(12, 15, 8)));
    assert!(refused(to_codes(11, 16, 8)));
    assert!(refused(to_codes(12, 16, usize::MAX)));
    let to_map = |sums: usize, residual: &[i16], map: usize| {
        let residual = Residual::Map(residual);
        kernel.rescale_to_map(&vec![0; sums], &scales, residual, true, &mut vec![0; map])
    };
    assert!(to_map(12, &[0; 12], 12).is_ok());
    assert!(refused(to_map(12, &[0; 12], 11)));
    assert!(refused(to_map(12, &[0; 11], 12)));
    assert!(refused(to_map(11, &[0; 11], 11)));
}

/// A layer on codes that is computed in one call and in parts.
#[derive(Clone, Copy, Debug)]
struct Layer {
    kernel: usize,
    stride: usize,
    in_channels: usize,
    /// The largest code; of codes up to 3 sums may be looked up.
    largest: u8,
}

/// The operator with everything after it in one call against one call for each.
fn one_call_equals_parts(
    problem: &Problem,
    layer: Layer,
    quantizer: CodeScale,
) -> Result<(), TestCaseError> {
    use crate::{ConvGeometry, MapCodes, MapOutput};
    let Layer {
        kernel,
        stride,
        in_channels,
        largest,
    } = layer;
    let (width, channels) = (problem.width, problem.channels);
    let extent = |size: usize| (size - 1) * stride + kernel;
    let input = [1, extent(problem.rows), extent(width), in_channels];
    let g = ConvGeometry::new(input, channels, [kernel; 2], [stride; 2], [0, 0]).unwrap();
    let bytes = |stream, len| -> Vec<u8> {
        let numbers = problem.numbers(stream, 0, largest.into(), len);
        numbers.into_iter().map(|x| x as u8).collect()
    };
    let (x, w) = (bytes(10, g.in_len()), bytes(11, g.weight_len()));
    // Terms are around a third of the largest code; the scaled sums spread over some hundreds.
    let mean = i64::from(largest) * g.taps() as i64 / 3;
    let scales: Vec<_> = problem
        .numbers(12, -900, 900, channels)
        .into_iter()
        .map(|m| (m as i32, (-m * mean + 30_000) as i32, 8))
        .collect();
    let scales = ChannelScales::new(scales).unwrap();
    let old = problem.map(5);
    for kernel in available_u8() {
        let name = kernel.name();
        let packed = kernel.pack_small(g.weight_shape(), &w, largest).unwrap();
        let mut sums = vec![0; g.out_len()];
        kernel.forward(&g, &x, 0, &packed, &mut sums).unwrap();
        let folded = kernel.fold(&packed, &scales).unwrap();

        let parts = problem.codes(|to| {
            kernel.rescale_to_codes(&sums, width, &scales, to).unwrap();
        });
        let whole = problem.codes(|to| {
            kernel.forward_codes(&g, &x, &packed, &folded, to).unwrap();
        });
        prop_assert!(whole == parts, "{} codes", name);

        for residual in 0..3 {
            let residual = || match residual {
                0 => Residual::None,
                1 => Residual::InPlace,
                _ => Residual::Map(&old),
            };
            let mut map = old.clone();
            kernel
                .rescale_to_map(&sums, &scales, residual(), problem.relu, &mut map)
                .unwrap();
            let parts = problem.codes(|to| {
                let size = [width, channels];
                kernel.map_to_codes(&map, size, quantizer, to).unwrap();
            });
            let mut whole_map = old.clone();
            let whole = problem.codes(|rows| {
                let scale = quantizer;
                let output = MapOutput {
                    residual: residual(),
                    relu: problem.relu,
                    map: &mut whole_map.clone(),
                    codes: &mut [MapCodes { scale, rows }],
                };
                kernel
                    .forward_map(&g, &x, &packed, &folded, output)
                    .unwrap();
            });
            let output = MapOutput {
                residual: residual(),
                relu: problem.relu,
                map: &mut whole_map,
                codes: &mut [],
            };
            kernel
                .forward_map(&g, &x, &packed, &folded, output)
                .unwrap();
            prop_assert!(whole_map == map, "{} map", name);
            prop_assert!(whole == parts, "{} codes of a map", name);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn layers_in_one_call_equal_their_parts(
        problem in problems(),
        stride in 1..3usize,
        kernel in 1..4usize,
        in_channels in prop_oneof![Just(8usize), Just(16), Just(24), Just(32), Just(64)],
        wide in any::<bool>(),
        multiplier: i16,
        shift in 8..30u32,
        zero in -255..256i16,
        largest in prop_oneof![2 => Just(255u8), 1 => Just(3)],
    ) {
        // Wide enough, now and then, for the tiles that slide.
        let width = if wide { 16 } else { problem.width };
        let problem = Problem { width, ..problem };
        let layer = Layer { kernel, stride, in_channels, largest };
        let quantizer = CodeScale::new(multiplier, shift, zero).unwrap();
        one_call_equals_parts(&problem, layer, quantizer)?;
    }
}

/// Vectors may hold more pixels or channels than are left: what fills them up must not change the rest, even where
/// the residual is in the place of the values.
#[test]
fn tiles_of_every_size_in_one_call_equal_their_parts() {
    for width in 1..18 {
        for (channels, kernel) in [(4, 1), (16, 3), (20, 1), (48, 3)] {
            for largest in [255, 3] {
                let problem = Problem {
                    rows: 2,
                    width,
                    channels,
                    gaps: [4, 0, 8],
                    range: CodeRange { max: 15, factor: 1 },
                    relu: true,
                    seed: width as u64,
                };
                let layer = Layer {
                    kernel,
                    stride: 1,
                    in_channels: 16,
                    largest,
                };
                // The second one needs no more than the upper halves of its products.
                for (multiplier, shift) in [(3000, 16), (24_000, 19)] {
                    let quantizer = CodeScale::new(multiplier, shift, 0).unwrap();
                    one_call_equals_parts(&problem, layer, quantizer).unwrap();
                }
            }
        }
    }
}
