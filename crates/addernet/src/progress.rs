//! How long work tells how far it is.

/// What the work at hand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The float model runs on training images, to observe the activations' ranges.
    Calibration,
    /// The scale of each adder layer is searched; counted in layers, not images.
    ScaleSearch,
    /// Mixed precision: what quantizing each layer alone costs, measured on training images.
    Sensitivity,
    /// The quantized network learns to reproduce the float one.
    Tuning,
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
    /// `stage` begins and will go through `images` images (or what else it says that it counts in).
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
