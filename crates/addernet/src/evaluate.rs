//! Accuracy of a classifier on a data set.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use addernet_engine::Engine;
use addernet_graph::{Executor, Graph, Preprocessing};
use addernet_quant::Simulator;
use ndarray::{Array2, Array4, ArrayView1, Axis};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::images::Images;
use crate::predict::Prediction;
use crate::progress::{Progress, Stage};

/// Something that gives logits for images.
pub trait Classifier: Sync {
    /// The network that it runs.
    fn graph(&self) -> &Graph;

    /// Logits (N, classes) of a batch of images (N,H,W,C).
    ///
    /// # Errors
    /// If the images do not fit the network.
    fn logits(&self, images: Array4<f32>) -> Result<Array2<f32>, Error>;

    /// Logits of one image's pixels (H,W,C), of which `preprocessing` says how they are normalised.
    ///
    /// # Errors
    /// If the pixels or the channels of `preprocessing` do not fit the network.
    fn classify(&self, pixels: &[u8], preprocessing: &Preprocessing) -> Result<Prediction, Error> {
        let input = self.graph().input_shape();
        let Preprocessing { mean, std } = preprocessing;
        if pixels.len() != input.values() || [mean.len(), std.len()] != [input.channels; 2] {
            return Err(Error::Pixels {
                graph: self.graph().name().to_owned(),
                input: input.to_string(),
                pixels: pixels.len(),
                channels: mean.len(),
            });
        }
        let shape = (1, input.height, input.width, input.channels);
        let image = Array4::from_shape_fn(shape, |(_, y, x, c)| {
            let pixel = pixels[(y * input.width + x) * input.channels + c];
            (f32::from(pixel) / 255.0 - mean[c]) / std[c]
        });
        let logits = self.logits(image)?;
        Ok(Prediction::new(logits.iter().map(|&v| v.into()).collect()))
    }
}

impl Classifier for Executor<'_> {
    fn graph(&self) -> &Graph {
        self.model().graph()
    }

    fn logits(&self, images: Array4<f32>) -> Result<Array2<f32>, Error> {
        Ok(self.run(images)?)
    }
}

impl Classifier for Simulator<'_> {
    fn graph(&self) -> &Graph {
        self.model().graph()
    }

    fn logits(&self, images: Array4<f32>) -> Result<Array2<f32>, Error> {
        Ok(self.run(images)?)
    }
}

impl Classifier for Engine {
    fn graph(&self) -> &Graph {
        self.program().graph()
    }

    /// The images are turned back into pixels: see [`Engine::run`].
    fn logits(&self, images: Array4<f32>) -> Result<Array2<f32>, Error> {
        let count = images.dim().0;
        let images = images.as_standard_layout();
        let logits = self.run(images.as_slice().unwrap_or(&[]))?;
        let values = logits.to_f32();
        let mut rows = Array2::zeros((count, logits.classes()));
        rows.iter_mut()
            .zip(values)
            .for_each(|(to, value)| *to = value);
        Ok(rows)
    }

    /// The model's own preprocessing is part of its integers; `preprocessing` is not looked at.
    fn classify(&self, pixels: &[u8], _: &Preprocessing) -> Result<Prediction, Error> {
        let logits = self.run(pixels)?;
        let real = |&v: &i32| f64::from(v) * logits.scale();
        Ok(Prediction::new(logits.values().iter().map(real).collect()))
    }
}

/// How well a classifier does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Share of images whose label has the largest logit, 0 to 1. Of equal logits the first wins.
    pub top1: f64,
    /// Share of images whose label is among the five largest logits, 0 to 1.
    pub top5: f64,
    /// Mean cross-entropy −ln softmax(logits)\[label\], in nats.
    pub loss: f64,
    /// Number of images.
    pub images: usize,
}

impl Accuracy {
    /// The figures for finite `logits` (N, classes) and N `labels` below the number of classes.
    ///
    /// ```
    /// let logits = ndarray::array![[0.0, 2.0, 1.0], [5.0, 4.0, 3.0]];
    /// let accuracy = addernet::Accuracy::of(&logits, &[1, 2]);
    /// assert_eq!((accuracy.top1, accuracy.top5), (0.5, 1.0));
    /// ```
    pub fn of(logits: &Array2<f32>, labels: &[u32]) -> Self {
        let (mut top1, mut top5, mut loss) = (0usize, 0usize, 0.0f64);
        for (row, &label) in logits.rows().into_iter().zip(labels) {
            let label = label as usize;
            let rank = rank(row, label);
            top1 += usize::from(rank == 0);
            top5 += usize::from(rank < 5);
            loss += cross_entropy(row, label);
        }
        let count = labels.len() as f64;
        let images = labels.len();
        Self {
            top1: top1 as f64 / count,
            top5: top5 as f64 / count,
            loss: loss / count,
            images,
        }
    }
}

/// The outcome of [`evaluate`](evaluate()).
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The figures.
    pub accuracy: Accuracy,
    /// Logits (N, classes) in the order of the images.
    pub logits: Array2<f32>,
    /// Time it took, with the preparation of the images.
    pub seconds: f64,
}

