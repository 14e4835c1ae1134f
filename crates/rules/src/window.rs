//! The checker of the promise of limits: in every window of length `w` at most `burst + rate · w`
//! passes.
//!
//! It replays what passed through an ideal bucket, which is the generic cell rate algorithm (ITU-T
//! I.371): in one pass over the times in order it judges all windows, those of no width included,
//! in exact integers. It knows nothing of how a limiter works, so that it can judge any.

use std::time::Duration;

use model::Bucket;

/// What passed one limit for one subject, in the order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    bucket: Bucket,
    /// Units drawn and not come back by the last time.
    drawn: u128,
    last: u64,
    /// When the bucket was last full before a take, and how many passed since.
    since: u64,
    count: u64,
    worst: Worst,
}

/// The window that holds the most beyond what came back in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worst {
    /// In microseconds since 1970, both inside the window.
    pub from: u64,
    pub to: u64,
    /// How many passed in it.
    pub count: u64,
    /// Units drawn beyond what came back: the promise is kept iff that is at most the capacity.
    pub drawn: u128,
}

impl Replay {
    /// A replay of a bucket that is full.
    #[must_use]
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket, drawn: 0, last: 0, since: 0, count: 0, worst: Worst::default() }
    }

    /// Notes that a token was taken, at microseconds since 1970. A time before the last one counts
    /// as the last.
    pub fn take(&mut self, at: u64) {
        let at = at.max(self.last);
        self.drawn = self.left(at);
        if self.drawn == 0 {
            (self.since, self.count) = (at, 0);
        }
        (self.last, self.count) = (at, self.count.saturating_add(1));
        self.drawn = self.drawn.saturating_add(u128::from(self.bucket.unit()));
        if self.drawn > self.worst.drawn {
            self.worst = Worst { from: self.since, to: at, count: self.count, drawn: self.drawn };
        }
    }

    /// The worst window so far.
    #[must_use]
    pub const fn worst(&self) -> Worst {
        self.worst
    }

    /// By how many tokens the worst window breaks the promise, rounded up; 0 where it is kept.
    ///
    /// Times are those of a clock beside the limiter's: windows may look shorter than they were by
    /// the tolerance.
    #[must_use]
    pub fn excess(&self, tolerance: Duration) -> u64 {
        let allowed = u128::from(self.bucket.refill()).saturating_mul(tolerance.as_micros());
        let allowed = allowed.saturating_add(u128::from(self.bucket.capacity()));
        let excess = self.worst.drawn.saturating_sub(allowed);
        u64::try_from(excess.div_ceil(u128::from(self.bucket.unit()))).unwrap_or(u64::MAX)
    }

    /// Whether the bucket is full at a time, so that all later windows begin after it.
    #[must_use]
    pub fn is_full(&self, at: u64) -> bool {
        self.left(at) == 0
    }

    /// Units still drawn at a time.
    fn left(&self, at: u64) -> u128 {
        let elapsed = u128::from(at.saturating_sub(self.last));
        self.drawn.saturating_sub(u128::from(self.bucket.refill()).saturating_mul(elapsed))
    }
}

#[cfg(test)]
mod tests;
