//! Every variant against plain loops.

use crate::{AdderKernelU8, available_u8};
use proptest::prelude::*;

fn kernels() -> impl Iterator<Item = &'static dyn AdderKernelU8> {
    available_u8().iter().copied()
}

proptest! {
    #[test]
    fn sums_of_channels_are_those_of_a_plain_loop(
        channels in 1usize..150,
        pixels in 0usize..40,
        seed: u32,
    ) {
        let value = |i: usize| (i as u32).wrapping_add(seed).wrapping_mul(2_654_435_769);
        let map: Vec<i16> = (0..channels * pixels).map(|i| (value(i) >> 16) as i16).collect();
        let before: Vec<i32> = (0..channels).map(|c| value(c) as i32 >> 4).collect();
        let mut expected = before.clone();
        for (i, &v) in map.iter().enumerate() {
            expected[i % channels] += i32::from(v);
        }
        for kernel in kernels() {
            let mut sums = before.clone();
            kernel.add_pixels(&map, &mut sums).unwrap();
            prop_assert_eq!(&sums, &expected, "{}", kernel.name());
        }
    }

    #[test]
    fn pixels_are_where_they_belong_and_nothing_else_changes(
        channels in 1usize..6,
        gap in 0usize..4,
        pixels in 0usize..100,
        seed: u8,
    ) {
        let row: Vec<u8> = (0..channels * pixels)
            .map(|i| (i as u8).wrapping_mul(37).wrapping_add(seed) | 1)
            .collect();
        let pitch = channels + gap;
        for kernel in kernels() {
            // Filler channels are zeros already: those that are written must stay so.
            let mut to = vec![0; pixels * pitch];
            kernel.spread_pixels(&row, channels, &mut to, pitch).unwrap();
            for (i, &code) in to.iter().enumerate() {
                let (pixel, c) = (i / pitch, i % pitch);
                let expected = if c < channels { row[pixel * channels + c] } else { 0 };
                prop_assert_eq!(code, expected, "{} at {}", kernel.name(), i);
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for kernel in kernels() {
        assert!(kernel.add_pixels(&[1; 7], &mut [0; 3]).is_err());
        assert!(kernel.spread_pixels(&[1; 7], 3, &mut [0; 12], 4).is_err());
        assert!(kernel.spread_pixels(&[1; 6], 3, &mut [0; 7], 4).is_err());
        assert!(kernel.spread_pixels(&[1; 6], 3, &mut [0; 4], 2).is_err());
        assert!(
            kernel
                .spread_pixels(&[1; 6], 3, &mut [0; 6], usize::MAX)
                .is_err()
        );
    }
}
