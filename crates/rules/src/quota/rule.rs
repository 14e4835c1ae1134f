//! The numbers of a quota: how many calls, in which window, and how they are spread over it.

use std::time::Duration;

/// What the arithmetic of a quota goes by. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Calls in any window, at least 1.
    pub quota: u64,
    pub window: u64,
    /// Calls that may go at once after a pause: the pace is `quota` every `window`, and this much
    /// may be saved up.
    pub burst: u64,
    /// Calls that only [`super::Class::Interactive`] may make.
    pub reserve: u64,
    /// How long the upstream is left alone after a 429 that does not say.
    pub block: u64,
    /// Calls are counted by slots of this length.
    pub slot: u64,
    /// Full slots that are counted beside the current one. Together they are longer than the
    /// window and the way of a call to its upstream, so that no alignment of a window holds more
    /// than the quota.
    pub span: u64,
}

impl Rule {
    /// A rule within its bounds: what is out of them is brought to the nearest one.
    #[must_use]
    pub fn new(quota: u64, window: Duration, burst: u64, reserve: u64, block: Duration) -> Self {
        let quota = quota.clamp(1, QUOTA_MAX);
        let window = millis(window).clamp(WINDOW_MIN, WINDOW_MAX);
        let slot = (window / SLOTS).max(SLOT_MIN);
        Self {
            quota,
            window,
            burst: burst.clamp(1, quota),
            reserve: reserve.min(quota - 1),
            block: millis(block).min(WINDOW_MAX),
            slot,
            span: (window + transit(window)).div_ceil(slot),
        }
    }

    /// Its numbers, in the order of their members.
    #[must_use]
    pub const fn numbers(&self) -> [u64; 7] {
        let Self { quota, window, burst, reserve, block, slot, span } = *self;
        [quota, window, burst, reserve, block, slot, span]
    }

    /// The rule of these numbers; `None` where they are none of a rule.
    #[must_use]
    pub fn from_numbers(numbers: [u64; 7]) -> Option<Self> {
        let [quota, window, burst, reserve, block, slot, span] = numbers;
        let is_sound = [quota, window, slot, span].iter().all(|number| *number > 0);
        is_sound.then_some(Self { quota, window, burst, reserve, block, slot, span })
    }

    /// How far back calls are remembered, in milliseconds.
    #[must_use]
    pub const fn reach(&self) -> u64 {
        self.span * self.slot
    }

    /// How long a call may be on its way to the upstream after it was counted. A sender takes at
    /// most half of it.
    #[must_use]
    pub const fn transit(&self) -> Duration {
        Duration::from_millis(transit(self.window))
    }
}

/// A rule, and the revision of the document that it was read from: while nodes serve two documents,
/// all go by the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edition {
    pub revision: u64,
    pub rule: Rule,
}

impl Edition {
    /// Whether it takes the place of another: it is newer, or of two of one document the stricter.
    #[must_use]
    pub const fn precedes(&self, other: &Self) -> bool {
        let [ours, theirs] = [self.rule, other.rule];
        self.revision > other.revision
            || (self.revision == other.revision
                && ours.quota * theirs.window < theirs.quota * ours.window)
    }
}

const fn transit(window: u64) -> u64 {
    let part = window / SLOTS;
    if part < TRANSIT_MIN {
        TRANSIT_MIN
    } else if part > TRANSIT_MAX {
        TRANSIT_MAX
    } else {
        part
    }
}

/// Whole milliseconds, rounded up.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// Calls in a window: products with a window stay below 2^53, which every store keeps exactly.
pub const QUOTA_MAX: u64 = 10_000_000;

/// A second.
pub const WINDOW_MIN: u64 = 1_000;

/// A day.
pub const WINDOW_MAX: u64 = 86_400_000;

/// Slots of a window: a second each for five minutes.
const SLOTS: u64 = 300;

const SLOT_MIN: u64 = 10;
const TRANSIT_MIN: u64 = 250;
const TRANSIT_MAX: u64 = 1_000;
