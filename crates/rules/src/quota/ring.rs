//! Calls counted by slots: the hard bound, whatever alignment the upstream's window has.

use std::collections::BTreeMap;

use super::rule::Rule;

/// Calls of the current slot and of the full slots before it that a window could still hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Calls by the number of their slot; at most [`Rule::span`] + 1 of them.
    slots: BTreeMap<u64, u64>,
    used: u64,
    /// Calls that counted once and do no more.
    pub(super) forgotten: u64,
}

impl Ring {
    /// Calls that count now.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// Forgets the slots that no window of now can hold.
    pub fn turn(&mut self, rule: &Rule, now: u64) {
        let oldest = (now / rule.slot).saturating_sub(rule.span);
        while let Some(first) = self.slots.first_entry().filter(|first| *first.key() < oldest) {
            let calls = first.remove();
            self.used -= calls;
            self.forgotten += calls;
        }
    }

    /// Counts calls at a moment.
    pub fn count(&mut self, rule: &Rule, at: u64, calls: u64) {
        *self.slots.entry(at / rule.slot).or_default() += calls;
        self.used += calls;
    }

    /// Puts all that counts into the current slot: its slots were of another length.
    pub fn gather(&mut self, rule: &Rule, now: u64) {
        let used = std::mem::take(&mut self.used);
        self.slots.clear();
        if used > 0 {
            self.count(rule, now, used);
        }
    }

    /// How long until so many calls more are within `limit`, which is not below them.
    #[must_use]
    pub fn wait(&self, rule: &Rule, now: u64, calls: u64, limit: u64) -> u64 {
        let (mut used, mut wait) = (self.used, 0);
        for (slot, counted) in &self.slots {
            if used + calls <= limit {
                break;
            }
            used -= counted;
            wait = ((slot + rule.span + 1) * rule.slot).saturating_sub(now);
        }
        wait
    }

    /// Calls by how long ago the beginning of their slot is, in milliseconds.
    #[must_use]
    pub fn ages(&self, rule: &Rule, now: u64) -> Vec<(u64, u64)> {
        let age = |slot: &u64| now.saturating_sub(slot * rule.slot);
        self.slots.iter().map(|(slot, calls)| (age(slot), *calls)).collect()
    }
}
