//! Minus the sum of each window of the input: one box filter that all output channels share.

use super::simd::SimdU8;

/// Bytes of the pixels at which [`SimdU8::window_sums`] sums windows together.
pub(crate) const SUMMED: usize = 512;
/// Bytes of a row that it reads for them: two more pixels, in a whole vector.
pub(crate) const READ: usize = SUMMED + 64;

/// The windows of a unit: rows of equally many, which may start anywhere in the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// Rows and pixels of a window.
    pub(crate) size: [usize; 2],
    /// Pixels from a window to the next.
    pub(crate) stride: usize,
    /// Windows in an output row.
    pub(crate) per_row: usize,
    /// Pixels from a row of the (padded) input to the next.
    pub(crate) row_pixels: usize,
    /// Pixels before the first window of a row.
    pub(crate) lead: usize,
    /// Pixels of padding before each row and behind the last one.
    pub(crate) border: usize,
    /// Bytes of a pixel.
    pub(crate) channels: usize,
}

impl Windows {
    /// Bytes from a row of the (padded) input to the next.
    pub(crate) fn row_len(&self) -> usize {
        self.row_pixels * self.channels
    }

    /// Bytes from a window to the next. If there is no next one, the stride can be any number.
    pub(crate) fn step(&self) -> usize {
        self.stride.saturating_mul(self.channels)
    }
}

/// The window sums of a unit, kept between calls for their memory.
#[derive(Debug)]
pub(crate) struct BoxSums {
    pixels: Vec<i32>,
    columns: Vec<i32>,
    windows: Vec<i32>,
    /// Where the sums of each row of windows begin.
    starts: Vec<usize>,
}

impl BoxSums {
    pub(crate) const fn new() -> Self {
        Self {
            pixels: Vec::new(),
            columns: Vec::new(),
            windows: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// Minus the sums of the windows of one row, `stride` apart.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &[i32] {
        &self.windows[self.starts[row]..]
    }

    /// Sums the windows of `x`. `rows` are the input rows, in ascending order, at whose beginning the
    /// rows of windows start.
    ///
    /// Summed is at every pixel of the rows' range, not only where a window starts: so the loops are
    /// long and simple, and strides do not matter to them.
    #[inline(always)]
    pub(crate) fn compute<S: SimdU8>(
        &mut self,
        simd: S,
        x: &[u8],
        rows: &[usize],
        windows: &Windows,
    ) {
        let ([height, width], channels) = (windows.size, windows.channels);
        let (row_pixels, row_len) = (windows.row_pixels, windows.row_len());
        self.starts.clear();
        let (Some(&first), Some(&last)) = (rows.first(), rows.last()) else {
            return;
        };
        // A window may end in the border behind its row, which is also that before the next one.
        let border = windows.border * channels;
        let starts = |row: usize| row * row_pixels + windows.lead;
        if height == 1 {
            // Rows that a stride leaves out are left out here too.
            let pixels = rows.len() * row_pixels;
            self.pixels.resize(pixels + windows.border, 0);
            let (sums, last_sums) = self.pixels.split_at_mut(pixels);
            for (&row, sums) in rows.iter().zip(sums.chunks_exact_mut(row_pixels)) {
                simd.pixel_sums(&x[row * row_len..(row + 1) * row_len], channels, sums);
            }
            let end = (last + 1) * row_len;
            simd.pixel_sums(&x[end..end + border], channels, last_sums);
            self.starts.extend((0..rows.len()).map(starts));
        } else if let Some(pitch) = self.at_once(simd, x, [first, last], windows) {
            self.starts
                .extend(rows.iter().map(|row| (row - first) * pitch));
            return;
        } else {
            let end = last + height;
            let pixels = (end - first) * row_pixels + windows.border;
            self.pixels.resize(pixels, 0);
            let x = &x[first * row_len..end * row_len + border];
            simd.pixel_sums(x, channels, &mut self.pixels);
            self.starts
                .extend(rows.iter().map(|row| starts(row - first)));
        }
        sums_of_neighbours(&mut self.pixels, &mut self.columns, height, row_pixels);
        sums_of_neighbours(&mut self.columns, &mut self.windows, width, 1);
    }
}

impl BoxSums {
    /// The same in one pass, where the instruction set has one: returns the sums from a row to the next.
    #[inline(always)]
    fn at_once<S: SimdU8>(
        &mut self,
        simd: S,
        x: &[u8],
        [first, last]: [usize; 2],
        windows: &Windows,
    ) -> Option<usize> {
        if !S::WINDOW_SUMS || windows.size != [3, 3] || !matches!(windows.channels, 16 | 32) {
            return None;
        }
        let columns = (windows.per_row - 1) * windows.stride + 1;
        let pitch = columns.next_multiple_of(SUMMED / windows.channels);
        let start = first * windows.row_len() + windows.lead * windows.channels;
        let rows = last - first + 1;
        // What whole vectors read of the last row may be more than the input has.
        let len = (rows + 1) * windows.row_len() + pitch * windows.channels + READ - SUMMED;
        let x = x.get(start..)?.get(..len)?;
        self.windows.resize(rows * pitch, 0);
        simd.window_sums(
            x,
            windows.channels,
            windows.row_len(),
            &mut self.windows,
            pitch,
        );
        Some(pitch)
    }
}

/// Puts the sum of `count` numbers, `distance` apart, from each number on into `sums`, which may take
/// the memory of `numbers`.
#[inline(always)]
fn sums_of_neighbours(numbers: &mut Vec<i32>, sums: &mut Vec<i32>, count: usize, distance: usize) {
    if count == 1 {
        std::mem::swap(numbers, sums);
        return;
    }
    let len = numbers.len() - (count - 1) * distance;
    sums.resize(len, 0);
    let from = |at: usize| &numbers[at * distance..at * distance + len];
    if count == 3 {
        let three = from(0).iter().zip(from(1)).zip(from(2));
        for (sum, ((a, b), c)) in sums.iter_mut().zip(three) {
            *sum = a + b + c;
        }
        return;
    }
    sums.copy_from_slice(from(0));
    for at in 1..count {
        for (sum, number) in sums.iter_mut().zip(from(at)) {
            *sum += number;
        }
    }
}

/// Minus the sum of each pixel's channels.
#[inline(always)]
pub(crate) fn pixel_sums(x: &[u8], channels: usize, sums: &mut [i32]) {
    match channels {
        16 => sums_of_pixels::<16>(x, sums),
        32 => sums_of_pixels::<32>(x, sums),
        64 => sums_of_pixels::<64>(x, sums),
        _ => {
            for (pixel, sum) in x.chunks_exact(channels).zip(sums) {
                *sum = -pixel.iter().map(|&x| i32::from(x)).sum::<i32>();
            }
        }
    }
}

#[inline(always)]
fn sums_of_pixels<const CHANNELS: usize>(x: &[u8], sums: &mut [i32]) {
    for (pixel, sum) in x.as_chunks::<CHANNELS>().0.iter().zip(sums) {
        *sum = -pixel.iter().map(|&x| i32::from(x)).sum::<i32>();
    }
}
