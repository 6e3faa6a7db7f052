//! Ctrl-C.

use std::sync::{Mutex, PoisonError};

use anyhow::Context;

/// Held while something is done that must not be cut short.
static WHOLE: Mutex<()> = Mutex::new(());

/// From now on Ctrl-C ends the program with status 130, once no file is being written.
pub(crate) fn install() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        let _whole = WHOLE.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!("addernet: interrupted");
        std::process::exit(130);
    })
    .context("cannot listen to Ctrl-C")
}

/// Runs `work`, which a Ctrl-C waits for: a temporary file would stay behind otherwise.
pub(crate) fn uninterrupted<T>(work: impl FnOnce() -> T) -> T {
    let _whole = WHOLE.lock().unwrap_or_else(PoisonError::into_inner);
    work()
}
