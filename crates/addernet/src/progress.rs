//! How long work tells how far it is.

/// What the work at hand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The float model runs on training images, to observe the activations' ranges.
    Calibration,
    /// BN statistics are collected from the quantized network on training images.
    BnReestimation,
    /// Accuracy is measured.
    Evaluation,
    /// Distributions and sensitivities are collected on training images.
    Analysis,
    /// Image files are classified.
    Prediction,
}

/// Is told about the progress of long work, from any thread.
///
/// `()` is the listener that does not listen.
pub trait Progress: Sync {
    /// `stage` begins and will go through `images` images.
    fn begin(&self, stage: Stage, images: usize) {
        let _ = (stage, images);
    }

    /// So many more images are done.
    fn advance(&self, images: usize) {
        let _ = images;
    }

    /// The stage is over.
    fn end(&self) {}
}

impl Progress for () {}
