//! Sums that signal-to-noise ratios and divergences are made of.

use ndarray::{Array2, Array4, ArrayView1};

/// Power of a layer's output and of its error, per channel, over batches.
pub(crate) struct ChannelSignal {
    channels: Vec<Sums>,
    /// Values per channel.
    count: f64,
}

/// Over one channel's values y with errors e.
#[derive(Clone, Copy, Default)]
struct Sums {
    y: f64,
    y_squared: f64,
    e: f64,
    e_squared: f64,
}

impl ChannelSignal {
    pub(crate) fn new(channels: usize) -> Self {
        Self {
            channels: vec![Sums::default(); channels],
            count: 0.0,
        }
    }

    /// Adds outputs (N,H,W,C): the exact ones and what came in their place.
    pub(crate) fn add(&mut self, exact: &Array4<f32>, found: &Array4<f32>) {
        let channels = self.channels.len();
        // `iter` goes in logical order: the channel is the fastest index.
        for (i, (&y, &q)) in exact.iter().zip(found.iter()).enumerate() {
            let sums = &mut self.channels[i % channels];
            let (y, e) = (f64::from(y), f64::from(q) - f64::from(y));
            sums.y += y;
            sums.y_squared += y * y;
            sums.e += e;
            sums.e_squared += e * e;
        }
        self.count += (exact.len() / channels) as f64;
    }

    /// Power of the signal about its channels' means, summed over all values.
    fn signal(&self) -> f64 {
        let about_mean = |s: &Sums| (s.y_squared - s.y * s.y / self.count).max(0.0);
        self.channels.iter().map(about_mean).sum()
    }

    /// Signal to error, in dB.
    pub(crate) fn snr_db(&self) -> Option<f64> {
        decibels(
            self.signal(),
            self.channels.iter().map(|s| s.e_squared).sum(),
        )
    }

    /// The same without the channels' mean errors.
    pub(crate) fn centred_snr_db(&self) -> Option<f64> {
        let about_mean = |s: &Sums| (s.e_squared - s.e * s.e / self.count).max(0.0);
        decibels(self.signal(), self.channels.iter().map(about_mean).sum())
    }
}

/// Takes each channel's mean error away from `found` (N,H,W,C).
pub(crate) fn remove_offsets(exact: &Array4<f32>, found: &mut Array4<f32>) {
    let channels = exact.dim().3;
    let count = (exact.len() / channels) as f64;
    let mut sums = vec![0.0f64; channels];
    for (i, (&y, &q)) in exact.iter().zip(found.iter()).enumerate() {
        sums[i % channels] += f64::from(q) - f64::from(y);
    }
    for (i, q) in found.iter_mut().enumerate() {
        *q -= (sums[i % channels] / count) as f32;
    }
}

/// What became of the logits, over images.
#[derive(Default)]
pub(crate) struct LogitSignal {
    signal: f64,
    error: f64,
    kl: f64,
    agreeing: usize,
    images: usize,
}

impl LogitSignal {
    /// Adds finite logits (N, classes): the exact ones and what came in their place.
    pub(crate) fn add(&mut self, exact: &Array2<f32>, found: &Array2<f32>) {
        for (exact, found) in exact.rows().into_iter().zip(found.rows()) {
            let (p, q) = (log_softmax(exact), log_softmax(found));
            // What a constant adds to all logits is gone once their mean is taken away.
            let (a, b) = (centred(&p), centred(&q));
            self.signal += a.iter().map(|v| v * v).sum::<f64>();
            let squares = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2));
            self.error += squares.sum::<f64>();
            let divergence = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q));
            // Rounding alone can make it negative.
            self.kl += divergence.sum::<f64>().max(0.0);
            self.agreeing += usize::from(top(exact) == top(found));
            self.images += 1;
        }
    }

    /// Signal to error of the centred logits, in dB.
    pub(crate) fn snr_db(&self) -> Option<f64> {
        decibels(self.signal, self.error)
    }

    /// Mean divergence per image, in nats.
    pub(crate) fn kl(&self) -> f64 {
        self.kl / self.images.max(1) as f64
    }

    /// Share of images whose largest logit is the same.
    pub(crate) fn agreement(&self) -> f64 {
        self.agreeing as f64 / self.images.max(1) as f64
    }
}

/// The class with the largest logit; of equal ones the first.
pub(crate) fn top(logits: ArrayView1<'_, f32>) -> usize {
    let best = logits
        .iter()
        .enumerate()
        .reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map_or(0, |(class, _)| class)
}

/// 10·log10(signal/error), unless it has no value.
fn decibels(signal: f64, error: f64) -> Option<f64> {
    let ratio = 10.0 * (signal / error).log10();
    ratio.is_finite().then_some(ratio)
}

fn log_softmax(logits: ArrayView1<'_, f32>) -> Vec<f64> {
    let largest = f64::from(logits.fold(f32::NEG_INFINITY, |m, &v| m.max(v)));
    let sum: f64 = logits.iter().map(|&v| (f64::from(v) - largest).exp()).sum();
    let offset = largest + sum.ln();
    logits.iter().map(|&v| f64::from(v) - offset).collect()
}

fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|v| v - mean).collect()
}
