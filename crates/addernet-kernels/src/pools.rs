//! Thread pools for the tests of both operators.

use rayon::{Scope, ThreadPool, ThreadPoolBuilder};

/// So many threads; on WebAssembly, which has none, the caller's.
pub(crate) struct Pool {
    threads: usize,
    pool: Option<ThreadPool>,
}

impl Pool {
    pub(crate) fn new(threads: usize) -> Self {
        let pool = match cfg!(target_family = "wasm") {
            true => None,
            false => Some(
                ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .unwrap(),
            ),
        };
        Self { threads, pool }
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `work` with these threads as the current ones.
    pub(crate) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Runs `work`, and what it spawns, on these threads.
    pub(crate) fn scope<'s, R: Send>(&self, work: impl FnOnce(&Scope<'s>) -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.scope(work),
            None => rayon::scope(work),
        }
    }
}
