//! The checker of the promise: in every window of length `w` at most `burst + rate · w` passes.
//!
//! It replays a log through an ideal bucket, which is the generic cell rate algorithm: in one
//! pass after a sort it judges all windows, those of no width included.

use model::Bucket;

/// The most units that were ever drawn beyond what came back, of tokens taken at these times in
/// microseconds. The promise is kept iff that is at most the capacity.
#[must_use]
pub fn worst(bucket: Bucket, log: &[u64]) -> i128 {
    let mut sorted = log.to_vec();
    sorted.sort_unstable();
    let (mut drawn, mut before, mut worst) = (0_i128, 0, 0);
    for at in sorted {
        let back = i128::from(bucket.refill()) * i128::from(at - before);
        drawn = (drawn - back).max(0) + i128::from(bucket.unit());
        worst = worst.max(drawn);
        before = at;
    }
    worst
}

/// Whether no window of the log holds more than was promised.
#[must_use]
pub fn is_kept(bucket: Bucket, log: &[u64]) -> bool {
    worst(bucket, log) <= i128::from(bucket.capacity())
}
