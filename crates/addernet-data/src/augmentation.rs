//! Random crop and flip.

use rand::RngExt;

use crate::kind::DatasetKind;
use crate::rng::{Purpose, stream};

/// Training augmentation: a random crop of the zero-padded image, and a random horizontal flip.
///
/// What happens to an image depends on (`seed`, `epoch`, index of the image) and on nothing else, so runs
/// repeat exactly whatever the batch size, the order and the number of threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Augmentation {
    /// Zero pixels added to each side before a window of the image's own size is cut out at random.
    pub crop_padding: usize,
    /// Whether to mirror left and right with probability one half.
    pub flip: bool,
    /// Seed of all random choices.
    pub seed: u64,
    /// Epoch; the same image is treated differently in each.
    pub epoch: u64,
}

/// The choices for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Rows and columns by which the window is shifted, −padding to +padding.
    pub(crate) down: isize,
    pub(crate) right: isize,
    pub(crate) flip: bool,
}

impl Choice {
    pub(crate) const NONE: Choice = Choice {
        down: 0,
        right: 0,
        flip: false,
    };
}

impl Augmentation {
    /// The published recipe: crop with 4 pixels of padding and flip (He et al., "Deep Residual Learning
    /// for Image Recognition", 2016, section 4.2); digits are not flipped.
    pub fn published(kind: DatasetKind, seed: u64, epoch: u64) -> Self {
        Self {
            crop_padding: 4,
            flip: kind != DatasetKind::Mnist,
            seed,
            epoch,
        }
    }

    pub(crate) fn choose(&self, index: usize) -> Choice {
        let mut rng = stream(self.seed, Purpose::Augment, self.epoch, index as u64);
        // 32-bit ranges, so that 32-bit machines choose alike.
        let padding = i32::try_from(self.crop_padding).unwrap_or(i32::MAX);
        let mut shift = || rng.random_range(-padding..=padding) as isize;
        let (down, right) = (shift(), shift());
        Choice {
            down,
            right,
            flip: self.flip && rng.random(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn augmentation(seed: u64, epoch: u64) -> Augmentation {
        Augmentation::published(DatasetKind::Cifar10, seed, epoch)
    }

    #[test]
    fn a_choice_depends_on_seed_epoch_and_index_alone() {
        let choices = |seed, epoch| -> Vec<Choice> {
            (0..50)
                .map(|i| augmentation(seed, epoch).choose(i))
                .collect()
        };
        assert_eq!(choices(1, 2), choices(1, 2));
        assert_ne!(choices(1, 2), choices(1, 3));
        assert_ne!(choices(1, 2), choices(2, 2));
        assert_eq!(choices(1, 2)[49], augmentation(1, 2).choose(49));
    }

    #[test]
    fn every_shift_occurs_about_equally_often_and_half_are_flipped() {
        let a = augmentation(0, 0);
        let n = 9 * 9 * 200;
        let mut counts = [[0usize; 9]; 9];
        let mut flips = 0usize;
        for i in 0..n {
            let choice = a.choose(i);
            counts[(choice.down + 4) as usize][(choice.right + 4) as usize] += 1;
            flips += usize::from(choice.flip);
        }
        // 200 expected per cell, standard deviation 14: six deviations.
        for count in counts.as_flattened() {
            assert!((116..=284).contains(count), "{counts:?}");
        }
        assert!(flips.abs_diff(n / 2) < 400, "{flips} of {n}");
    }

    #[test]
    fn digits_are_never_flipped() {
        let a = Augmentation::published(DatasetKind::Mnist, 3, 0);
        assert!((0..200).all(|i| !a.choose(i).flip));
    }
}
