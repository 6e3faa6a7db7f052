use proptest::prelude::*;

use super::*;

const fn format(bits: u8, signed: bool, multiplier: u8) -> CodeFormat {
    CodeFormat {
        bits,
        signed,
        multiplier,
    }
}

#[test]
fn codes_follow_the_published_formulas() {
    // Nie et al. 2022 with b = 4, S = 1.5: activations round(x·15/S), weights round(w·15/(2S)).
    let activation = format(4, false, 1);
    assert_eq!(
        [-1.0, 0.0, 0.26, 1.5, 9.0].map(|x| activation.encode(x, 1.5, 15)),
        [0, 0, 3, 15, 15]
    );
    let weight = format(4, true, 2);
    assert_eq!(
        [-1.5, -9.0, 0.0, 0.61, 1.5].map(|w| weight.encode(w, 1.5, 15)),
        [-8, -8, 0, 3, 7]
    );
    assert_eq!(weight.units(-8), -16);
    // Halves go to the even code.
    assert_eq!(
        [0.5, 1.5, 2.5].map(|x| activation.encode(x, 15.0, 15)),
        [0, 2, 2]
    );
}

#[test]
fn ranges_are_those_of_the_width() {
    assert_eq!(
        (format(2, true, 1).min(), format(2, true, 1).max()),
        (-2, 1)
    );
    assert_eq!(
        (format(8, false, 1).min(), format(8, false, 1).max()),
        (0, 255)
    );
    for bits in [0, 1, 9, 255] {
        assert!(
            check_bits(bits)
                .unwrap_err()
                .to_string()
                .starts_with("bits: must be 2 to 8")
        );
        assert!(format(bits, true, 1).check().is_err());
    }
    assert!(format(4, true, 0).check().is_err());
}

#[test]
fn packing_is_lsb_first() {
    assert_eq!(
        pack(&[1, 2, 3, 7, 5], format(3, false, 1)),
        [0b1101_0001, 0b0101_1110]
    );
    assert_eq!(pack(&[-2, 1, 0], format(2, true, 1)), [0b0010_1100]);
}

#[test]
fn damaged_packings_are_refused() {
    let three = format(3, false, 1);
    assert!(
        unpack(&[0], 5, three)
            .unwrap_err()
            .contains("take 2 bytes, found 1")
    );
    assert!(
        unpack(&[0, 0x80], 5, three)
            .unwrap_err()
            .contains("behind the last code")
    );
    assert_eq!(unpack(&[], 0, three), Ok(vec![]));
}

proptest! {
    #[test]
    fn packing_round_trips(
        bits in BITS,
        signed: bool,
        seeds in prop::collection::vec(any::<u16>(), 0..100),
    ) {
        let format = format(bits, signed, 1);
        let codes: Vec<i32> =
            seeds.iter().map(|&s| i32::from(s) % (1 << bits) + format.min()).collect();
        let packed = pack(&codes, format);
        prop_assert_eq!(packed.len(), (codes.len() * usize::from(bits)).div_ceil(8));
        prop_assert_eq!(unpack(&packed, codes.len(), format), Ok(codes));
    }

    #[test]
    fn encoding_takes_the_nearest_code(
        bits in BITS,
        signed: bool,
        multiplier in 1u8..4,
        value in -30.0f32..30.0,
        scale in 0.1f32..50.0,
        levels in 1u16..256,
    ) {
        let format = format(bits, signed, multiplier);
        let code = format.encode(value, scale, levels);
        let step = scale / f32::from(levels);
        let distance = |code: i32| (format.units(code) as f32 * step - value).abs();
        let best = (format.min()..=format.max()).map(distance).fold(f32::INFINITY, f32::min);
        prop_assert!(distance(code) <= best * 1.0001 + 1e-5);
    }
}
