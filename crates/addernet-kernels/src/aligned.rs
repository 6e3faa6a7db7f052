//! Buffers that start on a cache line.
#![allow(unsafe_code)]

use std::marker::PhantomData;

/// Bytes in one cache line, which is also the widest vector.
const LINE: usize = 64;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// Numbers that are nothing but their bits.
///
/// # Safety
/// Every pattern of bits must be a value, and neither size nor alignment may exceed a line.
pub unsafe trait Plain: Copy {}

// SAFETY: every pattern of bits is a value.
unsafe impl Plain for f32 {}
// SAFETY: every pattern of bits is a value.
unsafe impl Plain for u8 {}
// SAFETY: every pattern of bits is a value.
unsafe impl Plain for i8 {}
// SAFETY: every pattern of bits is a value.
unsafe impl Plain for i16 {}
// SAFETY: every pattern of bits is a value.
unsafe impl Plain for u16 {}
// SAFETY: every pattern of bits is a value.
unsafe impl Plain for i32 {}

/// A growable buffer whose first element is aligned to 64 bytes, so that vector loads never
/// straddle cache lines.
#[derive(Clone, Debug, Default)]
pub struct AlignedVec<T> {
    lines: Vec<Line>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Plain> AlignedVec<T> {
    /// An empty buffer without an allocation.
    pub(crate) const fn new() -> Self {
        Self {
            lines: Vec::new(),
            len: 0,
            element: PhantomData,
        }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::new();
        buffer.resize(len);
        buffer
    }

    /// Makes the buffer `len` elements long; elements may hold anything that was in the buffer
    /// before, and are zeros where there was nothing.
    pub(crate) fn resize(&mut self, len: usize) {
        let lines = len.div_ceil(LINE / size_of::<T>());
        if lines > self.lines.len() {
            self.lines.resize(lines, Line([0; LINE]));
        }
        self.len = len;
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: `Line` is a repr(C) array of bytes without padding, aligned at least as `T`, so
        // the lines are one run of at least `len` initialised elements, whatever their bits.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Plain> std::ops::Deref for AlignedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T: Plain> std::ops::DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.as_mut_slice()
    }
}
