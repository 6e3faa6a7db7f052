//! A run on the terminal: a bar with the time that is left, and a line per epoch.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::Duration;

use addernet::graph::GraphError;
use addernet::graph::file::write_atomically;
use addernet::train::{EpochReport, StepReport, TrainListener};
use indicatif::ProgressBar;

use super::super::interrupt;
use super::super::output::percent;
use super::super::progress::style;

/// How often a bar without a length moves.
const TICK: Duration = Duration::from_millis(120);

/// Shows a run on a terminal, nothing in a pipe, and keeps Ctrl-C away from its files.
#[derive(Default)]
pub(crate) struct TrainBar {
    bar: RefCell<Option<ProgressBar>>,
    /// A mean over the last steps.
    loss: Cell<Option<f64>>,
}

impl TrainListener for TrainBar {
    fn prepare(&self, what: &str) {
        let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
        spinner.enable_steady_tick(TICK);
        if let Some(before) = self.bar.borrow_mut().replace(spinner) {
            before.finish_and_clear();
        }
    }

    fn begin(&self, done: usize, steps: usize) {
        let bar = ProgressBar::new(steps as u64)
            .with_style(style("{pos}/{len} steps"))
            .with_position(done as u64);
        // The time that is left is judged by this call's steps.
        bar.reset_eta();
        if let Some(before) = self.bar.borrow_mut().replace(bar) {
            before.finish_and_clear();
        }
    }

    fn step(&self, report: &StepReport) {
        /// Share of the newest step in the loss that is shown.
        const SHARE: f64 = 0.05;
        let loss = match self.loss.get() {
            Some(mean) => mean + SHARE * (report.loss - mean),
            None => report.loss,
        };
        self.loss.set(Some(loss));
        if let Some(bar) = &*self.bar.borrow() {
            bar.set_message(format!("epoch {} loss {loss:.3}", report.epoch + 1));
            bar.inc(1);
        }
    }

    fn epoch(&self, report: &EpochReport) {
        if let Some(bar) = &*self.bar.borrow() {
            let test = match report.test_top1 {
                Some(top1) => format!(", test {}", percent(top1)),
                None => String::new(),
            };
            bar.println(format!(
                "epoch {:3}  loss {:.4}  training {}{test}  {:.1} s",
                report.epoch,
                report.train_loss,
                percent(report.train_top1),
                report.seconds
            ));
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), GraphError> {
        interrupt::uninterrupted(|| write_atomically(path, bytes))
    }
}
