//! Where the stand-in's time comes from: the machine, or a test's hand.
use std::fmt::Debug;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// Tells the time to quotas, certificates of registration and dates in answers. Delays on the wire
/// do not ask it: they last as long as they say.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's own time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's time")]
    fn now(&self) -> Timestamp {
        Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX)
    }
}

/// A time that only moves when it is told to.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Timestamp>,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self { now: Mutex::new(now) }
    }

    /// Moves the time on.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock();
        *now = later(*now, by);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.lock()
    }
}

/// `from` and `by` after it, or the end of time.
pub(crate) fn later(from: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| from.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

/// As the API writes a time: RFC 3339 in UTC with microseconds.
pub(crate) fn stamp(at: Timestamp) -> String {
    format!("{at:.6}")
}
