//! AVX2 on u8 codes: vectors of 32 bytes, 16 registers, no dot products.
//!
//! `vpsadbw` adds up the differences of 8 neighbouring codes, which leaves three quarters of a register empty. Four of
//! them, those of 16 channels, are joined to one register of 16-bit numbers before they are added to the sums, which
//! therefore fill a quarter of the registers that they would fill otherwise, and what becomes of them takes a quarter of
//! the instructions. There are two ways to join them:
//!
//! * Packing takes no more instructions than adding each of the four to a register of its own, and better ones: on AMD's
//!   CPUs since Zen, differences start in two of four pipes and packing in the other two, while additions, which can
//!   start anywhere, are in the differences' way.
//! * Shifting takes more instructions. But Intel's CPUs since Skylake have one port for differences and for packing.
#![allow(unsafe_code)]

use super::{avx2_fours, avx2_sixteens};
use crate::uint8::{
    fours,
    rescale::{CodeRange, CodeRows, MapCodes},
    simd::{Constants, MAX_LANES, SimdU8, Task},
};
use std::arch::{asm, x86_64::*};

/// Exists only if the CPU has AVX2. Differences are joined by shifting them or by packing them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2U8<const SHIFT: bool>(());

impl<const SHIFT: bool> Avx2U8<SHIFT> {
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

/// Whether packing and differences share a port: on Intel's CPUs since Skylake, the first with `xsavec`.
pub(crate) fn shifting_is_faster() -> bool {
    let vendor = __cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
    name.as_flattened() == b"GenuineIntel" && is_x86_feature_detected!("xsavec")
}

/// Two registers of numbers that fill the lower `BITS` bits of twice as many at most, in one.
#[inline]
#[target_feature(enable = "avx2")]
fn join<const SHIFT: bool, const BITS: i32>(a: __m256i, b: __m256i) -> __m256i {
    match SHIFT {
        true => _mm256_or_si256(a, _mm256_slli_epi64::<BITS>(b)),
        false => _mm256_packus_epi32(a, b),
    }
}

/// The sums of 16 channels.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    /// The terms since the last carry, 16-bit lanes.
    words: __m256i,
    /// Those before, 32-bit lanes: channels 0 to 3 and 8 to 11; 4 to 7 and 12 to 15. This is how 16-bit lanes are
    /// widened and narrowed without crossing the halves of a register.
    carried: [__m256i; 2],
}

impl Sums {
    /// All terms, as those that were carried.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn all(self) -> [__m256i; 2] {
        let zero = _mm256_setzero_si256();
        [
            _mm256_add_epi32(self.carried[0], _mm256_unpacklo_epi16(self.words, zero)),
            _mm256_add_epi32(self.carried[1], _mm256_unpackhi_epi16(self.words, zero)),
        ]
    }
}

impl<const SHIFT: bool> SimdU8 for Avx2U8<SHIFT> {
    /// 8 neighbouring input channels of four output channels each, see [`SimdU8::ORDER`].
    type Codes = [__m256i; 4];
    type Sums = Sums;
    type Factors = ();

