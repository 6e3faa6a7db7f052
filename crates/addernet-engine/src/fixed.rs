//! Fixed-point constants for a real affine function of an integer.

/// z = round(s · gain + offset) for integers s in a known range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine {
    pub(crate) gain: f64,
    pub(crate) offset: f64,
    /// Smallest and largest s.
    pub(crate) range: [i64; 2],
    /// Where s usually is: there the offset makes up for the multiplier's rounding.
    pub(crate) centre: f64,
}

/// What the constants and all intermediate values must fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) multiplier: i64,
    /// Of |s · multiplier + offset|, for every s.
    pub(crate) value: i64,
    pub(crate) shift: u32,
}

impl Limits {
    /// i32 arithmetic.
    pub(crate) const NARROW: Self = Self {
        multiplier: i32::MAX as i64,
        value: i32::MAX as i64,
        shift: 31,
    };
    /// Codes of a map: see [`addernet_kernels::CodeScale`].
    pub(crate) const CODES: Self = Self {
        multiplier: i16::MAX as i64,
        value: i32::MAX as i64,
        shift: 29,
    };
    /// i64 arithmetic with multipliers of 32 bits.
    pub(crate) const WIDE: Self = Self {
        multiplier: i32::MAX as i64,
        value: 1 << 62,
        shift: 46,
    };
}

/// (s · multiplier + offset) >> shift, where one half is part of the offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FixedPoint {
    pub(crate) multiplier: i64,
    pub(crate) offset: i64,
    pub(crate) shift: u32,
}

impl Affine {
    /// The most precise constants that fit, or the magnitude that does not fit even without a fraction.
    pub(crate) fn fixed(&self, limits: Limits) -> Result<FixedPoint, f64> {
        let [low, high] = self.range;
        // The clamp's bounds are finite, so a NaN is the only thing to look out for.
        let centre = self.centre.round_ties_even();
        let centre = if centre.is_nan() {
            low
        } else {
            (centre.clamp(low as f64, high as f64) as i64).clamp(low, high)
        };
        // Of whole numbers, without a fraction: what does not fit then never does.
        let mut worst = f64::INFINITY;
        for shift in (0..=limits.shift).rev() {
            let one = (1u64 << shift) as f64;
            let multiplier = (self.gain * one).round_ties_even();
            let at_centre = ((self.offset + self.gain * centre as f64) * one).round_ties_even();
            let largest = |s: i64| at_centre.abs() + (multiplier * (s - centre) as f64).abs();
            worst = largest(low).max(largest(high));
            // Negated so that NaN is refused.
            if !(multiplier.abs() <= limits.multiplier as f64 && worst <= limits.value as f64) {
                continue;
            }
            let multiplier = multiplier as i64;
            let half = if shift == 0 { 0 } else { 1i128 << (shift - 1) };
            let offset = at_centre as i128 - i128::from(multiplier) * i128::from(centre) + half;
            let value = |s: i64| (i128::from(s) * i128::from(multiplier) + offset).abs();
            let largest = value(low).max(value(high)).max(offset.abs());
            if largest <= i128::from(limits.value) {
                return Ok(FixedPoint {
                    multiplier,
                    offset: offset as i64,
                    shift,
                });
            }
        }
        Err(worst)
    }
}

impl FixedPoint {
    /// The largest |s · multiplier + offset| for s in `range`.
    pub(crate) fn worst(&self, range: [i64; 2]) -> i64 {
        let value = |s: i64| (s * self.multiplier + self.offset).abs();
        value(range[0]).max(value(range[1]))
    }

    /// The function that the constants compute.
    #[cfg(test)]
    fn apply(&self, s: i64) -> i64 {
        (s * self.multiplier + self.offset) >> self.shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn constants_round_the_real_function(
            gain in -0.5..0.5f64,
            wanted in -200.0..200.0f64,
            high in 1..(1i64 << 21),
            at in 0.0..1.0f64,
            deviation in -1.0..1.0f64,
        ) {
            // A sum whose BN output is a few hundred codes, as in practice: within so many of the centre.
            let centre = at * high as f64;
            let affine = Affine { gain, offset: wanted - gain * centre, range: [0, high], centre };
            let fixed = affine.fixed(Limits::NARROW).unwrap();
            prop_assert!(fixed.worst(affine.range) <= Limits::NARROW.value);
            let s = (centre + deviation * 500.0 / gain.abs().max(0.001)).clamp(0.0, high as f64) as i64;
            let real = gain * s as f64 + affine.offset;
            // Half a unit of rounding, and what is left of the multiplier's: 2^-shift/2 per unit of s.
            let slack = 0.5 + 1e-6 + ((s as f64 - centre).abs() + 1.0) * 0.5 / (1u64 << fixed.shift) as f64;
            prop_assert!((fixed.apply(s) as f64 - real).abs() <= slack + 0.5 / (1u64 << fixed.shift) as f64);
        }
    }

    #[test]
    fn what_cannot_fit_is_refused() {
        let affine = |gain, offset, high| Affine {
            gain,
            offset,
            range: [0, high],
            centre: 0.0,
        };
        assert!(affine(1.0, 0.0, 1 << 20).fixed(Limits::NARROW).is_ok());
        assert!(affine(5000.0, 0.0, 1 << 20).fixed(Limits::NARROW).is_err());
        assert!(affine(1.0, 3e9, 1).fixed(Limits::NARROW).is_err());
        assert!(affine(f64::NAN, 0.0, 1).fixed(Limits::NARROW).is_err());
        assert!(affine(f64::INFINITY, 0.0, 1).fixed(Limits::WIDE).is_err());
        let constant = affine(0.0, 7.0, 100).fixed(Limits::NARROW).unwrap();
        assert_eq!(constant.apply(50), 7);
    }
}
