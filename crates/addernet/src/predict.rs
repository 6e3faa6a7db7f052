//! Classes of image files.

use std::path::Path;

use addernet_data::load_image_for;
use addernet_graph::{Graph, Preprocessing};
use rayon::prelude::*;

use crate::error::Error;
use crate::evaluate::Classifier;
use crate::progress::{Progress, Stage};

/// The pixels (H,W,C) of an image file, JPEG, PNG, BMP, PNM or WebP, as the network `graph` takes them.
///
/// How an image of another size is brought to the network's is said at
/// [`load_image_for`](addernet_data::load_image_for).
///
/// # Errors
/// If the file is no readable image, or cannot become an input of the network.
///
/// ```no_run
/// let engine = addernet::Engine::load("resnet20-4bit.safetensors")?;
/// let pixels = addernet::load_pixels("frog.png", engine.program().graph(), None)?;
/// println!("class {}", engine.run(&pixels[..])?.top1(0));
/// # Ok::<(), addernet::Error>(())
/// ```
pub fn load_pixels(
    path: impl AsRef<Path>,
    graph: &Graph,
    resize: Option<u32>,
) -> Result<Vec<u8>, Error> {
    let input = graph.input_shape();
    let shape = [input.height, input.width, input.channels];
    Ok(load_image_for(path.as_ref(), shape, resize)?)
}

/// The logits of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    logits: Vec<f64>,
}

/// A class with what the network says for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassScore {
    /// Its place among the logits.
    pub class: usize,
    /// Its probability, 0 to 1: the softmax over all classes.
    pub score: f64,
    /// Its logit.
    pub logit: f64,
}

impl Prediction {
    /// One logit per class.
    pub fn new(logits: Vec<f64>) -> Self {
        Self { logits }
    }

    /// One logit per class.
    pub fn logits(&self) -> &[f64] {
        &self.logits
    }

    /// The `k` classes with the largest logits, or all if there are fewer, best first; of equal ones the
    /// first comes first.
    ///
    /// ```
    /// let prediction = addernet::Prediction::new(vec![0.0, 2.0, 2.0]);
    /// let best: Vec<usize> = prediction.top(2).iter().map(|c| c.class).collect();
    /// assert_eq!(best, [1, 2]);
    /// ```
    pub fn top(&self, k: usize) -> Vec<ClassScore> {
        let largest = self
            .logits
            .iter()
            .copied()
            .fold(f64::NEG_INFINITY, f64::max);
        let weight = |logit: f64| (logit - largest).exp();
        let total: f64 = self.logits.iter().copied().map(weight).sum();
        let mut classes: Vec<ClassScore> = self
            .logits
            .iter()
            .enumerate()
            .map(|(class, &logit)| ClassScore {
                class,
                score: weight(logit) / total,
                logit,
            })
            .collect();
        classes.sort_by(|a, b| b.logit.total_cmp(&a.logit));
        classes.truncate(k);
        classes
    }
}

/// Runs `classifier` on image files, on all threads of rayon's current pool.
///
/// Each file has its own outcome, in the order of `files`: a bad one does not keep the others from being
/// classified. `preprocessing` says how the network's images were normalised, `resize` is that of
/// [`load_pixels`].
pub fn predict<P: AsRef<Path> + Sync>(
    classifier: &dyn Classifier,
    files: &[P],
    preprocessing: &Preprocessing,
    resize: Option<u32>,
    progress: &dyn Progress,
) -> Vec<Result<Prediction, Error>> {
    let predict = |file: &P| {
        let path = file.as_ref();
        let pixels = load_pixels(path, classifier.graph(), resize)?;
        let prediction = classifier.classify(&pixels, preprocessing)?;
        if !prediction.logits.iter().all(|v| v.is_finite()) {
            let path = path.to_owned();
            return Err(Error::NonFinitePrediction { path });
        }
        Ok(prediction)
    };
    progress.begin(Stage::Prediction, files.len());
    let outcomes = files
        .par_iter()
        .map(|file| {
            let outcome = predict(file);
            progress.advance(1);
            outcome
        })
        .collect();
    progress.end();
    outcomes
}

#[cfg(test)]
mod tests;
