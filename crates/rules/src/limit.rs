//! Limits: whom they bind, and how a bucket fills.

use std::time::Duration;

use model::{Bucket, LimitId, Tokens, Uptime};

use crate::selector::{SelectorIndex, Selects};

pub use crate::selector::Selector;

/// A limit of the document (kind `limits`).
#[derive(Clone, Debug)]
pub struct Limit {
    pub id: LimitId,
    pub per: Per,
    pub selector: Selector,
    pub bucket: Bucket,
    /// How a fleet counts it.
    pub mode: Mode,
    /// What happens when the ledger cannot answer.
    pub on_outage: OnOutage,
    /// Count and report, but let pass.
    pub shadow: bool,
}

/// Each of these has a bucket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    Organisation,
    Team,
    Agent,
    Run,
    Route,
    /// The operation, where the upstream's calls have names; those without one count together.
    Operation,
    /// The upstream, and with it the real credential that it is asked with.
    Upstream,
    /// The client's address; an IPv6 address counts by its /64.
    Address,
}

impl Per {
    /// The name in documents and stores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Team => "team",
            Self::Agent => "agent",
            Self::Run => "run",
            Self::Route => "route",
            Self::Operation => "operation",
            Self::Upstream => "upstream",
            Self::Address => "address",
        }
    }

    /// What has this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(named, _)| *named == name).map(|(_, per)| *per)
    }

    /// Each, with its name.
    pub const NAMED: &'static [(&'static str, Self)] = &[
        Self::Organisation.named(),
        Self::Team.named(),
        Self::Agent.named(),
        Self::Run.named(),
        Self::Route.named(),
        Self::Operation.named(),
        Self::Upstream.named(),
        Self::Address.named(),
    ];

    /// With its name, as a choice of a document.
    #[must_use]
    pub const fn named(self) -> (&'static str, Self) {
        (self.as_str(), self)
    }
}

/// What a limit does when the ledger cannot answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOutage {
    #[default]
    Refuse,
    /// Each node goes on with its share of the rate (see `outage`). Only the fleet together can
    /// decide that; as long as it has not, the limit refuses.
    Share,
    Allow,
}

/// How the nodes of a fleet draw on one bucket. A node alone counts exactly in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Each request asks the store.
    Exact,
    /// Each node takes tokens ahead and decides by itself.
    Leased,
    /// Leased where the bucket holds enough for all nodes that draw on it, else exact.
    #[default]
    Auto,
}

impl Selects for Limit {
    fn selector(&self) -> &Selector {
        &self.selector
    }
}

/// The limits of a document, findable.
pub type LimitIndex = SelectorIndex<Limit>;

/// How far a bucket is drawn, in units of its rate, at a moment. Exact: nothing is rounded, so
/// that for every window `w` the tokens taken are at most `burst + rate · w`
/// (the generic cell rate algorithm of ITU-T I.371 as a continuous leaky bucket).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Units taken and not yet refilled.
    used: u64,
    /// Units of one token when `used` was counted.
    unit: u64,
    at: Uptime,
}

/// What a bucket gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How long the request waits until the bucket would have been empty of others: the turn of
    /// a request in a queue that drains at the bucket's rate. The end of time if it never does.
    pub turn: Duration,
    /// Whole tokens left.
    pub left: Tokens,
    /// Until one more token than `left` is there; zero when the bucket is full.
    pub more: Duration,
}

/// Why a bucket gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// The tokens will be there after this.
    For(Duration),
    /// They will never be there: the bucket is too small, or never refills.
    Never,
}

impl Level {
    /// A bucket nobody has drawn on.
    #[must_use]
    pub const fn full(at: Uptime) -> Self {
        Self { used: 0, unit: 1, at }
    }

    /// A bucket with nothing left: what is safe to assume when its history is lost.
    #[must_use]
    pub const fn empty(bucket: Bucket, at: Uptime) -> Self {
        Self { used: bucket.capacity(), unit: bucket.unit(), at }
    }

    /// A level read back from storage: `used` in units of `1 / unit` token.
    #[must_use]
    pub const fn restored(used: u64, unit: u64, at: Uptime) -> Self {
        Self { used, unit: if unit == 0 { 1 } else { unit }, at }
    }

    /// Units used, units of a token, and when: for storage.
    #[must_use]
    pub const fn parts(self) -> (u64, u64, Uptime) {
        (self.used, self.unit, self.at)
    }

    /// The level at `now`: refilled since, and counted in this bucket's units. A clock that goes
    /// back refills nothing.
    #[must_use]
    pub fn at(self, bucket: Bucket, now: Uptime) -> Self {
        let used = self.rescaled(bucket);
        let elapsed = now.as_micros().saturating_sub(self.at.as_micros());
        let refilled = bucket.refill().saturating_mul(elapsed);
        Self { used: used.saturating_sub(refilled), unit: bucket.unit(), at: now.max(self.at) }
    }

    /// Whether the bucket is full again, so that its history may be forgotten.
    #[must_use]
    pub fn is_full(self, bucket: Bucket, now: Uptime) -> bool {
        self.at(bucket, now).used == 0
    }

    /// Takes `cost` tokens at `now`, or nothing.
    ///
    /// # Errors
    /// How long the bucket is short of them.
    pub fn take(self, bucket: Bucket, cost: Tokens, now: Uptime) -> Result<(Self, Taken), Short> {
        let level = self.at(bucket, now);
        let price = cost.0.checked_mul(bucket.unit()).ok_or(Short::Never)?;
        if price > bucket.capacity() {
            return Err(Short::Never);
        }
        let used = level.used.saturating_add(price);
        if used > bucket.capacity() {
            return Err(bucket
                .refill_time(used - bucket.capacity())
                .map_or(Short::Never, Short::For));
        }
        let turn = bucket.refill_time(level.used).unwrap_or(Duration::MAX);
        Ok((Self { used, ..level }, Self { used, ..level }.report(bucket, turn)))
    }

    fn report(self, bucket: Bucket, turn: Duration) -> Taken {
        let credit = bucket.capacity().saturating_sub(self.used);
        let left = credit / bucket.unit();
        let next = ((left + 1).saturating_mul(bucket.unit())).min(bucket.capacity());
        let more = bucket.refill_time(next.saturating_sub(credit)).unwrap_or(Duration::MAX);
        Taken { turn, left: Tokens(left), more }
    }

    /// `used` in the units of a bucket whose rate has changed since, rounded up: a change of a
    /// limit never gives a token away.
    fn rescaled(self, bucket: Bucket) -> u64 {
        if self.unit == bucket.unit() {
            return self.used;
        }
        let exact = u128::from(self.used) * u128::from(bucket.unit());
        u64::try_from(exact.div_ceil(u128::from(self.unit))).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
