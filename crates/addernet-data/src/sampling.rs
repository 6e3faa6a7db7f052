//! Which images, in which order.

use rand::seq::SliceRandom;

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::rng::{Purpose, stream};

/// The images in order; only the first `limit` if given.
pub fn sequential_indices(dataset: &Dataset, limit: Option<usize>) -> Vec<usize> {
    (0..limit.unwrap_or(usize::MAX).min(dataset.len())).collect()
}

/// Every image once, in an order that depends on `seed` and `epoch` alone.
pub fn shuffled_indices(dataset: &Dataset, seed: u64, epoch: u64) -> Vec<usize> {
    let indices: Vec<usize> = (0..dataset.len()).collect();
    shuffled(&indices, seed, epoch)
}

/// The same places in an order that depends on `seed` and `epoch` alone.
pub fn shuffled(indices: &[usize], seed: u64, epoch: u64) -> Vec<usize> {
    let mut indices = indices.to_vec();
    indices.shuffle(&mut stream(seed, Purpose::Shuffle, epoch, 0));
    indices
}

/// `n` different images, chosen at random but balanced over the classes.
///
/// Rounds through the classes in random order take one unused image of each, so every prefix of the
/// result holds each class equally often, give or take one, as long as no class has run out. The choice
/// depends on `seed` and the labels alone, and a smaller `n` gives a prefix of a larger one.
///
/// # Errors
/// [`DataError::TooFewImages`] if the data set has fewer than `n` images.
///
/// ```
/// use addernet_data::{Dataset, DatasetKind, OpenOptions, Split, calibration_indices};
///
/// let dataset = Dataset::open(DatasetKind::Shapes, None, Split::Train, &OpenOptions::default())?;
/// let indices = calibration_indices(&dataset, 20, 1)?;
/// for class in 0..10 {
///     assert_eq!(indices.iter().filter(|&&i| dataset.labels()[i] == class).count(), 2);
/// }
/// # Ok::<(), addernet_data::DataError>(())
/// ```
pub fn calibration_indices(
    dataset: &Dataset,
    n: usize,
    seed: u64,
) -> Result<Vec<usize>, DataError> {
    if n > dataset.len() {
        return Err(DataError::TooFewImages {
            kind: dataset.kind(),
            split: dataset.split(),
            requested: n,
            available: dataset.len(),
        });
    }
    Ok(balanced(dataset.labels(), dataset.num_classes(), n, seed))
}

/// `n` is at most the number of labels, and labels are below `classes`.
fn balanced(labels: &[u32], classes: usize, n: usize, seed: u64) -> Vec<usize> {
    let mut rng = stream(seed, Purpose::Calibration, 0, 0);
    let mut unused: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        unused[label as usize].push(index);
    }
    for members in &mut unused {
        members.shuffle(&mut rng);
    }
    let mut chosen = Vec::with_capacity(n);
    while chosen.len() < n {
        unused.retain(|members| !members.is_empty());
        unused.shuffle(&mut rng);
        let round = unused.iter_mut().filter_map(Vec::pop);
        chosen.extend(round.take(n - chosen.len()));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn counts(labels: &[u32], indices: &[usize], classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for &index in indices {
            counts[labels[index] as usize] += 1;
        }
        counts
    }

    proptest! {
        #[test]
        fn balanced_without_replacement(
            labels in prop::collection::vec(0u32..7, 1..200),
            share in 0.0..=1.0f64,
            seed: u64,
        ) {
            let n = (labels.len() as f64 * share) as usize;
            let chosen = balanced(&labels, 7, n, seed);
            prop_assert_eq!(chosen.len(), n);
            prop_assert_eq!(chosen.iter().collect::<HashSet<_>>().len(), n);
            let all: Vec<usize> = (0..labels.len()).collect();
            let available = counts(&labels, &all, 7);
            let taken = counts(&labels, &chosen, 7);
            let most = taken.iter().max().copied().unwrap_or(0);
            for (taken, available) in taken.into_iter().zip(available) {
                prop_assert!(taken == available || taken + 1 >= most);
            }
        }

        #[test]
        fn a_smaller_choice_is_a_prefix(n in 0usize..60, seed: u64) {
            let labels: Vec<u32> = (0..60).map(|i| i * i % 5).collect();
            prop_assert_eq!(&balanced(&labels, 5, 60, seed)[..n], balanced(&labels, 5, n, seed));
        }
    }

    #[test]
    fn the_seed_decides() {
        let labels: Vec<u32> = (0..1000).map(|i| i % 10).collect();
        assert_eq!(balanced(&labels, 10, 100, 1), balanced(&labels, 10, 100, 1));
        assert_ne!(balanced(&labels, 10, 100, 1), balanced(&labels, 10, 100, 2));
    }

    #[test]
    fn the_choice_is_not_bound_to_the_order_of_the_file() {
        let labels = vec![0; 10_000];
        let chosen = balanced(&labels, 1, 1000, 5);
        let mean = chosen.iter().sum::<usize>() as f64 / 1000.0;
        // Uniform on 0..10,000: deviation of the mean 91, without replacement a little less.
        assert!((mean - 4999.5).abs() < 500.0, "{mean}");
        assert!(!chosen.is_sorted());
    }
}
