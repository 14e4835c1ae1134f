//! Buckets in numbers that the store's scripts keep exactly: integers below 2^53.
//!
//! Most buckets fit as they are. One whose capacity has more than 51 bits is counted in coarser
//! units and in ticks of more than a microsecond, each number rounded to the strict side: the
//! price of a token up, the capacity down, and down again by what one tick refills. For every
//! window it admits at most what the exact one does. It admits less by at most two units and one
//! tick's refill of the burst, and its rate is slower by less than one part in 2^51 / burst; a
//! tick is at most 2,048 µs.

use std::time::Duration;

use model::{Bucket, Tokens, Uptime};
use rules::limit::{Level, Short, Taken};

/// A bucket as the scripts count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Coarse {
    /// In coarse units; its microsecond is one tick.
    bucket: Bucket,
    /// Microseconds; 1 for a bucket that is exact.
    tick: u64,
}

impl Coarse {
    pub(crate) fn new(exact: Bucket) -> Self {
        let largest = exact.capacity().max(exact.unit());
        let tick = largest.div_ceil(LARGEST).max(1);
        let unit = exact.unit().div_ceil(tick);
        let lost = if tick == 1 { 0 } else { exact.refill() };
        let capacity = (exact.capacity() / tick).saturating_sub(lost);
        // More than the whole bucket in one tick is as much as the whole bucket.
        let refill = exact.refill().min(capacity);
        let bucket = Bucket::from_parts(refill, unit, capacity).unwrap_or(exact);
        Self { bucket, tick }
    }

    /// Refill a tick, units of a token, capacity, microseconds of a tick.
    pub(crate) const fn parts(self) -> [u64; 4] {
        [self.bucket.refill(), self.bucket.unit(), self.bucket.capacity(), self.tick]
    }

    /// What so many tokens cost, in units; just too much for the bucket where it is too much.
    pub(crate) fn price(self, cost: Tokens) -> u64 {
        let too_much = self.bucket.capacity() + 1;
        cost.0.checked_mul(self.bucket.unit()).map_or(too_much, |price| price.min(too_much))
    }

    /// What a draw gets of a bucket with so many units used: what the script decided, in full.
    pub(crate) fn take(self, used: u64, cost: Tokens) -> Result<Taken, Short> {
        let now = Uptime::default();
        let level = Level::restored(used, self.bucket.unit(), now);
        match level.take(self.bucket, cost, now) {
            Ok((_, taken)) => Ok(Taken {
                turn: self.in_time(taken.turn),
                left: taken.left,
                more: self.in_time(taken.more),
            }),
            Err(Short::For(wait)) => Err(Short::For(self.in_time(wait))),
            Err(Short::Never) => Err(Short::Never),
        }
    }

    /// Ticks, which the arithmetic takes for microseconds, as time.
    fn in_time(self, ticks: Duration) -> Duration {
        ticks.saturating_mul(u32::try_from(self.tick).unwrap_or(u32::MAX))
    }
}

/// Numbers stay below 2^51, so that a sum of two, and twice of it, is still exact.
const LARGEST: u64 = (1 << 51) - 1;

#[cfg(test)]
mod tests {
    use model::Rate;

    use super::{Bucket, Coarse, Duration, LARGEST, Tokens};

    fn bucket(rate: &str, interval: u64, burst: &str) -> Bucket {
        let rate = Rate::parse(rate, Duration::from_secs(interval)).unwrap();
        Bucket::new(rate, burst, Tokens(0)).unwrap()
    }

    #[test]
    fn what_fits_is_exact() {
        for (rate, interval, burst) in [("4", 1, "100"), ("0.25", 300, "3"), ("1", 86_400, "10000")]
        {
            let exact = bucket(rate, interval, burst);
            let parts = [exact.refill(), exact.unit(), exact.capacity(), 1];
            assert_eq!(Coarse::new(exact).parts(), parts);
        }
    }

    /// In every window the coarse bucket gives at most what the exact one does.
    fn check(rate: &str, interval: u64, burst: &str) {
        let exact = bucket(rate, interval, burst);
        let [refill, unit, capacity, tick] = Coarse::new(exact).parts().map(u128::from);
        assert!(tick > 1 && tick <= 2_048, "{tick}");
        assert!(unit.max(capacity) <= u128::from(LARGEST));
        let (exact_refill, exact_unit) = (u128::from(exact.refill()), u128::from(exact.unit()));
        // As fractions of a token: a tick's refill, and the capacity with one tick of grace.
        assert!(refill * exact_unit <= tick * exact_refill * unit);
        assert!((capacity + refill) * exact_unit <= u128::from(exact.capacity()) * unit);
        // And nearly as much: to a millionth.
        assert!(refill * exact_unit * 1_000_001 >= tick * exact_refill * unit * 1_000_000);
        assert!(
            capacity * exact_unit * 1_000_001 >= u128::from(exact.capacity()) * unit * 1_000_000
        );
    }

    #[test]
    fn what_is_too_fine_is_rounded_to_the_strict_side() {
        check("1", 86_400, "30000000");
        check("1.000001", 86_400, "40");
        check("0.3333333", 3_600, "100");
    }
}
