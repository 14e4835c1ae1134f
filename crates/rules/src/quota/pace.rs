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
        self.ramp_until = now + rule.window / 10;
    }

    /// How long until `calls` may go.
    pub(super) fn wait(&self, rule: &Rule, calls: u64) -> u64 {
        let wanted = self.used + calls * rule.window;
        wanted.saturating_sub(rule.burst * rule.window).div_ceil(rule.quota)
    }

    pub(super) fn count(&mut self, rule: &Rule) {
        self.used += rule.window;
    }
}
