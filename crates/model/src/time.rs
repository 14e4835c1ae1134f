//! Time, as an argument: the wall clock for people, the monotonic clock for rates.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment of the wall clock: microseconds since 1970-01-01T00:00:00Z. It may step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// From seconds since the Unix epoch.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This moment and a duration after it; stays at the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A moment of the monotonic clock: microseconds since an origin that only this process knows. It
/// goes on while the machine is suspended, so that what was to end meanwhile has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uptime(u64);

impl Uptime {
    /// From microseconds since the process's origin.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the process's origin.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// This moment and a duration after it; stays at the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Whole microseconds of a duration; 584,000 years and more count as the end of time.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Reads both clocks. Shells are given one; pure code is given what it read.
pub trait Clock: Send + Sync {
    /// The wall clock: for records, tokens and people.
    fn now(&self) -> Timestamp;
    /// The monotonic clock: for rates, deadlines and latencies.
    fn uptime(&self) -> Uptime;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Origin,
}

/// When the process started, by the clock that is read.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// Since the machine started; this one goes on while the machine is suspended.
    Boot(Duration),
    /// Where there is no such clock: a suspended node may then spend a lease that is over.
    Process(Instant),
}

impl SystemClock {
    /// Starts the monotonic count at one second, so that "before the start" can be expressed.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
    pub fn start() -> Self {
        let origin = since_boot().map_or_else(|| Origin::Process(Instant::now()), Origin::Boot);
        Self { origin }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(micros(since))
    }

    fn uptime(&self) -> Uptime {
        let since = match self.origin {
            // A clock that was there and is not any more: whatever was to end has ended.
            Origin::Boot(origin) => since_boot().unwrap_or(Duration::MAX).saturating_sub(origin),
            Origin::Process(origin) => origin.elapsed(),
        };
        Uptime(micros(since).saturating_add(ORIGIN_MICROS))
    }
}

/// Time since the machine started, with the time that it was suspended (clock_gettime(2),
/// `CLOCK_BOOTTIME`). Read without a system call, as the other clock is.
#[cfg(target_os = "linux")]
fn since_boot() -> Option<Duration> {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(Duration::from)
}

#[cfg(not(target_os = "linux"))]
const fn since_boot() -> Option<Duration> {
    None
}

/// The monotonic count at the start of the process.
const ORIGIN_MICROS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::{Clock as _, Duration, SystemClock};

    #[test]
    fn the_count_of_a_process_begins_at_one_second_and_goes_on() {
        let clock = SystemClock::start();
        let first = clock.uptime();
        std::thread::park_timeout(Duration::from_millis(2));
        let second = clock.uptime();
        assert!(first.as_micros() >= 1_000_000 && first < second, "{first:?} {second:?}");
        assert!(second.as_micros() < 3_600_000_000, "{second:?} is counted from the start");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_time_that_a_machine_was_suspended_counts() {
        // The kernel's own account of it, in hundredths of a second (proc_uptime(5)).
        let account = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            Duration::from_secs_f64(text.split(' ').next().unwrap().parse().unwrap())
        };
        let (before, counted, after) = (account(), super::since_boot().unwrap(), account());
        let grain = Duration::from_millis(20);
        assert!(before <= counted + grain && counted <= after + grain, "{before:?} {counted:?}");
    }
}
