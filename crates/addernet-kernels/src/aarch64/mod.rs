//! Variants for 64-bit Arm.

mod neon;
mod neon_fours;
mod neon_u8;

pub(crate) use neon::Neon;
pub(crate) use neon_u8::{NeonDot, NeonU8};
