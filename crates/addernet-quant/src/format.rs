//! Codes: how an integer of b bits stands for a real number.

use serde::{Deserialize, Serialize};

use crate::error::QuantError;

/// Bit widths that codes can have.
pub const BITS: std::ops::RangeInclusive<u8> = 2..=8;

/// A b-bit integer code on a layer's common grid: code q stands for q·`multiplier` grid units, and
/// one grid unit is worth the group's step.
///
/// Weights and activations of one layer share the grid, or |x − w| could not be computed in
/// integers; their multipliers may differ. In the published method (Nie et al. 2022, section 3.1) the
/// weights' grid is twice as coarse as the activations': |q_x − (q_w << 1)|.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeFormat {
    /// Width b, 2 to 8.
    pub bits: u8,
    /// Two's complement range −2^(b−1) … 2^(b−1)−1 if set, 0 … 2^b−1 otherwise.
    pub signed: bool,
    /// Grid units per code step, 1 to 255.
    pub multiplier: u8,
}

impl CodeFormat {
    /// Smallest code.
    pub fn min(self) -> i32 {
        if self.signed {
            -(1 << (self.bits - 1))
        } else {
            0
        }
    }

    /// Largest code.
    pub fn max(self) -> i32 {
        (1 << (if self.signed {
            self.bits - 1
        } else {
            self.bits
        })) - 1
    }

    /// The code of `value` where `levels` grid units are worth `scale`:
    /// clamp(round(value·levels/(multiplier·scale))), halves to even.
    ///
    /// The quotient is formed in f64, in this order: a weight that was clamped to −scale is then
    /// exactly half-way between two codes in the published formula, and rounds as it says.
    pub fn encode(self, value: f32, scale: f32, levels: u16) -> i32 {
        let quotient =
            f64::from(value) * f64::from(levels) / (f64::from(self.multiplier) * f64::from(scale));
        let code = quotient.round_ties_even();
        code.clamp(f64::from(self.min()), f64::from(self.max())) as i32
    }

    /// Grid units that `code` stands for.
    pub fn units(self, code: i32) -> i32 {
        code * i32::from(self.multiplier)
    }

    /// `Err(reason)` unless bits and multiplier are in range: what a file claims must be checked
    /// before it is shifted by.
    pub(crate) fn check(self) -> Result<(), String> {
        if !BITS.contains(&self.bits) {
            return Err(format!("{} bits, where 2 to 8 are possible", self.bits));
        }
        if self.multiplier == 0 {
            return Err("a code multiplier of 0".to_owned());
        }
        Ok(())
    }
}

/// Formats of weights and activations of so many bits on one grid: the narrower codes take a multiple of
/// the wider ones' step, so that both span the same range (unsigned, where the multiple is not whole, a
/// little less).
pub(crate) fn common_grid(bits: [u8; 2], signed: bool) -> [CodeFormat; 2] {
    let span = |bits: u8| match signed {
        true => 1i32 << (bits - 1),
        false => (1i32 << bits) - 1,
    };
    let format = |bits: u8, multiplier: i32| CodeFormat {
        bits,
        signed,
        multiplier: multiplier as u8,
    };
    let [weight, activation] = bits.map(span);
    [
        format(bits[0], (activation / weight).max(1)),
        format(bits[1], (weight / activation).max(1)),
    ]
}

/// Checks a bit width given by the user.
pub(crate) fn check_bits(bits: u8) -> Result<u8, QuantError> {
    if BITS.contains(&bits) {
        return Ok(bits);
    }
    Err(QuantError::config(
        "bits",
        format!("must be 2 to 8, got {bits}"),
    ))
}

/// Packs codes at their true width: code − min as an unsigned b-bit number, the first code in the
/// lowest bits of the first byte, the last byte filled up with zero bits.
pub(crate) fn pack(codes: &[i32], format: CodeFormat) -> Vec<u8> {
    let mut bytes = vec![0u8; (codes.len() * usize::from(format.bits)).div_ceil(8)];
    for (i, &code) in codes.iter().enumerate() {
        let (byte, shift) = (
            i * usize::from(format.bits) / 8,
            i * usize::from(format.bits) % 8,
        );
        let bits = ((code - format.min()) as u16) << shift;
        bytes[byte] |= bits as u8;
        if bits > 0xff {
            bytes[byte + 1] |= (bits >> 8) as u8;
        }
    }
    bytes
}

/// The `count` codes that [`pack`] packed, or the reason why `bytes` cannot hold them.
pub(crate) fn unpack(bytes: &[u8], count: usize, format: CodeFormat) -> Result<Vec<i32>, String> {
    let width = usize::from(format.bits);
    let expected = (count * width).div_ceil(8);
    if bytes.len() != expected {
        return Err(format!(
            "{count} codes of {width} bits take {expected} bytes, found {}",
            bytes.len()
        ));
    }
    let used = count * width % 8;
    if let (Some(last), 1..) = (bytes.last(), used)
        && last >> used != 0
    {
        return Err("bits are set behind the last code".to_owned());
    }
    let mask = (1u16 << width) - 1;
    Ok((0..count)
        .map(|i| {
            let (byte, shift) = (i * width / 8, i * width % 8);
            let high = bytes.get(byte + 1).copied().unwrap_or(0);
            let bits = (u16::from(bytes[byte]) | u16::from(high) << 8) >> shift & mask;
            i32::from(bits) + format.min()
        })
        .collect())
}

#[cfg(test)]
mod tests;
