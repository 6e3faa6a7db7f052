//! AVX-512 on u8 codes: vectors of 64 bytes, 32 registers; with and without the dot products of
//! VNNI.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over a constant number of registers are what the compiler unrolls"
)]

use super::{
    avx512_rescale,
    avx512_sums::{pixel_sums, three_to_four, window_sums},
    dot_pair::dot_pair,
    vbmi::{self, Vbmi},
};
use crate::uint8::{
    box_sum,
    rescale::{CodeRange, CodeRows, MapCodes},
    simd::{Constants, DotWindow, SimdU8, Task, portable_codes, portable_map},
    triples::{Sums, Tile, Wide},
};
use std::arch::{asm, x86_64::*};

/// Exists only if the CPU has AVX-512F and AVX-512BW.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512U8(());

impl Avx512U8 {
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"))
            .then_some(Self(()))
    }
}

/// `vpsadbw` adds up the absolute differences of 8 neighbouring codes.
impl SimdU8 for Avx512U8 {
    type Codes = __m512i;
    /// 64-bit lanes.
    type Sums = __m512i;
    type Factors = ();

    const NAME: &'static str = "avx512";
    const LANES: usize = 8;
    const GROUP: usize = 8;
    const MAX_IDENTITY: bool = false;
    const PIXELS_2: usize = 8;
    const PIXELS_1: usize = 8;
    const SIZED: bool = true;
    const SLIDE: bool = true;
    const DOT_PAIR: bool = true;

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> __m512i {
        // SAFETY: the token proves AVX-512F; the caller promises 8 readable bytes.
        unsafe { _mm512_set1_epi64(from.cast::<i64>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m512i {
        // SAFETY: the token proves AVX-512F; the caller promises 64 readable bytes.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn start(self, _x_sum: *const i32) -> __m512i {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn factors(self) {}

    #[inline(always)]
    fn accumulate(self, sums: __m512i, x: __m512i, w: __m512i, (): ()) -> __m512i {
        // SAFETY: the token proves AVX-512F and AVX-512BW.
        unsafe { _mm512_add_epi64(sums, _mm512_sad_epu8(x, w)) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: __m512i) {
        // SAFETY: the token proves AVX-512F; the caller promises 8 writable numbers.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtepi64_epi32(sums)) }
    }

    #[inline(always)]
    unsafe fn dot_pair(self, x: [*const u8; 2], window: DotWindow, w: *const i8) -> [[i32; 16]; 2] {
        // SAFETY: the token proves AVX-512F and with it AVX2; the caller promises the windows and the weights.
        unsafe { dot_pair(x, window, w) }
    }

    #[inline(always)]
    unsafe fn store_codes<const P: usize, const B: usize>(
        self,
        to: *mut u8,
        offset: impl Fn(usize) -> usize,
        sums: &[[__m512i; B]; P],
        constants: Constants,
        range: CodeRange,
    ) {
        // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises constants and codes.
        unsafe {
            match low_halves(sums) {
                Some(sums) => avx512_rescale::store_codes(to, offset, &sums, constants, range),
                None => portable_codes(self, to, offset, sums, constants, range),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_map<const P: usize, const B: usize>(
        self,
        map: *mut i16,
        offset: impl Fn(usize) -> usize,
        sums: &[[__m512i; B]; P],
        constants: Constants,
        residual: Option<*const i16>,
        low: i16,
        codes: &mut [MapCodes<'_>],
        place: impl Fn(&CodeRows<'_>, usize) -> usize,
    ) {
        // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises constants, residuals, values
        // and codes.
        unsafe {
            match low_halves(sums) {
                Some(sums) => avx512_rescale::store_map(
                    map, offset, &sums, constants, residual, low, codes, place,
                ),
                None => portable_map(
                    self, map, offset, sums, constants, residual, low, codes, place,
                ),
            }
        }
    }

    #[inline(always)]
    fn forget(self, codes: &mut __m512i) {
        // SAFETY: the token proves AVX-512F.
        *codes = unsafe { hide(*codes) };
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw")]
        fn inner<T: Task>(simd: Avx512U8, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: the token proves AVX-512F and AVX-512BW.
        unsafe { inner(self, task) }
    }
}

/// Exists only if the CPU has AVX-512F, AVX-512BW and AVX-512 VNNI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Vnni {
    /// Exists only if the CPU has AVX-512 VBMI, as all but the first with VNNI have.
    vbmi: Option<Vbmi>,
}

impl Avx512Vnni {
    pub(crate) fn detect() -> Option<Self> {
        (Avx512U8::detect().is_some() && is_x86_feature_detected!("avx512vnni")).then(|| Self {
            vbmi: Vbmi::detect(),
        })
    }
}

/// `vpdpbusd` adds up twice the maxima of 4 neighbouring codes.
impl SimdU8 for Avx512Vnni {
    type Codes = __m512i;
    /// 32-bit lanes.
    type Sums = __m512i;
    /// Twos.
    type Factors = __m512i;

    const NAME: &'static str = "avx512-vnni";
    const LANES: usize = 16;
    const GROUP: usize = 4;
    const MAX_IDENTITY: bool = true;
    const PIXELS_2: usize = 8;
    const PIXELS_1: usize = 16;
    const SIZED: bool = true;
    const SLIDE: bool = true;
    const WINDOW_SUMS: bool = true;
    const DOT: usize = 16;

    #[inline(always)]
    unsafe fn broadcast(self, from: *const u8) -> __m512i {
        // SAFETY: the token proves AVX-512F; the caller promises 4 readable bytes.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m512i {
        // SAFETY: the token proves AVX-512F; the caller promises 64 readable bytes.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn start(self, x_sum: *const i32) -> __m512i {
        // SAFETY: the token proves AVX-512F; the caller promises a readable number.
        unsafe { _mm512_set1_epi32(*x_sum) }
    }

    #[inline(always)]
    unsafe fn add_bias(self, sums: __m512i, bias: &[i32]) -> __m512i {
        // SAFETY: the token proves AVX-512F; the caller promises 16 numbers.
        unsafe { _mm512_add_epi32(sums, _mm512_loadu_si512(bias.as_ptr().cast())) }
    }

    #[inline(always)]
    fn pixel_sums(self, x: &[u8], channels: usize, sums: &mut [i32]) {
        // SAFETY: the token proves AVX-512F and AVX-512BW.
        unsafe {
            match channels {
                16 => pixel_sums::<16>(x, sums),
                32 => pixel_sums::<32>(x, sums),
                64 => pixel_sums::<64>(x, sums),
                _ => box_sum::pixel_sums(x, channels, sums),
            }
        }
    }

    #[inline(always)]
    fn window_sums(
        self,
        x: &[u8],
        channels: usize,
        row_len: usize,
        sums: &mut [i32],
        pitch: usize,
    ) {
        // SAFETY: the token proves AVX-512F and AVX-512BW.
        unsafe {
            match channels {
                16 => window_sums::<16, 2>(x, row_len, sums, pitch),
                _ => window_sums::<32, 1>(x, row_len, sums, pitch),
            }
        }
    }

    #[inline(always)]
    fn three_to_four(self, from: &[[u8; 3]], to: &mut [[u8; 4]]) {
        // SAFETY: the token proves AVX-512F and AVX-512BW.
        unsafe { three_to_four(from, to) }
    }

    #[inline(always)]
    fn factors(self) -> __m512i {
        // SAFETY: the token proves AVX-512F.
        unsafe { hide(_mm512_set1_epi8(2)) }
    }

    #[inline(always)]
    fn accumulate(self, sums: __m512i, x: __m512i, w: __m512i, twos: __m512i) -> __m512i {
        // SAFETY: the token proves AVX-512F, AVX-512BW and VNNI.
        unsafe { _mm512_dpbusd_epi32(sums, _mm512_max_epu8(x, w), twos) }
    }

    #[inline(always)]
    fn accumulate_two(
        self,
        sums: [__m512i; 2],
        x: [__m512i; 2],
        w: [__m512i; 2],
        twos: __m512i,
    ) -> [__m512i; 2] {
        // SAFETY: the token proves AVX-512F, AVX-512BW and VNNI.
        unsafe { max_max_dot_dot(sums, x, w, twos) }
    }

    #[inline(always)]
    unsafe fn dot(self, sums: __m512i, x: *const u8, w: *const u8) -> __m512i {
        // SAFETY: the token proves AVX-512F and VNNI; the caller promises 4 and 64 readable bytes.
        unsafe {
            let x = _mm512_set1_epi32(x.cast::<i32>().read_unaligned());
            _mm512_dpbusd_epi32(sums, x, _mm512_loadu_si512(w.cast()))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut i32, sums: __m512i) {
        // SAFETY: the token proves AVX-512F; the caller promises 16 writable numbers.
        unsafe { _mm512_storeu_si512(to.cast(), sums) }
    }

    #[inline(always)]
    unsafe fn store_codes<const P: usize, const B: usize>(
        self,
        to: *mut u8,
        offset: impl Fn(usize) -> usize,
        sums: &[[__m512i; B]; P],
        constants: Constants,
        range: CodeRange,
    ) {
        // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises constants and codes.
        unsafe { avx512_rescale::store_codes(to, offset, sums, constants, range) }
    }

    #[inline(always)]
    unsafe fn store_map<const P: usize, const B: usize>(
        self,
        map: *mut i16,
        offset: impl Fn(usize) -> usize,
        sums: &[[__m512i; B]; P],
        constants: Constants,
        residual: Option<*const i16>,
        low: i16,
        codes: &mut [MapCodes<'_>],
        place: impl Fn(&CodeRows<'_>, usize) -> usize,
    ) {
        // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises constants, residuals, values
        // and codes.
        unsafe {
            avx512_rescale::store_map(map, offset, sums, constants, residual, low, codes, place);
        }
    }

    #[inline(always)]
    fn looks_up(self) -> bool {
        self.vbmi.is_some()
    }

    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const u8,
        distance: usize,
        to: *mut u8,
        pitch: usize,
        size: [usize; 2],
    ) {
        if let Some(vbmi) = self.vbmi {
            // SAFETY: the caller promises the same.
            unsafe { vbmi.transpose(from, distance, to, pitch, size) }
        }
    }

    #[inline(always)]
    unsafe fn join(self, from: *const u8, distance: usize, len: usize, to: *mut u8) {
        // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises codes and room.
        unsafe { vbmi::join(from, distance, len, to) }
    }

    #[inline(always)]
    unsafe fn look_up(self, tile: Tile<'_>, vectors: usize, wide: &mut Wide<__m512i>) {
        if let Some(vbmi) = self.vbmi {
            // SAFETY: the caller promises the same.
            unsafe { vbmi.look_up(tile, vectors, wide) }
        }
    }

    #[inline(always)]
    unsafe fn in_order(self, wide: &Wide<__m512i>, vector: usize, sums: &mut Sums<__m512i>) {
        // SAFETY: the token proves AVX-512F and AVX-512BW; the caller promises the vector's sums.
        unsafe { vbmi::in_order(wide, vector, sums) }
    }

    #[inline(always)]
    fn forget(self, codes: &mut __m512i) {
        // SAFETY: the token proves AVX-512F.
        *codes = unsafe { hide(*codes) };
    }

    fn vectorize<T: Task>(self, task: T) -> T::Output {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
        fn inner<T: Task>(simd: Avx512Vnni, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: the token proves AVX-512F, AVX-512BW and VNNI.
        unsafe { inner(self, task) }
    }
}

/// Two dot products that follow one another, and thereby both of the maxima that go into them. On Zen 4, whose dot
/// products can only start in two of the four pipes that maxima can start in, a maximum after each dot product costs
/// 5 % of the time; the compiler's own order costs 10 %.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn max_max_dot_dot(
    [mut first, mut second]: [__m512i; 2],
    x: [__m512i; 2],
    w: [__m512i; 2],
    twos: __m512i,
) -> [__m512i; 2] {
    // The maxima are not among the instructions written here: of an operand that only such instructions read, the
    // compiler does not know that it is of integers, and would broadcast it by `vbroadcastss`, which takes Zen 4
    // more than a load.
    let max = [_mm512_max_epu8(x[0], w[0]), _mm512_max_epu8(x[1], w[1])];
    // SAFETY: the instructions are among those of the features above, on registers alone.
    unsafe {
        asm!(
            "vpdpbusd {0}, {2}, {4}",
            "vpdpbusd {1}, {3}, {4}",
            inout(zmm_reg) first,
            inout(zmm_reg) second,
            in(zmm_reg) max[0],
            in(zmm_reg) max[1],
            in(zmm_reg) twos,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [first, second]
}

/// Of two vectors of sums of 64 bits one of 32; of single vectors none.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn low_halves<const P: usize, const B: usize>(
    sums: &[[__m512i; B]; P],
) -> Option<[[__m512i; 1]; P]> {
    if B != 2 {
        return None;
    }
    // SAFETY: the caller promises AVX-512F.
    unsafe {
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let mut all = [[even]; P];
        for p in 0..P {
            all[p] = [_mm512_permutex2var_epi32(sums[p][0], even, sums[p][B - 1])];
        }
        Some(all)
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn hide(mut codes: __m512i) -> __m512i {
    // SAFETY: there is no instruction in it.
    unsafe {
        asm!("/* {0} */", inout(zmm_reg) codes, options(nomem, nostack, preserves_flags));
    }
    codes
}
