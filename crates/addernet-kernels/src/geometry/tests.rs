use super::*;

const MAX: usize = usize::MAX;

#[test]
fn output_sizes_follow_the_formula() {
    let cases = [
        // (in, kernel, stride, padding, out)
        ([32, 32], [3, 3], [1, 1], [1, 1], (32, 32)),
        ([32, 31], [3, 3], [2, 2], [1, 1], (16, 16)),
        ([7, 7], [7, 7], [1, 1], [0, 0], (1, 1)),
        ([224, 224], [7, 7], [2, 2], [3, 3], (112, 112)),
        ([5, 9], [1, 4], [3, 2], [0, 2], (2, 5)),
        ([1, 1], [1, 1], [MAX, MAX], [0, 0], (1, 1)),
    ];
    for ([h, w], kernel, stride, padding, expected) in cases {
        let g = ConvGeometry::new([2, h, w, 3], 4, kernel, stride, padding).unwrap();
        assert_eq!((g.out_height(), g.out_width()), expected);
        assert_eq!(g.in_len(), 2 * h * w * 3);
        assert_eq!(g.out_len(), 2 * expected.0 * expected.1 * 4);
        assert_eq!(g.weight_len(), 4 * 3 * kernel[0] * kernel[1]);
        assert_eq!(g.elements(), (g.out_len() * g.taps()) as u64);
        let one = g.with_batch(1).unwrap();
        assert_eq!(one.elements() * 2, g.elements());
    }
}

#[test]
fn every_zero_is_named() {
    let make = |z: usize| {
        let size = |at: usize| usize::from(z != at);
        ConvGeometry::new(
            [size(0), size(1), size(2), size(3)],
            size(4),
            [size(5), size(6)],
            [size(7), size(8)],
            [0, 0],
        )
    };
    let names = [
        "batch",
        "in_height",
        "in_width",
        "in_channels",
        "out_channels",
        "kernel height",
        "kernel width",
        "stride height",
        "stride width",
    ];
    for (z, dimension) in names.into_iter().enumerate() {
        let error = make(z).unwrap_err();
        assert_eq!(error, KernelError::ZeroDimension { dimension });
        assert!(error.to_string().contains(dimension), "{error}");
    }
    assert!(make(9).is_ok());
}

#[test]
fn a_kernel_that_does_not_fit_is_refused() {
    let error = ConvGeometry::new([1, 3, 8, 1], 1, [6, 3], [1, 1], [1, 0]).unwrap_err();
    assert_eq!(
        error,
        KernelError::KernelTooLarge {
            axis: "height",
            kernel: 6,
            padded_input: 5
        }
    );
    let error = ConvGeometry::new([1, 8, 3, 1], 1, [3, 4], [1, 1], [1, 0]).unwrap_err();
    assert_eq!(
        error,
        KernelError::KernelTooLarge {
            axis: "width",
            kernel: 4,
            padded_input: 3
        }
    );
}

#[cfg(target_pointer_width = "64")] // The sizes are those of 64-bit machines.
#[test]
fn overflows_are_errors() {
    let overflow =
        |input, o, kernel, padding| match ConvGeometry::new(input, o, kernel, [1, 1], padding)
            .unwrap_err()
        {
            KernelError::SizeOverflow { what } => what,
            other => panic!("{other}"),
        };
    assert_eq!(
        overflow([1, 1, 1, 1], 1, [1, 1], [MAX / 2 + 1, 0]),
        "padded height"
    );
    assert_eq!(
        overflow([1, 1, 1, 1], 1, [1, 1], [0, MAX / 2 + 1]),
        "padded width"
    );
    assert_eq!(overflow([MAX, 2, 2, 1], 1, [1, 1], [0, 0]), "padded input");
    assert_eq!(
        overflow([1, 1, 1, MAX / 2], 1, [1, 1], [0, 0]),
        "padded input"
    );
    assert_eq!(overflow([1, 1, 1, 1], MAX, [1, 1], [0, 0]), "weights");
    assert_eq!(
        overflow([1, 1 << 20, 1 << 20, 1 << 15], 1 << 22, [1, 1], [0, 0]),
        "output"
    );
    assert_eq!(
        overflow([1, 1 << 14, 1 << 15, 1 << 20], 1 << 25, [3, 3], [1, 1]),
        "number of terms"
    );
}
