//! Work on many resources at once, over the cores: the result is the one that turn by turn gives.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

/// Does the same work on each item; the results are in the order of the items. Few items are
/// worked on where they are.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if items.len() < PART_MIN * 2 {
        return items.iter().map(work).collect();
    }
    let cores = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
    let part = items.len().div_ceil(cores).max(PART_MIN);
    let mut results = Vec::with_capacity(items.len());
    let work = &work;
    thread::scope(|scope| {
        let parts = items.chunks(part);
        let parts = parts.map(|part| scope.spawn(|| part.iter().map(work).collect::<Vec<R>>()));
        // Collected, so that all are started before the first is waited for.
        for part in parts.collect::<Vec<_>>() {
            results.extend(part.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    results
}

/// Items that are worth a thread: some milliseconds of work.
const PART_MIN: usize = 256;

/// Threads at a time; on a larger machine the other cores go on with the traffic.
const THREADS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::{PART_MIN, in_parallel};

    fn check(items: usize) {
        let items: Vec<usize> = (0..items).collect();
        let expected: Vec<usize> = items.iter().map(|item| item * 2).collect();
        assert_eq!(in_parallel(&items, |item| item * 2), expected);
    }

    #[test]
    fn the_results_stand_in_the_order_of_the_items() {
        for items in [0, 1, PART_MIN * 2 - 1, PART_MIN * 2, PART_MIN * 20 + 7] {
            check(items);
        }
    }

    #[test]
    #[should_panic(expected = "one of them")]
    fn a_panic_in_one_part_is_that_of_the_whole() {
        let items: Vec<usize> = (0..PART_MIN * 4).collect();
        in_parallel(&items, |item| assert_ne!(*item, PART_MIN * 3, "one of them"));
    }
}
