//! Least squares, channel by channel.

use ndarray::Array4;
use rayon::prelude::*;

use super::student::AffineState;

/// Pixels per parallel piece. Pieces are fixed, and their sums added in order, so that the result
/// does not depend on the number of threads.
const PIECE_PIXELS: usize = 4096;

/// Means of a channel's values y and their targets t, and of their products.
#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    y: f64,
    t: f64,
    yy: f64,
    yt: f64,
    tt: f64,
}

/// What a least-squares fit of one map to another needs to know, per channel.
#[derive(Clone, Debug)]
pub(super) struct Moments(Vec<Channel>);

impl Moments {
    /// Of `y` and its target, both (N,H,W,C).
    pub(super) fn new(y: &Array4<f32>, target: &Array4<f32>) -> Self {
        let channels = y.dim().3;
        let (Some(y), Some(t)) = (y.as_slice(), target.as_slice()) else {
            return Self(vec![Channel::default(); channels]);
        };
        let pieces: Vec<Vec<Channel>> = y
            .par_chunks(channels * PIECE_PIXELS)
            .zip(t.par_chunks(channels * PIECE_PIXELS))
            .map(|(y, t)| {
                let mut sums = vec![Channel::default(); channels];
                for (y, t) in y.chunks_exact(channels).zip(t.chunks_exact(channels)) {
                    for (sum, (&y, &t)) in sums.iter_mut().zip(y.iter().zip(t)) {
                        let (y, t) = (f64::from(y), f64::from(t));
                        sum.y += y;
                        sum.t += t;
                        sum.yy += y * y;
                        sum.yt += y * t;
                        sum.tt += t * t;
                    }
                }
                sums
            })
            .collect();
        let count = (y.len() / channels) as f64;
        let mean = |c: usize, of: fn(&Channel) -> f64| {
            pieces.iter().map(|piece| of(&piece[c])).sum::<f64>() / count
        };
        let channel = |c| Channel {
            y: mean(c, |m| m.y),
            t: mean(c, |m| m.t),
            yy: mean(c, |m| m.yy),
            yt: mean(c, |m| m.yt),
            tt: mean(c, |m| m.tt),
        };
        Self((0..channels).map(channel).collect())
    }

    /// The factors and offsets with which y comes closest to its target.
    pub(super) fn correction(&self) -> AffineState {
        let factors = self.0.iter().map(Channel::factor);
        let offsets = self.0.iter().map(|m| m.t - m.factor() * m.y);
        AffineState {
            factor: factors.map(|v| v as f32).collect(),
            offset: offsets.map(|v| v as f32).collect(),
            centre: self.0.iter().map(|m| m.y as f32).collect(),
        }
    }

    /// Mean squared error behind that correction, summed over channels.
    pub(super) fn corrected_error(&self) -> f64 {
        let error = |m: &Channel| (m.tt - m.t * m.t) - m.factor() * (m.yt - m.y * m.t);
        self.0.iter().map(|m| error(m).max(0.0)).sum()
    }

    /// Mean squared error of factor·y + offset, summed over channels.
    pub(super) fn error(&self, factor: &[f32], offset: &[f32]) -> f64 {
        let channels = self.0.iter().zip(factor).zip(offset);
        channels
            .map(|((m, &f), &o)| {
                let (f, o) = (f64::from(f), f64::from(o));
                f * f * m.yy + o * o + m.tt + 2.0 * (f * o * m.y - f * m.yt - o * m.t)
            })
            .sum()
    }
}

impl Channel {
    fn factor(&self) -> f64 {
        let variance = self.yy - self.y * self.y;
        // A channel that never changes has nothing to be fitted.
        match variance > 1e-12 * self.yy.max(1e-12) {
            true => (self.yt - self.y * self.t) / variance,
            false => 0.0,
        }
    }
}

/// Sum of squared differences.
pub(super) fn squared_error(y: &Array4<f32>, target: &Array4<f32>) -> f64 {
    let difference = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
    y.iter().zip(target).map(difference).sum()
}
