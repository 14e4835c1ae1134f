//! When the store is used, and when it is left alone.
//!
//! Closed: takes go out. What goes wrong opens it at once, since a take that waits holds a request
//! up. Open: nobody waits, until a pause is over. Half open: one connection is made and shown to
//! answer in time; no request takes part in that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;

/// The breaker of one shard.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// What the cores look at.
    is_closed: Arc<AtomicBool>,
    gauge: Gauge,
    /// Failures since a take was answered.
    failures: u32,
}

impl Breaker {
    /// Half open: the first connection is to be made.
    pub(crate) fn new(is_closed: Arc<AtomicBool>, gauge: Gauge) -> Self {
        let breaker = Self { is_closed, gauge, failures: 0 };
        breaker.half_open();
        breaker
    }

    pub(crate) fn half_open(&self) {
        self.is_closed.store(false, Ordering::Relaxed);
        self.gauge.set(1);
    }

    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.gauge.set(0);
    }

    /// A take was answered: whatever failed is over.
    pub(crate) const fn answered(&mut self) {
        self.failures = 0;
    }

    /// Opens it, and says how long the store is left alone: not at all after the first failure,
    /// then twice as long each time, up to [`PAUSE_MAX`]. `jitter`, any number, keeps nodes apart.
    pub(crate) fn open(&mut self, jitter: u64) -> Duration {
        self.is_closed.store(false, Ordering::Relaxed);
        self.gauge.set(2);
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            return Duration::ZERO;
        }
        let doubled = PAUSE.saturating_mul(1 << (self.failures - 2).min(16)).min(PAUSE_MAX);
        let quarter = u64::try_from(doubled.as_micros() / 4).unwrap_or(1).max(1);
        doubled.saturating_sub(Duration::from_micros(jitter % quarter))
    }

    /// Failures since a take was answered.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }
}

/// After the second failure in a row.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a store that came back stays unused at the worst.
const PAUSE_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::{Arc, AtomicBool, Breaker, Duration, Gauge, Ordering};

    #[test]
    fn pauses_double_up_to_a_second_and_an_answer_ends_them() {
        let is_closed = Arc::<AtomicBool>::default();
        let mut breaker = Breaker::new(Arc::clone(&is_closed), Gauge::default());
        let pauses = [(); 8].map(|()| breaker.open(0).as_millis());
        assert_eq!(pauses, [0, 50, 100, 200, 400, 800, 1_000, 1_000]);
        assert!(breaker.open(u64::MAX) >= Duration::from_millis(750));
        breaker.close();
        assert!(is_closed.load(Ordering::Relaxed));
        breaker.answered();
        assert_eq!(breaker.open(7), Duration::ZERO);
        assert!(!is_closed.load(Ordering::Relaxed));
    }
}
