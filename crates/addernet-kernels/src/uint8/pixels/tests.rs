//! Every variant against direct loops, bit for bit.

use super::*;
use crate::{available_u8, reference};
use proptest::prelude::*;

/// Values spread over all bytes, the extremes more often than by chance.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            match (state >> 32) % 16 {
                0 => 0x80,
                1 => 0xff,
                _ => (state >> 56) as u8,
            }
        })
        .collect()
}

fn geometries() -> impl Strategy<Value = ConvGeometry> {
    let sizes = (1..9usize, 1..70usize, 1..3usize, 1..40usize);
    let any = (sizes, 1..5usize, 1..5usize, 1..4usize, 1..4usize);
    // First layers of networks for small images, whose windows slide where there are dot products.
    let sizes = (3..9usize, 3..70usize, Just(1), 1..40usize);
    let first = (sizes, Just(3), Just(3), Just(1), Just(1));
    prop_oneof![3 => any, 1 => first].prop_filter_map(
        "the kernel does not fit",
        |((height, width, groups, out), kh, kw, sh, sw)| {
            let input = [1, height, width, groups * PIXEL_GROUP];
            ConvGeometry::new(input, out, [kh, kw], [sh, sw], [0, 0]).ok()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_are_exact(geometry in geometries(), missing in 0..PIXEL_GROUP, rows in 1..4usize, seed: u64) {
        let g = &geometry;
        let x = bytes(seed, g.in_len());
        let channels = g.in_channels() - missing;
        let [out, _, height, width] = g.weight_shape();
        let w: Vec<i8> = bytes(!seed, out * channels * height * width).into_iter().map(|w| w as i8).collect();
        let mut expected = vec![0i32; g.out_len()];
        for (i, y) in expected.iter_mut().enumerate() {
            let (o, column) = (i % out, i / out % g.out_width());
            let row = i / out / g.out_width();
            for (tap, w) in w[o * channels * height * width..][..channels * height * width].iter().enumerate() {
                let (c, u, v) = (tap / (height * width), tap / width % height, tap % width);
                let (r, k) = (row * g.stride()[0] + u, column * g.stride()[1] + v);
                *y += i32::from(x[(r * g.in_width() + k) * g.in_channels() + c]) * i32::from(*w);
            }
        }
        let packed = PackedWeightsI8::new([out, channels, height, width], &w).unwrap();
        for kernel in available_u8() {
            let mut buffer = vec![-1; rows * g.out_width() * out];
            let mut y = Vec::new();
            let sink = &mut |first: usize, sums: &[i32]| {
                assert_eq!(first * g.out_width() * out, y.len());
                y.extend_from_slice(sums);
            };
            kernel.convolve_rows(g, &x, &packed, &mut buffer, sink).unwrap();
            prop_assert!(y == expected, "{}", kernel.name());
        }
    }

    #[test]
    fn maps_in_one_call_equal_their_parts(
        geometry in geometries(),
        relu: bool,
        multiplier in 1..i16::MAX,
        shift in 10..26u32,
        zero in -20..20i16,
        seed: u64,
    ) {
        use crate::{ChannelScales, CodeRange, CodeRows, CodeScale, MapCodes, MapOutput, Residual};
        let g = &geometry;
        let (width, channels) = (g.out_width(), g.out_channels());
        let x = bytes(seed, g.in_len());
        let w: Vec<i8> = bytes(!seed, g.weight_len()).into_iter().map(|w| w as i8).collect();
        let packed = PackedWeightsI8::new(g.weight_shape(), &w).unwrap();
        let scales = ChannelScales::new((0..channels).map(|c| (40 - c as i32, 1 << c.min(20), 6))).unwrap();
        let scale = CodeScale::new(multiplier, shift, zero).unwrap();
        fn rows(codes: &mut [u8], width: usize, channels: usize) -> CodeRows<'_> {
            CodeRows {
                codes,
                start: 1,
                row_pitch: width * channels + 2,
                pixel_pitch: channels,
                range: CodeRange { max: 85, factor: 3 },
            }
        }
        let len = 1 + g.out_height() * (width * channels + 2);
        for kernel in available_u8() {
            let (mut map, mut codes) = (vec![0; g.out_len()], vec![7; len]);
            let mut sums = Vec::new();
            let mut buffer = vec![0; g.out_len()];
            let sink = &mut |_: usize, row: &[i32]| sums.extend_from_slice(row);
            kernel.convolve_rows(g, &x, &packed, &mut buffer, sink).unwrap();
            kernel.rescale_to_map(&sums, &scales, Residual::None, relu, &mut map).unwrap();
            kernel.map_to_codes(&map, [width, channels], scale, rows(&mut codes, width, channels)).unwrap();

            let (mut whole_map, mut whole_codes) = (vec![0; g.out_len()], vec![7; len]);
            let folded = kernel.fold_convolution(&packed, &scales).unwrap();
            let output = MapOutput {
                residual: Residual::None,
                relu,
                map: &mut whole_map,
                codes: &mut [MapCodes { scale, rows: rows(&mut whole_codes, width, channels) }],
            };
            kernel.convolve_map(g, &x, &packed, &folded, output).unwrap();
            prop_assert!(whole_map == map, "{} map", kernel.name());
            prop_assert!(whole_codes == codes, "{} codes", kernel.name());
        }
    }

    #[test]
    fn rows_are_those_of_the_whole_layer(geometry in geometries(), rows in 1..4usize, seed: u64) {
        // A multiple of 8 channels, as the adder operator wants them.
        let [height, width] = [geometry.in_height(), geometry.in_width()];
        let input = [1, height, width, 2 * geometry.in_channels()];
        let g = ConvGeometry::new(input, geometry.out_channels(), geometry.kernel(), geometry.stride(), [0, 0]).unwrap();
        let (x, w) = (bytes(seed, g.in_len()), bytes(!seed, g.weight_len()));
        let mut expected = vec![0; g.out_len()];
        reference::forward_u8(&g, &x, 0, &w, &mut expected).unwrap();
        for kernel in available_u8() {
            let packed = kernel.pack(g.weight_shape(), &w).unwrap();
            let mut buffer = vec![-1; rows * g.out_width() * g.out_channels()];
            let mut y = Vec::new();
            let sink = &mut |_: usize, sums: &[i32]| y.extend_from_slice(sums);
            kernel.forward_rows(&g, &x, &packed, &mut buffer, sink).unwrap();
            prop_assert!(y == expected, "{}", kernel.name());
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let kernel = available_u8()[0];
    let geometry = |batch, channels, padding| {
        ConvGeometry::new([batch, 4, 4, channels], 2, [3, 3], [1, 1], [padding; 2]).unwrap()
    };
    let packed = PackedWeightsI8::new([2, 3, 3, 3], &[0; 54]).unwrap();
    let convolve = |g: &ConvGeometry, buffer: usize| {
        let (x, mut buffer) = (vec![0; g.in_len()], vec![0; buffer]);
        kernel.convolve_rows(g, &x, &packed, &mut buffer, &mut |_, _| ())
    };
    assert!(convolve(&geometry(1, 4, 0), 4).is_ok());
    for (geometry, buffer) in [
        (geometry(2, 4, 0), 4),
        (geometry(1, 3, 0), 4),
        (geometry(1, 4, 1), 8),
        (geometry(1, 4, 0), 3),
    ] {
        let refused = convolve(&geometry, buffer);
        assert!(
            matches!(refused, Err(KernelError::WrongLength { .. })),
            "{refused:?}"
        );
    }
    let refused = convolve(&geometry(1, 8, 0), 4);
    assert!(
        matches!(refused, Err(KernelError::WeightShape { .. })),
        "{refused:?}"
    );
    let taps = PackedWeightsI8::new([1, 65_794, 1, 1], &vec![0; 65_794]).unwrap_err();
    assert!(matches!(taps, KernelError::AccumulatorOverflow { .. }));
}
