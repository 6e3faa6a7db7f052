//! Every variant against the scalar reference, bit for bit.

use crate::pools::Pool;
use crate::{AdderKernelF32, ConvGeometry, KernelError, available, reference};
use proptest::prelude::*;
use std::sync::LazyLock;

/// One convolution with its values.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) geometry: ConvGeometry,
    /// Output rows per unit of work.
    unit_rows: usize,
    seed: u64,
}

impl Problem {
    pub(super) fn new(geometry: ConvGeometry, seed: u64) -> Self {
        Self {
            geometry,
            unit_rows: 1,
            seed,
        }
    }

    pub(super) fn x(&self) -> Vec<f32> {
        values(self.seed, self.geometry.in_len())
    }

    pub(super) fn w(&self) -> Vec<f32> {
        values(!self.seed, self.geometry.weight_len())
    }

    pub(super) fn reference(&self) -> Vec<f32> {
        let mut y = vec![f32::NAN; self.geometry.out_len()];
        reference::forward(&self.geometry, &self.x(), &self.w(), &mut y).unwrap();
        y
    }

    /// The public call.
    fn forward(&self, kernel: &dyn AdderKernelF32) -> Vec<f32> {
        let packed = kernel
            .pack(self.geometry.weight_shape(), &self.w())
            .unwrap();
        let mut y = vec![f32::NAN; self.geometry.out_len()];
        kernel
            .forward(&self.geometry, &self.x(), &packed, &mut y)
            .unwrap();
        y
    }

    /// The same with a given division into units, which small problems would not have on their own.
    fn forward_in_units(&self, kernel: &dyn AdderKernelF32) -> Vec<f32> {
        let packed = kernel
            .pack(self.geometry.weight_shape(), &self.w())
            .unwrap();
        let mut y = vec![f32::NAN; self.geometry.out_len()];
        kernel.forward_in_units(&self.geometry, &self.x(), &packed, &mut y, self.unit_rows);
        y
    }
}

/// Values in −4..4 with every bit of the mantissa in use, and a few exact zeros.
fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..len)
        .map(|_| {
            if next() < 0.05 {
                0.0
            } else {
                next() * 8.0 - 4.0
            }
        })
        .collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Kept from problem to problem, so that each one finds the scratch memory that others left behind.
static POOLS: LazyLock<[Pool; 2]> = LazyLock::new(|| [1, 3].map(Pool::new));

