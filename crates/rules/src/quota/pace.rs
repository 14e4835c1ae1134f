//! The pace: a backlog goes evenly, so that a rush does not starve everybody for a window.

use super::rule::Rule;

/// A bucket of `burst` calls that refills `quota` every `window`. A call is `window` units, and a
/// millisecond brings `quota` of them back: nothing is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    used: u64,
    at: u64,
    /// Until then it refills at half its rate: an upstream that has just lifted its block is not
    /// asked for everything at once.
    ramp_until: u64,
}

impl Pace {
    /// Refills.
    pub(super) fn turn(&mut self, rule: &Rule, now: u64) {
        let elapsed = now.saturating_sub(self.at).min(rule.window);
        let refill = rule.quota * elapsed;
        let refill = if now <= self.ramp_until { refill / 2 } else { refill };
        self.used = self.used.saturating_sub(refill);
        self.at = self.at.max(now);
    }

    /// Begins anew with nothing saved up.
    pub(super) fn empty(&mut self, rule: &Rule, now: u64) {
        self.used = rule.burst * rule.window;
        self.at = now;
    }

    /// As [`Pace::empty`], and slowly for a tenth of the window.
    pub(super) fn ramp(&mut self, rule: &Rule, now: u64) {
        self.empty(rule, now);
        self.ramp_until = now + ramp(rule);
    }

    /// How long until `calls` may go.
    pub(super) fn wait(&self, rule: &Rule, now: u64, calls: u64) -> u64 {
        let wanted = self.used + calls * rule.window;
        let wanted = wanted.saturating_sub(rule.burst * rule.window);
        refilled(rule, wanted, self.ramp_until.saturating_sub(now))
    }

    /// How long `calls` take once the upstream has lifted its block.
    pub(super) const fn after_block(rule: &Rule, calls: u64) -> u64 {
        refilled(rule, calls * rule.window, ramp(rule))
    }

    pub(super) fn count(&mut self, rule: &Rule) {
        self.used += rule.window;
    }
}

/// How long a refill of so many units takes, which is at half its rate for `slow` milliseconds.
const fn refilled(rule: &Rule, units: u64, slow: u64) -> u64 {
    let by_then = rule.quota * slow / 2;
    if units <= by_then {
        return (2 * units).div_ceil(rule.quota);
    }
    slow + (units - by_then).div_ceil(rule.quota)
}

const fn ramp(rule: &Rule) -> u64 {
    rule.window / 10
}
