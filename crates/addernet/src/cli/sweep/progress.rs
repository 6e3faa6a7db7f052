//! Two bars: the cells, and the work at hand within one.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use addernet::{Progress, Stage};
use indicatif::{MultiProgress, ProgressBar};

use super::super::progress::{stage_name, style};

/// Shows on a terminal which cell is at work and how long the rest will take.
pub(super) struct SweepBars {
    bars: MultiProgress,
    cells: ProgressBar,
    stage: Mutex<Option<ProgressBar>>,
}

impl SweepBars {
    /// Bars for so many cells that are still to be done.
    pub(super) fn new(to_do: usize) -> Self {
        let bars = MultiProgress::new();
        let cells = ProgressBar::new(to_do as u64).with_style(style("{pos}/{len} done"));
        let cells = bars.add(cells);
        cells.enable_steady_tick(Duration::from_secs(1));
        Self {
            bars,
            cells,
            stage: Mutex::new(None),
        }
    }

    /// The cell at this place (from 1) of `cells` begins.
    pub(super) fn cell(&self, place: usize, cells: usize, name: &str) {
        self.cells
            .set_message(format!("cell {place}/{cells} {name}"));
    }

    /// A cell is done.
    pub(super) fn done(&self) {
        self.cells.inc(1);
    }

    /// All are.
    pub(super) fn finish(&self) {
        self.cells.finish_and_clear();
    }

    fn with(&self, change: impl FnOnce(&mut Option<ProgressBar>)) {
        change(&mut self.stage.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Progress for SweepBars {
    fn begin(&self, stage: Stage, images: usize) {
        let bar = ProgressBar::new(images as u64).with_style(style("{pos}/{len} images"));
        let bar = self.bars.add(bar);
        bar.set_message(stage_name(stage));
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
                self.bars.remove(&bar);
            }
        });
    }
}
