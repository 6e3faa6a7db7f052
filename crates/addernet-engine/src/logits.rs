//! What comes out.

/// Integer logits of N images with their common scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    values: Vec<i32>,
    classes: usize,
    scale: f64,
}

impl Logits {
    pub(crate) fn new(values: Vec<i32>, classes: usize, fraction: i32) -> Self {
        Self {
            values,
            classes,
            scale: crate::lower::formats::exp2(-fraction),
        }
    }

    /// All integers, N x classes.
    pub fn values(&self) -> &[i32] {
        &self.values
    }

    /// Number of logits of an image.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// What an integer of 1 stands for: a power of two.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.values.len() / self.classes
    }

    /// The integers of one image.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn image(&self, image: usize) -> &[i32] {
        &self.values[image * self.classes..][..self.classes]
    }

    /// The real numbers that the integers stand for, N x classes.
    pub fn to_f32(&self) -> Vec<f32> {
        self.values
            .iter()
            .map(|&v| (f64::from(v) * self.scale) as f32)
            .collect()
    }

    /// The class with the largest logit of one image; of equal ones the first.
    ///
    /// # Panics
    /// If there is no such image.
    pub fn top1(&self, image: usize) -> usize {
        self.top(image, 1).first().map_or(0, |&(class, _)| class)
    }

    /// The `k` classes with the largest logits of one image, best first, each with its probability
    /// (softmax over all classes).
    ///
    /// # Panics
    /// If there is no such image.
    pub fn top(&self, image: usize, k: usize) -> Vec<(usize, f64)> {
        let logits = self.image(image);
        let largest = logits.iter().max().copied().unwrap_or(0);
        let weight = |&v: &i32| (f64::from(v) * self.scale - f64::from(largest) * self.scale).exp();
        let total: f64 = logits.iter().map(weight).sum();
        let mut classes: Vec<usize> = (0..logits.len()).collect();
        classes.sort_by_key(|&class| std::cmp::Reverse(logits[class]));
        classes
            .into_iter()
            .take(k)
            .map(|class| (class, weight(&logits[class]) / total))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_classes_come_first_and_equal_ones_in_order() {
        let logits = Logits::new(vec![0, 4, 4, -4, 8, 0, 0, 0], 4, 2);
        assert_eq!((logits.images(), logits.scale()), (2, 0.25));
        assert_eq!((logits.top1(0), logits.top1(1)), (1, 0));
        let top: Vec<_> = logits.top(0, 3);
        assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 2, 0]);
        let total = 2.0 * 1f64.exp() + 1.0 + (-1f64).exp();
        assert!((top[0].1 - 1f64.exp() / total).abs() < 1e-12);
        assert_eq!(logits.to_f32()[..4], [0.0, 1.0, 1.0, -1.0]);
        assert_eq!(logits.top(1, 9).len(), 4);
    }
}
