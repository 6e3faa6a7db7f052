//! Random streams addressed by what they are for.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a stream decides; streams of different purposes never coincide.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Augment = 1,
    Shuffle = 2,
    Calibration = 3,
    ShapeLabels = 4,
    ShapeImage = 5,
    Window = 6,
    Mixup = 7,
}

/// The stream for (`seed`, purpose, `a`, `b`).
///
/// The four numbers are the cipher's key, so a stream depends on nothing else: not on the number of
/// threads, nor on which images were prepared before this one.
pub(crate) fn stream(seed: u64, purpose: Purpose, a: u64, b: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, a, b]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
