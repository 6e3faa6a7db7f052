//! Every variant against the scalar reference, bit for bit.

use crate::pools::Pool;
use crate::{AdderKernelU8, ConvGeometry, KernelError, available_u8, reference};
use proptest::prelude::*;
use std::sync::LazyLock;

/// One convolution with its values.
#[derive(Clone, Debug)]
struct Problem {
    geometry: ConvGeometry,
    pad: u8,
    /// Output rows per unit of work.
    unit_rows: usize,
    /// The largest code, of which pairs may be looked up.
    largest: u8,
    seed: u64,
}

impl Problem {
    fn x(&self) -> Vec<u8> {
        self.codes(self.seed, self.geometry.in_len())
    }

    fn w(&self) -> Vec<u8> {
        self.codes(!self.seed, self.geometry.weight_len())
    }

    fn codes(&self, seed: u64, len: usize) -> Vec<u8> {
        let codes = codes(seed, len).into_iter();
        let codes = codes.map(|code| (u16::from(code) * (u16::from(self.largest) + 1)) >> 8);
        codes.map(|code| code as u8).collect()
    }

    fn pack(&self, kernel: &dyn AdderKernelU8) -> crate::PackedWeightsU8 {
        let shape = self.geometry.weight_shape();
        kernel.pack_small(shape, &self.w(), self.largest).unwrap()
    }

    fn reference(&self) -> Vec<i32> {
        let mut y = vec![-1; self.geometry.out_len()];
        reference::forward_u8(&self.geometry, &self.x(), self.pad, &self.w(), &mut y).unwrap();
        y
    }

    /// The public call.
    fn forward(&self, kernel: &dyn AdderKernelU8) -> Vec<i32> {
        let packed = self.pack(kernel);
        let mut y = vec![-1; self.geometry.out_len()];
        kernel
            .forward(&self.geometry, &self.x(), self.pad, &packed, &mut y)
            .unwrap();
        y
    }

    /// The same with a given division into units, which small problems would not have on their own.
    fn forward_in_units(&self, kernel: &dyn AdderKernelU8) -> Vec<i32> {
        let packed = self.pack(kernel);
        let mut y = vec![-1; self.geometry.out_len()];
        kernel.forward_in_units(
            &self.geometry,
            &self.x(),
            self.pad,
            &packed,
            &mut y,
            self.unit_rows,
        );
        y
    }
}

/// Codes of all sizes, with 0 and 255 more often than by chance.
fn codes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            match (state >> 32) % 16 {
                0 => 0,
                1 => 255,
                _ => (state >> 56) as u8,
            }
        })
        .collect()
}

/// Kept from problem to problem, so that each one finds the scratch memory that others left behind.
static POOLS: LazyLock<[Pool; 2]> = LazyLock::new(|| [1, 3].map(Pool::new));

