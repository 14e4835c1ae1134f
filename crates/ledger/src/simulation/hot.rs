//! Leases that never run out: what a decision costs when its leases are at hand.

use model::Bucket;

use crate::fleet::lease::draw::take_all;
use crate::fleet::lease::holding::Holding;

/// Four levels.
#[derive(Debug)]
pub struct Hot(Vec<Holding>);

impl Hot {
    /// Leases of four billion tokens each.
    #[must_use]
    pub fn new(bucket: Bucket) -> Self {
        Self((0..4).map(|_| Holding::filled(bucket, u32::MAX)).collect())
    }

    /// Takes one token of each.
    #[must_use]
    pub fn decide(&self, now: u64) -> bool {
        let [a, b, c, d] = self.0.as_slice() else { return false };
        take_all(&[(a, 1), (b, 1), (c, 1), (d, 1)], now, |_| {}).is_ok()
    }
}
