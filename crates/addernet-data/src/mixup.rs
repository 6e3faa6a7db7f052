//! Mixed images.

use ndarray::Axis;
use rand::RngExt;

use crate::loader::Batch;
use crate::rng::{Purpose, stream};

/// Mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018): about `share` (0 to 1) of the images x of
/// a batch become λ·x + (1 − λ)·x', x' the image that follows in the batch (after the last, the first), λ uniform from 1/2
/// to 1. Labels stay as they are, those of the larger part: it is meant for learning from a teacher that sees the same
/// images.
///
/// What happens to an image depends on (`seed`, `step`, index of the image) and its neighbour.
pub fn mixup(batch: &mut Batch, share: f64, seed: u64, step: u64) {
    let count = batch.indices.len();
    if share <= 0.0 || count == 0 {
        return;
    }
    let originals = batch.images.clone();
    for (place, &index) in batch.indices.iter().enumerate() {
        let mut rng = stream(seed, Purpose::Mixup, step, index as u64);
        let (chosen, own) = (rng.random::<f64>() < share, rng.random_range(0.5..=1.0f32));
        if !chosen {
            continue;
        }
        let next = originals.index_axis(Axis(0), (place + 1) % count);
        let mut image = batch.images.index_axis_mut(Axis(0), place);
        image.zip_mut_with(&next, |x, next| *x = own * *x + (1.0 - own) * next);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array4;

    use super::*;

    /// Image n is n + 1 everywhere, and has index 10·n.
    fn batch(count: usize) -> Batch {
        Batch {
            images: Array4::from_shape_fn((count, 2, 2, 3), |(n, ..)| n as f32 + 1.0),
            labels: vec![7; count],
            indices: (0..count).map(|n| 10 * n).collect(),
        }
    }

    fn mixed(count: usize, share: f64, seed: u64, step: u64) -> Batch {
        let mut batch = batch(count);
        mixup(&mut batch, share, seed, step);
        batch
    }

    /// The share of the image itself in each image, if it was mixed.
    fn shares(batch: &Batch) -> Vec<f32> {
        let count = batch.indices.len();
        (0..count)
            .map(|n| {
                let value = batch.images[[n, 0, 0, 0]];
                let all = batch.images.index_axis(Axis(0), n);
                assert!(all.iter().all(|&v| v == value));
                let (own, next) = (n as f32 + 1.0, ((n + 1) % count) as f32 + 1.0);
                (value - next) / (own - next)
            })
            .collect()
    }

    #[test]
    fn the_given_share_is_mixed_and_the_larger_part_is_the_images_own() {
        let shares = shares(&mixed(1000, 0.5, 3, 0));
        assert!(shares.iter().all(|s| (0.499..=1.001).contains(s)));
        let whole = shares.iter().filter(|&&s| s == 1.0).count();
        // Half of 1000, standard deviation 16: six deviations.
        assert!(whole.abs_diff(500) < 95, "{whole}");
        let mean = shares.iter().filter(|&&s| s < 1.0).sum::<f32>() / (1000 - whole) as f32;
        assert!((mean - 0.75).abs() < 0.04, "{mean}");
    }

    #[test]
    fn it_depends_on_seed_step_and_image_alone() {
        let reference = mixed(8, 1.0, 3, 5);
        assert_eq!(reference, mixed(8, 1.0, 3, 5));
        assert_ne!(reference, mixed(8, 1.0, 4, 5));
        assert_ne!(reference, mixed(8, 1.0, 3, 6));
        // The same first images in a shorter batch; its last one has another neighbour.
        let shorter = mixed(4, 1.0, 3, 5);
        for n in 0..3 {
            let image = |batch: &Batch| batch.images.index_axis(Axis(0), n).to_owned();
            assert_eq!(image(&reference), image(&shorter));
        }
        assert_eq!(reference.labels, vec![7; 8]);
    }

    #[test]
    fn nothing_is_mixed_where_nothing_can_be() {
        assert_eq!(mixed(8, 0.0, 0, 0), batch(8));
        assert_eq!(mixed(0, 1.0, 0, 0), batch(0));
        // An image alone is its own neighbour.
        assert_eq!(mixed(1, 1.0, 0, 0), batch(1));
    }
}