/// Any geometry whose reference takes no more than a few milliseconds.
fn problems() -> impl Strategy<Value = Problem> {
    let channels = prop_oneof![
        4 => 1_usize..20,
        2 => prop_oneof![Just(16), Just(32), Just(64)],
        3 => 20_usize..80,
        1 => 250_usize..270,
        1 => 2040_usize..2049,
    ];
    let outputs = prop_oneof![3 => 1_usize..20, 3 => 20_usize..70];
    let input = (1_usize..5, 1_usize..14, 1_usize..36, channels);
    let kernel = prop_oneof![
        2 => Just([1, 1]),
        3 => Just([3, 3]),
        1 => Just([5, 5]),
        2 => [1_usize..6, 1_usize..6],
    ];
    let stride = prop_oneof![Just([1, 1]), Just([2, 2]), [1_usize..4, 1..4]];
    (
        input,
        outputs,
        kernel,
        stride,
        [0_usize..4, 0..4],
        prop_oneof![Just(0), any::<u8>()],
        1_usize..6,
        prop_oneof![3 => Just(255_u8), 2 => Just(3), 2 => Just(7), 1 => 0_u8..10],
        any::<u64>(),
    )
        .prop_filter_map("too large or impossible", |problem| {
            let ((n, h, w, c), o, kernel, stride, padding, pad, unit_rows, largest, seed) = problem;
            let geometry = ConvGeometry::new([n, h, w, c], o, kernel, stride, padding).ok()?;
            (geometry.elements() < 1_500_000).then_some(Problem {
                geometry,
                pad: pad.min(largest),
                unit_rows,
                largest,
                seed,
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_variant_equals_the_reference(problem in problems()) {
        let expected = problem.reference();
        for kernel in available_u8() {
            let whole = POOLS[0].install(|| problem.forward(*kernel));
            prop_assert_eq!(&whole, &expected, "{}", kernel.name());
            let units = POOLS[0].install(|| problem.forward_in_units(*kernel));
            prop_assert_eq!(&units, &expected, "{} in units", kernel.name());
        }
    }

    #[test]
    fn threads_change_nothing(problem in problems()) {
        let expected = problem.reference();
        for kernel in available_u8() {
            let whole = POOLS[1].install(|| problem.forward(*kernel));
            prop_assert_eq!(&whole, &expected, "{}", kernel.name());
            let units = POOLS[1].install(|| problem.forward_in_units(*kernel));
            prop_assert_eq!(&units, &expected, "{} in units", kernel.name());
        }
    }
}

fn check(input: [usize; 4], out_channels: usize, kernel: usize, stride: usize, padding: usize) {
    let geometry =
        ConvGeometry::new(input, out_channels, [kernel; 2], [stride; 2], [padding; 2]).unwrap();
    for largest in [255, 7, 3] {
        let problem = Problem {
            geometry,
            pad: 3,
            unit_rows: 1,
            largest,
            seed: 7,
        };
        let expected = problem.reference();
        for pool in &*POOLS {
            let threads = pool.threads();
            for kernel in available_u8() {
                let y = pool.install(|| problem.forward(*kernel));
                let name = kernel.name();
                assert!(
                    y == expected,
                    "{name} with {threads} threads, codes to {largest}"
                );
            }
        }
    }
}

#[test]
fn resnet20_layers_equal_the_reference() {
    check([2, 32, 32, 16], 16, 3, 1, 1);
    check([2, 32, 32, 16], 32, 3, 2, 1);
    check([2, 32, 32, 16], 32, 1, 2, 0);
    check([2, 16, 16, 32], 32, 3, 1, 1);
    check([3, 16, 16, 32], 64, 3, 2, 1);
    check([3, 16, 16, 32], 64, 1, 2, 0);
    check([3, 8, 8, 64], 64, 3, 1, 1);
    check([1, 16, 16, 64], 128, 1, 2, 0);
}

/// Widths that whole tiles fill, of 7 or of 8 pixels, and channels that no kernel was made for.
#[test]
fn tiles_that_slide_take_any_number_of_channels() {
    check([2, 5, 14, 20], 40, 3, 1, 1);
    check([1, 4, 28, 129], 32, 3, 1, 1);
    check([1, 3, 24, 100], 65, 3, 1, 1);
    check([1, 7, 7, 512], 32, 3, 1, 1);
    check([2, 6, 16, 3], 32, 3, 1, 1);
}

/// Windows of 16 and 32 channels may be summed 32 or 16 at a time, where the input is long enough to read 36 or 18 pixels of
/// its last row.
#[test]
fn windows_are_summed_in_rows_of_any_length() {
    for width in [8, 15, 16, 17, 31, 32, 33, 40, 64, 70] {
        for stride in [1, 2] {
            check([2, 6, width, 16], 16, 3, stride, 1);
            check([2, 5, width, 32], 16, 3, stride, 1);
            check([1, 7, width + 2, 16], 32, 3, stride, 0);
            check([1, 6, width + 2, 32], 32, 3, stride, 0);
            check([1, 6, width + 2, 64], 16, 3, stride, 1);
        }
    }
}

/// 64 pixels to a vector, one to four of these to a tile, full or not; and rows that vectors cross.
#[test]
fn looked_up_tiles_of_every_size() {
    for width in [7, 8, 9, 16, 23, 24, 32, 40, 65] {
        check([1, 8, width, 16], 16, 3, 1, 1);
        check([1, 8, width, 24], 20, 3, 2, 1);
    }
    check([1, 9, 20, 40], 16, 3, 3, 1);
}

/// The same layer on a map that is padded already.
#[test]
fn padded_maps_need_no_padding() {
    let problem = Problem {
        geometry: ConvGeometry::new([2, 16, 16, 32], 32, [3, 3], [1, 1], [1, 1]).unwrap(),
        pad: 77,
        unit_rows: 3,
        largest: 255,
        seed: 21,
    };
    let padded = ConvGeometry::new([2, 18, 18, 32], 32, [3, 3], [1, 1], [0, 0]).unwrap();
    let mut x = vec![77; padded.in_len()];
    for (row, pixels) in problem.x().chunks(16 * 32).enumerate() {
        let start = (row / 16 * 18 + row % 16 + 1) * 18 + 1;
        x[start * 32..][..16 * 32].copy_from_slice(pixels);
    }
    let expected = problem.reference();
    for kernel in available_u8() {
        let packed = kernel.pack(padded.weight_shape(), &problem.w()).unwrap();
        let mut y = vec![-1; padded.out_len()];
        kernel.forward(&padded, &x, 0, &packed, &mut y).unwrap();
        assert!(y == expected, "{}", kernel.name());
    }
}

#[test]
fn long_sums_equal_the_reference() {
    check([1, 7, 7, 512], 24, 3, 1, 1);
    check([2, 2, 3, 2048], 33, 1, 1, 0);
    check([1, 9, 9, 257], 8, 5, 2, 2);
}

#[test]
fn batches_of_single_pixels_share_tiles() {
    check([50, 1, 1, 300], 10, 1, 1, 0);
    check([50, 1, 1, 16], 40, 3, 1, 1);
}

/// Every difference is 255, in as many terms as tests have time for, and in numbers of channels and sizes of tiles that
/// kernels have code of their own for.
#[test]
fn the_largest_differences_add_up() {
    let mut layers = vec![([5, 5], 2048, 5, 1), ([16, 16], 64, 1, 2)];
    for channels in [16, 24, 32, 64, 80, 88, 128, 512] {
        layers.extend([([3, 8], channels, 3, 1), ([3, 7], channels, 3, 1)]);
        layers.extend([([3, 16], channels, 3, 2), ([2, 2], channels, 3, 1)]);
    }
    for ([height, width], channels, size, stride) in layers {
        let input = [1, height, width, channels];
        let (kernel, padding) = ([size; 2], [size / 2; 2]);
        let geometry = ConvGeometry::new(input, 17, kernel, [stride; 2], padding).unwrap();
        let expected = (255 * size * size * channels) as i32;
        for (x, pad, w) in [(0, 0, 255), (255, 255, 0)] {
            let (x, w) = (vec![x; geometry.in_len()], vec![w; geometry.weight_len()]);
            for kernel in available_u8() {
                let packed = kernel.pack(geometry.weight_shape(), &w).unwrap();
                let mut y = vec![-1; geometry.out_len()];
                kernel.forward(&geometry, &x, pad, &packed, &mut y).unwrap();
                let name = kernel.name();
                assert!(
                    y.iter().all(|&y| y == expected),
                    "{name}, {geometry:?}, {x}",
                    x = x[0]
                );
            }
        }
    }
}

/// The longest possible sum ends just below 2³¹; twice the maxima, which some kernels add up on the
/// way, wrap around it and back.
#[cfg(target_pointer_width = "64")] // Its weights do not fit 32 bits once they are packed.
#[test]
fn the_longest_sum_fits_and_one_more_term_is_an_error() {
    const LIMIT: usize = 8_421_504;
    let geometry = ConvGeometry::new([1, 1, 1, LIMIT], 1, [1, 1], [1, 1], [0, 0]).unwrap();
    let (x, w) = (vec![255; LIMIT], vec![0; LIMIT]);
    let mut y = [-1];
    reference::forward_u8(&geometry, &x, 0, &w, &mut y).unwrap();
    assert_eq!(y, [2_147_483_520]);
    for kernel in available_u8() {
        for (x, w) in [(&x, &w), (&w, &x)] {
            let packed = kernel.pack(geometry.weight_shape(), w).unwrap();
            let mut y = [-1];
            kernel.forward(&geometry, x, 0, &packed, &mut y).unwrap();
            assert_eq!(y, [2_147_483_520], "{}", kernel.name());
        }
    }

    let overflow = KernelError::AccumulatorOverflow {
        taps: LIMIT + 1,
        limit: LIMIT,
    };
    let geometry = ConvGeometry::new([1, 1, 1, LIMIT + 1], 1, [1, 1], [1, 1], [0, 0]).unwrap();
    let long = vec![0; LIMIT + 1];
    assert_eq!(
        reference::forward_u8(&geometry, &long, 0, &long, &mut y).unwrap_err(),
        overflow
    );
    for kernel in available_u8() {
        let error = kernel.pack(geometry.weight_shape(), &long).unwrap_err();
        assert_eq!(error, overflow, "{}", kernel.name());
    }
}

#[test]
fn wrong_lengths_shapes_and_layouts_are_errors() {
    let geometry = ConvGeometry::new([2, 4, 4, 3], 5, [3, 3], [1, 1], [1, 1]).unwrap();
    let x = vec![0; geometry.in_len()];
    let w = vec![0; geometry.weight_len()];
    let mut y = vec![7; geometry.out_len()];
    for kernel in available_u8() {
        let packed = kernel.pack(geometry.weight_shape(), &w).unwrap();
        assert_eq!(packed.shape(), [5, 3, 3, 3]);
        assert_eq!(packed.packed_by(), kernel.name());
        assert_eq!(
            kernel.forward(&geometry, &x[1..], 0, &packed, &mut y),
            Err(KernelError::WrongLength {
                what: "input",
                expected: 96,
                actual: 95
            })
        );
        assert_eq!(
            kernel.forward(&geometry, &x, 0, &packed, &mut y[1..]),
            Err(KernelError::WrongLength {
                what: "output",
                expected: 160,
                actual: 159
            })
        );
        let other = ConvGeometry::new([2, 4, 4, 3], 5, [1, 1], [1, 1], [0, 0]).unwrap();
        assert_eq!(
            kernel.forward(&other, &x, 0, &packed, &mut y),
            Err(KernelError::WeightShape {
                expected: [5, 3, 1, 1],
                packed: [5, 3, 3, 3]
            })
        );
        assert_eq!(
            kernel.pack([5, 3, 3, 3], &w[1..]).unwrap_err(),
            KernelError::WrongLength {
                what: "weights",
                expected: 135,
                actual: 134
            }
        );
        assert_eq!(
            kernel.pack([5, 0, 3, 3], &[]).unwrap_err(),
            KernelError::ZeroDimension {
                dimension: "in_channels"
            }
        );
        assert_eq!(
            kernel.pack([usize::MAX, 2, 3, 3], &w).unwrap_err(),
            KernelError::SizeOverflow { what: "weights" }
        );
        for another in available_u8() {
            let result = another.forward(&geometry, &x, 0, &packed, &mut y.clone());
            // Same layout or a clear refusal; never a wrong result.
            if let Err(error) = result {
                assert_eq!(
                    error,
                    KernelError::PackedLayout {
                        packed_by: kernel.name(),
                        kernel: another.name()
                    }
                );
                assert_ne!(another.name(), kernel.name());
            }
        }
    }
    assert!(
        y.iter().all(|&y| y == 7),
        "an error left its mark on the output"
    );
}

/// The address range holds the padded input, but not with its channels filled up to whole groups.
#[test]
fn filled_up_channels_that_overflow_are_an_error() {
    let padding = isize::MAX as usize / 4 / 3;
    let stride = [usize::MAX; 2];
    let geometry = ConvGeometry::new([1, 1, 1, 1], 1, [1, 1], stride, [padding, 0]).unwrap();
    assert_eq!(geometry.out_len(), 1);
    for kernel in available_u8() {
        let packed = kernel.pack([1, 1, 1, 1], &[1]).unwrap();
        let mut y = [-1];
        let result = kernel.forward(&geometry, &[1], 5, &packed, &mut y);
        if kernel.name() == "generic" {
            // No groups to fill up: only the rows that the output needs are copied.
            assert_eq!((result, y), (Ok(()), [4]));
        } else {
            let what = "padded input";
            assert_eq!(result, Err(KernelError::SizeOverflow { what }));
            assert_eq!(y, [-1]);
        }
    }
}

/// A stride that never takes place may be any number, where sums are looked up, too.
#[test]
fn single_windows_have_any_stride() {
    let geometry = ConvGeometry::new([1, 3, 3, 8], 2, [3, 3], [usize::MAX; 2], [0, 0]).unwrap();
    let problem = Problem {
        geometry,
        pad: 0,
        unit_rows: 1,
        largest: 3,
        seed: 11,
    };
    let expected = problem.reference();
    for kernel in available_u8() {
        assert_eq!(problem.forward(*kernel), expected, "{}", kernel.name());
    }
}

#[test]
fn kernels_are_shared_between_threads_and_nested_pools() {
    let geometry = ConvGeometry::new([1, 6, 6, 4], 3, [3, 3], [1, 1], [1, 1]).unwrap();
    let problem = Problem {
        geometry,
        pad: 9,
        unit_rows: 1,
        largest: 255,
        seed: 5,
    };
    let expected = problem.reference();
    POOLS[1].scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|_| {
                for kernel in available_u8() {
                    assert_eq!(problem.forward_in_units(*kernel), expected);
                }
            });
        }
    });
}
