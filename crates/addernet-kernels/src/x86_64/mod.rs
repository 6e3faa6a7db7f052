//! Variants for x86-64.

mod avx2;
mod avx2_fours;
mod avx2_quantize;
mod avx2_rescale;
mod avx2_sixteens;
mod avx2_u8;
mod avx2_vnni;
mod avx512;
mod avx512_rescale;
mod avx512_sums;
mod avx512_u8;
mod dot_pair;
mod vbmi;

pub(crate) use avx2::Avx2;
pub(crate) use avx2_u8::{Avx2U8, shifting_is_faster};
pub(crate) use avx2_vnni::Avx2Vnni;
pub(crate) use avx512::Avx512;
pub(crate) use avx512_u8::{Avx512U8, Avx512Vnni};