    const NAME: &'static str = if SHIFT { "avx2-shift" } else { "avx2" };
    const LANES: usize = 16;
    const GROUP: usize = 8;
    /// Joining brings what was in these places in order.
    const ORDER: [usize; MAX_LANES] = match SHIFT {
        true => [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15],
        false => [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15],
    };
    const MAX_IDENTITY: bool = false;
    const PIXELS_2: usize = 0;
    const PIXELS_1: usize = 8;
    const SIZED: bool = true;
    const SLIDE: bool = false;
    /// A group's terms are no more than 8 · 255.
    const CARRY: usize = u16::MAX as usize / (8 * 255);
    /// Blocks of 16 in pairs, which share each table: of a single one reading tables takes most of the time.
    const FOURS: usize = 17;
    const DOT: usize = 4;
    const DOT_WORDS: bool = true;

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> [__m256i; 4] {
        // SAFETY: the token proves AVX2; the caller promises 8 readable bytes.
        [unsafe { _mm256_set1_epi64x(from.cast::<i64>().read_unaligned()) }; 4]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> [__m256i; 4] {
        // SAFETY: the token proves AVX2; the caller promises 128 readable bytes.
        unsafe {
            let from: *const __m256i = from.cast();
            [
                _mm256_loadu_si256(from),
                _mm256_loadu_si256(from.add(1)),
                _mm256_loadu_si256(from.add(2)),
                _mm256_loadu_si256(from.add(3)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn start(self, _x_sum: *const i32) -> Sums {
        // SAFETY: the token proves AVX2.
        let zero = unsafe { _mm256_setzero_si256() };
        Sums {
            words: zero,
            carried: [zero; 2],
        }
    }

    #[inline(always)]
    fn factors(self) {}

    #[inline(always)]
    fn accumulate(self, sums: Sums, x: [__m256i; 4], w: [__m256i; 4], (): ()) -> Sums {
        // SAFETY: the token proves AVX2.
        unsafe {
            let low = join::<SHIFT, 16>(_mm256_sad_epu8(x[0], w[0]), _mm256_sad_epu8(x[1], w[1]));
            let high = join::<SHIFT, 16>(_mm256_sad_epu8(x[2], w[2]), _mm256_sad_epu8(x[3], w[3]));
            let terms = join::<SHIFT, 32>(low, high);
            Sums {
                words: _mm256_add_epi16(sums.words, terms),
                ..sums
            }
        }
    }

    #[inline(always)]
    fn carry(self, sums: Sums) -> Sums {
        // SAFETY: the token proves AVX2.
        unsafe {
            Sums {
                words: _mm256_setzero_si256(),
                carried: sums.all(),
            }
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: Sums) {
        // SAFETY: the token proves AVX2; the caller promises 16 writable numbers.
        unsafe {
            let [a, b] = sums.all();
            let to: *mut __m256i = to.cast();
            _mm256_storeu_si256(to, _mm256_permute2x128_si256::<0x20>(a, b));
            _mm256_storeu_si256(to.add(1), _mm256_permute2x128_si256::<0x31>(a, b));
        }
    }

    #[inline(always)]
    fn join_fours(self, codes: &[u8], to: &mut [u16]) {
        // SAFETY: the token proves AVX2.
        unsafe { avx2_fours::join(codes, to) }
    }

    #[inline(always)]
    unsafe fn look_up_fours<const P: usize, const B: usize>(
        self,
        x: [*const u16; P],
        w: [*const u8; B],
        window: fours::Window,
        sums: &mut [fours::Sums; B],
    ) {
        // SAFETY: the token proves AVX2; the caller promises windows and blocks.
        unsafe { avx2_fours::look_up(x, w, window, sums) }
    }

    #[inline(always)]
    fn widen(self, sums: &[u16]) -> Sums {
        // SAFETY: the token proves AVX2; the slice has 16 numbers.
        unsafe {
            Sums {
                words: _mm256_loadu_si256(sums[..16].as_ptr().cast()),
                carried: [_mm256_setzero_si256(); 2],
            }
        }
    }

    #[inline(always)]
    fn reread(self, mut from: *const u8) -> *const u8 {
        // SAFETY: there is no instruction in it.
        unsafe {
            asm!("/* {0} */", inout(reg) from, options(readonly, nostack, preserves_flags));
        }
        from
    }

    /// In products of 16 bits, since those of 8 saturate.
    #[inline(always)]
    unsafe fn dot(self, sums: Sums, x: *const u8, w: *const u8) -> Sums {
        // SAFETY: the token proves AVX2; the caller promises 4 and 128 readable bytes.
        unsafe {
            let bytes = _mm256_set1_epi32(x.cast::<i32>().read_unaligned());
            let words = _mm256_unpacklo_epi8(bytes, _mm256_setzero_si256());
            let pairs = [
                _mm256_shuffle_epi32::<0b00_00_00_00>(words),
                _mm256_shuffle_epi32::<0b01_01_01_01>(words),
            ];
            let w: *const __m256i = w.cast();
            let product = |pair: usize, half: usize| {
                _mm256_madd_epi16(pairs[pair], _mm256_loadu_si256(w.add(2 * pair + half)))
            };
            let [a, b] = sums.carried;
            let [a, b] = [
                _mm256_add_epi32(a, product(0, 0)),
                _mm256_add_epi32(b, product(0, 1)),
            ];
            Sums {
                carried: [
                    _mm256_add_epi32(a, product(1, 0)),
                    _mm256_add_epi32(b, product(1, 1)),
                ],
                ..sums
            }
        }
    }

    #[inline(always)]
    unsafe fn store_codes<const P: usize, const B: usize>(
        self,
        to: *mut u8,
        offset: impl Fn(usize) -> usize,
        sums: &[[Sums; B]; P],
        constants: Constants,
        range: CodeRange,
    ) {
        // SAFETY: the token proves AVX2; the caller promises constants and codes.
        unsafe { avx2_sixteens::store_codes(sums, constants, |p| to.add(offset(p)), range) }
    }

    #[inline(always)]
    unsafe fn store_map<const P: usize, const B: usize>(
        self,
        map: *mut i16,
        offset: impl Fn(usize) -> usize,
        sums: &[[Sums; B]; P],
        constants: Constants,
        residual: Option<*const i16>,
        low: i16,
        codes: &mut [MapCodes<'_>],
        place: impl Fn(&CodeRows<'_>, usize) -> usize,
    ) {
        // SAFETY: the token proves AVX2; the caller promises constants, residuals, values and codes.
        unsafe {
            avx2_sixteens::store_map(sums, constants, map, offset, residual, low, codes, place);
        }
    }

    #[inline(always)]
    fn forget(self, codes: &mut [__m256i; 4]) {
        // All four are the same one, and stay in one register.
        // SAFETY: the token proves AVX2.
        *codes = [unsafe { hide(codes[0]) }; 4];
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2")]
        fn inner<const SHIFT: bool, T: Task>(simd: Avx2U8<SHIFT>, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: the token proves AVX2.
        unsafe { inner(self, task) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn hide(mut codes: __m256i) -> __m256i {
    // SAFETY: there is no instruction in it.
    unsafe {
        asm!("/* {0} */", inout(ymm_reg) codes, options(nomem, nostack, preserves_flags));
    }
    codes
}
