//! Variants for WebAssembly. There is no asking a browser what it can do while a module runs: a module that was compiled with
//! `-C target-feature=+simd128` starts only where vectors are, and one that was not has the portable variants alone.

mod simd128;
mod simd128_fours;
mod simd128_u8;

pub(crate) use simd128::Simd128;
pub(crate) use simd128_u8::Simd128U8;
