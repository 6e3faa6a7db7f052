//! Progress bars on standard error: shown on a terminal, silent in a pipe.

use std::sync::Mutex;

use addernet::{Progress, Stage};
use indicatif::{ProgressBar, ProgressStyle};

/// Shows the stages of the library's long work as bars with the time that is left.
#[derive(Default)]
pub(crate) struct Bars {
    /// What is evaluated, where there are several.
    subject: &'static str,
    current: Mutex<Option<ProgressBar>>,
}

impl Bars {
    /// Bars that say what they are about.
    pub(crate) fn about(subject: &'static str) -> Self {
        Self {
            subject,
            ..Self::default()
        }
    }

    fn with(&self, change: impl FnOnce(&mut Option<ProgressBar>)) {
        change(
            &mut self
                .current
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
    }
}

impl Progress for Bars {
    fn begin(&self, stage: Stage, images: usize) {
        let name = stage_name(stage);
        let counter = match stage {
            Stage::ScaleSearch => "{pos}/{len} layers",
            _ => "{pos}/{len} images",
        };
        let bar = ProgressBar::new(images as u64).with_style(style(counter));
        bar.set_message(format!("{name} {}", self.subject).trim_end().to_owned());
        self.with(|current| *current = Some(bar));
    }

    fn advance(&self, images: usize) {
        self.with(|current| {
            if let Some(bar) = current {
                bar.inc(images as u64);
            }
        });
    }

    fn end(&self) {
        self.with(|current| {
            if let Some(bar) = current.take() {
                bar.finish_and_clear();
            }
        });
    }
}

/// What a stage is called on its bar.
pub(crate) fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Calibration => "calibrating",
        Stage::ScaleSearch => "searching scales",
        Stage::Sensitivity => "measuring sensitivity",
        Stage::Tuning => "tuning",
        Stage::BnReestimation => "re-estimating BN",
        Stage::Evaluation => "evaluating",
        Stage::Analysis => "analyzing",
        Stage::Prediction => "predicting",
    }
}

/// A bar with a message before it and `counter` behind it.
pub(crate) fn style(counter: &str) -> ProgressStyle {
    let template = format!("{{msg:24}} [{{bar:30}}] {counter}, {{eta}} left");
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
