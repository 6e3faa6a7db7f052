//! Batches made ahead of the step that learns from them.

use std::sync::mpsc::sync_channel;
use std::thread;

/// Batches that wait at most. One would do if all took the same time to make.
const AHEAD: usize = 3;

/// Runs `learn` on the items of `source`, which another thread makes ahead of it.
///
/// While a GPU works on a step, the CPU's threads (rayon's) read and augment the next images; the data set stays where it
/// is, a byte per value, and a batch of CIFAR-10, 3 MB of floats, is on the device in a fraction of a millisecond. The items
/// come in the order of `source`, so that the result is the same for any number of threads.
pub(super) fn ahead<T: Send, R>(
    source: impl Iterator<Item = T> + Send,
    learn: impl FnOnce(&mut dyn Iterator<Item = T>) -> R,
) -> R {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(AHEAD);
        scope.spawn(move || {
            for item in source {
                // Nobody waits for more if learning has failed.
                if sender.send(item).is_err() {
                    break;
                }
            }
        });
        learn(&mut receiver.into_iter())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order() {
        let items: Vec<usize> = ahead(0..1000, |items| items.collect());
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn learning_may_stop_early() {
        assert_eq!(ahead(0.., |items| items.nth(5)), Some(5));
    }

    #[test]
    fn no_more_are_made_than_wait() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let made = AtomicUsize::new(0);
        let source = (0..100).inspect(|_| {
            made.fetch_add(1, Ordering::SeqCst);
        });
        ahead(source, |items| {
            for (taken, _) in items.take(10).enumerate() {
                // One is in the maker's hands, and one has just been taken.
                assert!(made.load(Ordering::SeqCst) <= taken + AHEAD + 2);
            }
        });
    }
}