/// Any geometry whose reference takes no more than a few milliseconds.
pub(super) fn problems() -> impl Strategy<Value = Problem> {
    let channels =
        prop_oneof![4 => 1_usize..20, 3 => 20_usize..80, 1 => 250_usize..270, 1 => 500_usize..530];
    let outputs = prop_oneof![3 => 1_usize..20, 3 => 20_usize..70];
    let input = (1_usize..5, 1_usize..14, 1_usize..14, channels);
    let kernel = prop_oneof![
        2 => Just([1, 1]),
        3 => Just([3, 3]),
        1 => Just([5, 5]),
        2 => [1_usize..6, 1_usize..6],
    ];
    (
        input,
        outputs,
        kernel,
        [1_usize..4, 1..4],
        [0_usize..4, 0..4],
        1_usize..6,
        any::<u64>(),
    )
        .prop_filter_map("too large or impossible", |problem| {
            let ((n, h, w, c), o, kernel, stride, padding, unit_rows, seed) = problem;
            let geometry = ConvGeometry::new([n, h, w, c], o, kernel, stride, padding).ok()?;
            (geometry.elements() < 1_500_000).then_some(Problem {
                geometry,
                unit_rows,
                seed,
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_variant_equals_the_reference(problem in problems()) {
        let expected = bits(&problem.reference());
        for kernel in available() {
            let whole = POOLS[0].install(|| problem.forward(*kernel));
            prop_assert_eq!(&bits(&whole), &expected, "{}", kernel.name());
            let units = POOLS[0].install(|| problem.forward_in_units(*kernel));
            prop_assert_eq!(&bits(&units), &expected, "{} in units", kernel.name());
        }
    }

    #[test]
    fn threads_change_nothing(problem in problems()) {
        let expected = bits(&problem.reference());
        for kernel in available() {
            let whole = POOLS[1].install(|| problem.forward(*kernel));
            prop_assert_eq!(&bits(&whole), &expected, "{}", kernel.name());
            let units = POOLS[1].install(|| problem.forward_in_units(*kernel));
            prop_assert_eq!(&bits(&units), &expected, "{} in units", kernel.name());
        }
    }
}

fn check(input: [usize; 4], out_channels: usize, kernel: usize, stride: usize, padding: usize) {
    let geometry =
        ConvGeometry::new(input, out_channels, [kernel; 2], [stride; 2], [padding; 2]).unwrap();
    let problem = Problem {
        geometry,
        unit_rows: 1,
        seed: 7,
    };
    let expected = bits(&problem.reference());
    for pool in &*POOLS {
        let threads = pool.threads();
        for kernel in available() {
            let y = pool.install(|| problem.forward(*kernel));
            assert_eq!(
                bits(&y),
                expected,
                "{} with {threads} threads",
                kernel.name()
            );
        }
    }
}

#[test]
fn resnet20_layers_equal_the_reference() {
    check([2, 32, 32, 16], 16, 3, 1, 1);
    check([2, 32, 32, 16], 32, 3, 2, 1);
    check([2, 32, 32, 16], 32, 1, 2, 0);
    check([3, 16, 16, 32], 64, 3, 2, 1);
    check([3, 8, 8, 64], 64, 3, 1, 1);
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

/// The chunked order keeps a long sum as accurate as its own rounding allows: the error bound for
/// terms of one sign is the number of additions a term passes through (256 + 18) times half a unit
/// in the last place.
#[test]
fn long_sums_are_accurate() {
    let geometry = ConvGeometry::new([1, 3, 3, 512], 16, [3, 3], [1, 1], [0, 0]).unwrap();
    let problem = Problem {
        geometry,
        unit_rows: 1,
        seed: 3,
    };
    let (x, w, y) = (problem.x(), problem.w(), problem.reference());
    for (o, &y) in y.iter().enumerate() {
        let exact: f64 = (0..4608)
            .map(|k| {
                let (position, c) = (k / 512, k % 512);
                (f64::from(x[k]) - f64::from(w[(o * 512 + c) * 9 + position])).abs()
            })
            .sum();
        let error = (f64::from(y) + exact).abs();
        assert!(
            error <= exact * 275.0 * f64::from(f32::EPSILON) / 2.0,
            "{y} for {exact}"
        );
        // In practice errors cancel: one running sum of 4608 terms is off by about 1e-6 here.
        assert!(error <= exact * 3e-7, "{y} for {exact}");
    }
}

#[test]
fn nan_and_infinity_reach_exactly_the_outputs_that_see_them() {
    let geometry = ConvGeometry::new([1, 5, 9, 3], 37, [3, 3], [1, 1], [1, 1]).unwrap();
    let problem = Problem {
        geometry,
        unit_rows: 5,
        seed: 11,
    };
    let (mut x, mut w) = (problem.x(), problem.w());
    x[4] = f32::NAN; // Row 0, column 1.
    x[(4 * 9 + 8) * 3] = f32::INFINITY; // The last pixel, channel 0.
    w[27] = f32::NEG_INFINITY; // Kernel 1, channel 0.
    w[36 * 27 + 1] = f32::NAN; // The last kernel.
    let mut expected = vec![0.0; geometry.out_len()];
    reference::forward(&geometry, &x, &w, &mut expected).unwrap();
    assert!(expected[0].is_nan() && expected[36].is_nan());
    assert_eq!(expected[37 * 4 + 1], f32::NEG_INFINITY);
    assert!(expected[37 * 4].is_finite());
    for kernel in available() {
        let packed = kernel.pack(geometry.weight_shape(), &w).unwrap();
        let mut y = vec![0.0; geometry.out_len()];
        kernel.forward(&geometry, &x, &packed, &mut y).unwrap();
        for (&y, &expected) in y.iter().zip(&expected) {
            assert!(
                y.to_bits() == expected.to_bits() || (y.is_nan() && expected.is_nan()),
                "{}: {y} for {expected}",
                kernel.name()
            );
        }
    }
}

#[test]
fn denormals_and_signed_zeros_are_kept() {
    let geometry = ConvGeometry::new([1, 1, 4, 4], 5, [1, 1], [1, 1], [0, 0]).unwrap();
    let tiny = f32::from_bits(3);
    let x: Vec<f32> = (0..16).map(|i| [0.0, -0.0, tiny, -tiny][i % 4]).collect();
    let w: Vec<f32> = (0..20).map(|i| [-0.0, tiny, 0.0][i % 3]).collect();
    let mut expected = vec![0.0; geometry.out_len()];
    reference::forward(&geometry, &x, &w, &mut expected).unwrap();
    assert!(expected.iter().any(|&y| y != 0.0));
    for kernel in available() {
        let packed = kernel.pack(geometry.weight_shape(), &w).unwrap();
        let mut y = vec![f32::NAN; geometry.out_len()];
        kernel.forward(&geometry, &x, &packed, &mut y).unwrap();
        assert_eq!(bits(&y), bits(&expected), "{}", kernel.name());
    }
}

#[test]
fn wrong_lengths_shapes_and_layouts_are_errors() {
    let geometry = ConvGeometry::new([2, 4, 4, 3], 5, [3, 3], [1, 1], [1, 1]).unwrap();
    let x = vec![0.0; geometry.in_len()];
    let w = vec![0.0; geometry.weight_len()];
    let mut y = vec![7.0; geometry.out_len()];
    for kernel in available() {
        let packed = kernel.pack(geometry.weight_shape(), &w).unwrap();
        assert_eq!(packed.shape(), [5, 3, 3, 3]);
        assert_eq!(packed.packed_by(), kernel.name());
        assert_eq!(
            kernel.forward(&geometry, &x[1..], &packed, &mut y),
            Err(KernelError::WrongLength {
                what: "input",
                expected: 96,
                actual: 95
            })
        );
        assert_eq!(
            kernel.forward(&geometry, &x, &packed, &mut y[1..]),
            Err(KernelError::WrongLength {
                what: "output",
                expected: 160,
                actual: 159
            })
        );
        let other = ConvGeometry::new([2, 4, 4, 3], 5, [1, 1], [1, 1], [0, 0]).unwrap();
        assert_eq!(
            kernel.forward(&other, &x, &packed, &mut y),
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
        for another in available() {
            let result = another.forward(&geometry, &x, &packed, &mut y.clone());
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
        y.iter().all(|&y| y == 7.0),
        "an error left its mark on the output"
    );
}

#[test]
fn kernels_are_shared_between_threads_and_nested_pools() {
    let geometry = ConvGeometry::new([1, 6, 6, 4], 3, [3, 3], [1, 1], [1, 1]).unwrap();
    let problem = Problem {
        geometry,
        unit_rows: 1,
        seed: 5,
    };
    let expected = bits(&problem.reference());
    POOLS[1].scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|_| {
                for kernel in available() {
                    assert_eq!(bits(&problem.forward_in_units(*kernel)), expected);
                }
            });
        }
    });
}