/// Runs `classifier` on the images at `indices`.
///
/// Uses as many threads as rayon's current pool has. Each of them takes a few images at a time through
/// the whole network, so that activations stay in its cache; nothing in the result depends on the number
/// of threads.
///
/// # Errors
/// If there is no image, one cannot be read, or its logits are NaN or infinite: of several failures, the
/// first in the order of `indices`.
pub fn evaluate(
    classifier: &dyn Classifier,
    images: &Images,
    indices: &[usize],
    progress: &dyn Progress,
) -> Result<Evaluation, Error> {
    let start = Instant::now();
    progress.begin(Stage::Evaluation, indices.len());
    let logits = predict(classifier, images, indices, progress)?;
    progress.end();
    let labels: Vec<u32> = indices
        .iter()
        .map(|&i| images.dataset().labels()[i])
        .collect();
    let accuracy = Accuracy::of(&logits, &labels);
    Ok(Evaluation {
        accuracy,
        logits,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// The logits (N, classes) of the images at `indices`.
fn predict(
    classifier: &dyn Classifier,
    images: &Images,
    indices: &[usize],
    progress: &dyn Progress,
) -> Result<Array2<f32>, Error> {
    if indices.is_empty() {
        return Err(Error::NoImages);
    }
    let classes = classifier.graph().classes();
    let mut logits = Array2::zeros((indices.len(), classes));
    let size = images_per_task(classifier.graph());
    let tasks = indices
        .chunks(size)
        .zip(logits.axis_chunks_iter_mut(Axis(0), size));
    in_parallel(tasks, |(task, mut rows): (&[usize], _)| {
        for batch in images.batches(task, size)? {
            rows.assign(&classifier.logits(batch?.images)?);
        }
        for (row, &image) in rows.rows().into_iter().zip(task) {
            if !row.iter().all(|v| v.is_finite()) {
                return Err(not_finite(images, image));
            }
        }
        progress.advance(task.len());
        Ok(())
    })?;
    Ok(logits)
}

/// How many images a thread takes at a time: as many as keep the largest feature map within a
/// megabyte, about what a core has as second-level cache.
fn images_per_task(graph: &Graph) -> usize {
    const CACHE_VALUES: usize = (1 << 20) / size_of::<f32>();
    const MOST: usize = 16;
    let largest = graph
        .nodes()
        .iter()
        .map(|node| node.shape().values())
        .max()
        .unwrap_or(1);
    (CACHE_VALUES / largest).clamp(1, MOST)
}

/// Does all tasks, handed out in order; the first error in that order is returned.
fn in_parallel<T: Send>(
    tasks: impl Iterator<Item = T> + Send,
    work: impl Fn(T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let threads = rayon::current_num_threads();
    // A pool of one per thread: what `work` would parallelise inside stays on its thread, where the
    // activations are, and no thread takes up a second task while waiting within a first one.
    let pools = (0..threads)
        .map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::Threads { threads, source })?;
    let tasks = Mutex::new(tasks.enumerate());
    let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let take_tasks = || {
        loop {
            let Some((index, task)) = lock(&tasks).next() else {
                break;
            };
            let result = work(task);
            let mut failure = lock(&failure);
            // Tasks before a failed one have all been handed out by then and will be finished, so that
            // the first failure in order is always found.
            match (result, failure.as_ref().map(|(first, _)| *first)) {
                (Err(error), first) if first.is_none_or(|first| index < first) => {
                    *failure = Some((index, error));
                    break;
                }
                (_, Some(_)) => break,
                _ => {}
            }
        }
    };
    std::thread::scope(|scope| {
        for pool in &pools {
            scope.spawn(|| pool.install(take_tasks));
        }
    });
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    failure.map_or(Ok(()), |(_, error)| Err(error))
}

/// What a panicking thread leaves is still whole here: a place in a queue, or an error.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_finite(images: &Images, image: usize) -> Error {
    let dataset = images.dataset();
    Error::NonFiniteLogits {
        image,
        split: dataset.split(),
        dataset: dataset.kind(),
        file: dataset
            .file_name(image)
            .map_or(String::new(), |f| format!(" ({})", f.display())),
    }
}

/// How many logits come before that of `label`: larger ones, and equal ones of lower classes.
fn rank(logits: ArrayView1<'_, f32>, label: usize) -> usize {
    let own = logits[label];
    logits
        .iter()
        .enumerate()
        .filter(|&(class, &v)| v > own || (v == own && class < label))
        .count()
}

/// −ln softmax(logits)\[label\], without overflow for any finite logits.
fn cross_entropy(logits: ArrayView1<'_, f32>, label: usize) -> f64 {
    let largest = f64::from(logits.fold(f32::NEG_INFINITY, |m, &v| m.max(v)));
    let sum: f64 = logits.iter().map(|&v| (f64::from(v) - largest).exp()).sum();
    largest + sum.ln() - f64::from(logits[label])
}

#[cfg(test)]
mod tests;
