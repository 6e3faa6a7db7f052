//! Random crop and flip.

use rand::{Rng, RngExt};

use crate::kind::DatasetKind;
use crate::rng::{Purpose, stream};

/// Training augmentation: a random crop of the zero-padded image, and a random horizontal flip.
///
/// What happens to an image depends on (`seed`, `epoch`, index of the image) and on nothing else, so runs
/// repeat exactly whatever the batch size, the order and the number of threads.
#[derive(Clone, Debug, PartialEq)]
pub struct Augmentation {
    /// Instead of the middle of the image, a window of random size and shape is resized to the input: for image
    /// folders, whose images are larger than that.
    pub resized_crop: Option<ResizedCrop>,
    /// Zero pixels added to each side before a window of the image's own size is cut out at random.
    pub crop_padding: usize,
    /// Whether to mirror left and right with probability one half.
    pub flip: bool,
    /// Seed of all random choices.
    pub seed: u64,
    /// Epoch; the same image is treated differently in each.
    pub epoch: u64,
}

/// A window of random size and shape (Szegedy et al., "Going deeper with convolutions", 2015, section 6; torchvision's
/// `RandomResizedCrop`): its area is a share of the image's, uniform from `smallest_area` to 1, the logarithm of its
/// width over its height uniform from ln 3/4 to ln 4/3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResizedCrop {
    /// Smallest share of the image's area, above 0, at most 1; 0.08 as published.
    pub smallest_area: f64,
}

/// Left and upper edge, width and height, in pixels.
pub(crate) type Window = [u32; 4];

impl ResizedCrop {
    /// Widest and, turned around, narrowest shape.
    const RATIO: f64 = 4.0 / 3.0;

    fn choose(self, rng: &mut impl Rng, [width, height]: [u32; 2]) -> Window {
        let area = f64::from(width) * f64::from(height);
        let log_ratio = Self::RATIO.ln();
        for _ in 0..10 {
            let share = rng.random_range(self.smallest_area..=1.0);
            let ratio = rng.random_range(-log_ratio..=log_ratio).exp();
            let side = |ratio: f64| (area * share * ratio).sqrt().round() as u32;
            let (w, h) = (side(ratio), side(1.0 / ratio));
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let left = rng.random_range(0..=width - w);
                let top = rng.random_range(0..=height - h);
                return [left, top, w, h];
            }
        }
        // A very long image: its middle, as wide or as high as may be.
        let most = |side: u32| (f64::from(side) * Self::RATIO).round() as u32;
        let (w, h) = (width.min(most(height)), height.min(most(width)));
        [(width - w) / 2, (height - h) / 2, w, h]
    }
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
            resized_crop: None,
            crop_padding: 4,
            flip: kind != DatasetKind::Mnist,
            seed,
            epoch,
        }
    }

    /// The window of an image of this width and height, if one is chosen.
    pub(crate) fn window(&self, index: usize, size: [u32; 2]) -> Option<Window> {
        let mut rng = stream(self.seed, Purpose::Window, self.epoch, index as u64);
        Some(self.resized_crop?.choose(&mut rng, size))
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
    fn windows_have_the_published_sizes_and_shapes() {
        let crop = Some(ResizedCrop {
            smallest_area: 0.08,
        });
        let window = |index, size| {
            let a = Augmentation {
                resized_crop: crop,
                ..augmentation(5, 1)
            };
            a.window(index, size).unwrap()
        };
        let mut mean = 0.0;
        for index in 0..2000 {
            let [left, top, width, height] = window(index, [400, 300]);
            assert!(left + width <= 400 && top + height <= 300);
            let (width, height) = (f64::from(width), f64::from(height));
            let share = width * height / 120_000.0;
            assert!((0.078..=1.0).contains(&share), "{share}");
            let ratio = width / height;
            assert!((0.74..=1.36).contains(&ratio), "{ratio}");
            mean += share / 2000.0;
        }
        // Uniform from 0.08 to 1 has the mean 0.54; the largest of the wrong shape do not fit.
        assert!((0.4..0.56).contains(&mean), "{mean}");
        assert_eq!(window(3, [400, 300]), window(3, [400, 300]));
        assert_ne!(window(3, [400, 300]), window(4, [400, 300]));
        // No window of these shapes fits into a line but its middle.
        assert_eq!(window(0, [900, 3]), [448, 0, 4, 3]);
        assert_eq!(window(0, [1, 1]), [0, 0, 1, 1]);
        assert_eq!(augmentation(5, 1).window(0, [9, 9]), None);
    }

    #[test]
    fn digits_are_never_flipped() {
        let a = Augmentation::published(DatasetKind::Mnist, 3, 0);
        assert!((0..200).all(|i| !a.choose(i).flip));
    }
}
