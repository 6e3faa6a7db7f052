//! A generated data set: ten shapes, textured, turned, moved and noisy, 32x32 RGB.
//!
//! Every image is a function of (seed, split, index), drawn when asked for. Only additions,
//! multiplications, divisions, comparisons and `floor` are used, which IEEE 754 fixes to the bit: there is
//! no sine and no square root whose last digit could differ between machines.

mod draw;
mod outline;

use rand::seq::SliceRandom;

use crate::kind::Split;
use crate::rng::{Purpose, stream};

const SIDE: usize = 32;

/// The names of the classes.
pub(crate) const SHAPES_CLASSES: [&str; 10] = [
    "circle",
    "ring",
    "triangle",
    "square",
    "bar",
    "star",
    "cross",
    "crescent",
    "semicircle",
    "arrow",
];

/// The generator of one split.
#[derive(Debug)]
pub(crate) struct Shapes {
    seed: u64,
    split: Split,
}

impl Shapes {
    /// The generator, and the labels of the first `len` images.
    ///
    /// Each group of ten images holds every class once, in random order.
    pub(crate) fn new(seed: u64, split: Split, len: usize) -> (Self, Vec<u32>) {
        let shapes = Self { seed, split };
        let mut labels = Vec::with_capacity(len.next_multiple_of(SHAPES_CLASSES.len()));
        let mut group = 0;
        while labels.len() < len {
            let mut classes: [u32; SHAPES_CLASSES.len()] = std::array::from_fn(|i| i as u32);
            classes.shuffle(&mut stream(
                seed,
                Purpose::ShapeLabels,
                shapes.part(),
                group,
            ));
            labels.extend(classes);
            group += 1;
        }
        labels.truncate(len);
        (shapes, labels)
    }

    pub(crate) fn image_shape(&self) -> [usize; 3] {
        [SIDE, SIDE, 3]
    }

    /// Draws image `index`, which has the given label.
    pub(crate) fn image(&self, index: usize, label: u32) -> Vec<u8> {
        let mut rng = stream(self.seed, Purpose::ShapeImage, self.part(), index as u64);
        draw::draw(&mut rng, label)
    }

    fn part(&self) -> u64 {
        match self.split {
            Split::Train => 0,
            Split::Test => 1,
        }
    }
}

#[cfg(test)]
mod tests;
