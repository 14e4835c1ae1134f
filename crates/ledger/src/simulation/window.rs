//! Logs of what passed, before the checker of the promise (`rules::window`).

use std::time::Duration;

use model::Bucket;
use rules::window::Replay;

/// The most units that were ever drawn beyond what came back, of tokens taken at these times in
/// microseconds. The promise is kept iff that is at most the capacity.
#[must_use]
pub fn worst(bucket: Bucket, log: &[u64]) -> i128 {
    i128::try_from(replayed(bucket, log).worst().drawn).unwrap_or(i128::MAX)
}

/// Whether no window of the log holds more than was promised.
#[must_use]
pub fn is_kept(bucket: Bucket, log: &[u64]) -> bool {
    replayed(bucket, log).excess(Duration::ZERO) == 0
}

fn replayed(bucket: Bucket, log: &[u64]) -> Replay {
    let mut sorted = log.to_vec();
    sorted.sort_unstable();
    let mut replay = Replay::new(bucket);
    sorted.into_iter().for_each(|at| replay.take(at));
    replay
}
