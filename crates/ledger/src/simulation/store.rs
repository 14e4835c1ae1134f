//! The store as a model: what `bucket.lua`, `take.lua` and `lease.lua` do, in virtual time. A
//! test holds it equal to them.

use crate::fleet::coarse::Coarse;
use crate::fleet::lease::wire::{Ask, How, Reply};

/// A defect that the checkers must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// What nodes hold refills as well.
    NoClamp,
    /// The clamp counts what is held after a report, not before.
    ClampAfter,
    /// What is given back is credited though it is not out any more.
    BackWithoutOut,
    /// What a lease held at its end goes back into the bucket.
    ExpiryCredits,
    /// A part of a token counts as a whole one.
    RoundsUp,
    /// An ask that comes again is granted again.
    NoReplayCheck,
    /// What a node holds of a lease that is over is counted as if it lived.
    NoFresh,
}

/// A lease of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) node: u64,
    pub(crate) deadline: u64,
    seq: u64,
    pub(crate) held: u64,
    demand: u64,
    granted: u32,
    fresh: bool,
}

/// A bucket of the store.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    rule: Coarse,
    used: u64,
    at: u64,
    pub(crate) leases: Vec<Lease>,
    flaw: Option<Flaw>,
}

impl Bucket {
    pub(crate) const fn full(rule: Coarse, flaw: Option<Flaw>) -> Self {
        Self { rule, used: 0, at: 0, leases: Vec::new(), flaw }
    }

    fn drained(&self, used: u64, (from, to): (u64, u64), tokens: u64) -> u64 {
        let [refill, unit, _, tick] = self.rule.parts();
        let ticks = (to / tick).saturating_sub(from.div_ceil(tick));
        let used = used.saturating_sub(refill.saturating_mul(ticks));
        if self.flaw == Some(Flaw::NoClamp) { used } else { used.max(tokens * unit) }
    }

    /// Tokens held of leases that are not over.
    pub(crate) fn out(&self, now: u64) -> u64 {
        self.leases.iter().filter(|lease| lease.deadline > now).map(|lease| lease.held).sum()
    }

    /// Units used now. Leases whose end has come go.
    pub(crate) fn settle(&mut self, now: u64) -> u64 {
        let tick = self.rule.parts()[3];
        let unit = self.rule.parts()[1];
        let (mut over, live): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.leases).into_iter().partition(|lease| lease.deadline <= now);
        over.sort_by_key(|lease| lease.deadline);
        self.leases = live;
        let mut tokens = self.out(now) + over.iter().map(|lease| lease.held).sum::<u64>();
        let (mut used, mut from) = (self.used, self.at);
        for lease in over {
            if lease.deadline > from {
                used = self.drained(used, (from, lease.deadline), tokens);
                from = lease.deadline;
            }
            tokens -= lease.held;
            if self.flaw == Some(Flaw::ExpiryCredits) {
                used = used.saturating_sub(lease.held * unit);
            }
        }
        self.used = self.drained(used, (from, now), tokens);
        self.at = self.at.max(now - now % tick);
        self.used
    }

    /// Whether so many tokens are there.
    pub(crate) fn has(&mut self, now: u64, tokens: u64) -> bool {
        let [_, unit, capacity, _] = self.rule.parts();
        self.settle(now) + tokens * unit <= capacity
    }

    pub(crate) fn take(&mut self, tokens: u64) {
        self.used += tokens * self.rule.parts()[1];
    }

    fn own(&self, node: u64) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.node == node)
    }

    /// Whether it has nothing for a node that holds nothing of it.
    pub(crate) fn is_dry(&mut self, now: u64, node: u64, ask: &Ask) -> bool {
        let has_one = self.has(now, 1);
        let holds = self.own(node).is_some_and(|lease| lease.held > 0) && ask.keep > 0;
        ask.want > 0 && !holds && !has_one
    }

    pub(crate) fn renew(&mut self, now: u64, node: u64, ask: &Ask, is_dry: bool) -> Reply {
        let unchanged = self.clone();
        let unclamped = {
            let mut other = self.clone();
            other.flaw = Some(Flaw::NoClamp);
            other.settle(now)
        };
        let is_known = self.own(node).is_some_and(|lease| lease.deadline > now);
        let before = self.leases.iter().find(|lease| lease.node == node).cloned();
        let mut used = self.settle(now);
        let known = before.filter(|_| is_known || self.flaw == Some(Flaw::NoFresh));
        if let Some(lease) = &known
            && ask.seq <= lease.seq
            && self.flaw != Some(Flaw::NoReplayCheck)
        {
            let how = if ask.seq == lease.seq { How::Granted } else { How::Stale };
            let reply = self.reply(how, Some(lease));
            *self = unchanged;
            return reply;
        }
        let [_, unit, _, _] = self.rule.parts();
        let (mut keep, mut fresh) = (0, true);
        if let Some(lease) = known.filter(|lease| lease.held > 0) {
            keep = u64::from(ask.keep).min(lease.held);
            let back = u64::from(ask.back).min(lease.held - keep);
            fresh = false;
            let others = self.out(now) - self.own(node).map_or(0, |lease| lease.held);
            if self.flaw == Some(Flaw::ClampAfter) {
                used = unclamped.max((others + keep) * unit);
            }
            used = used.saturating_sub(back * unit);
        } else if self.flaw == Some(Flaw::BackWithoutOut) {
            used = used.saturating_sub(u64::from(ask.back) * unit);
        }
        self.leases.retain(|lease| lease.node != node);
        let mut lease = Lease {
            node,
            deadline: now + u64::from(ask.length).min(LONGEST),
            seq: ask.seq,
            held: keep,
            demand: u64::from(ask.demand),
            granted: 0,
            fresh,
        };
        if !is_dry {
            let given = self.given(&lease, used, ask.want);
            lease.granted = u32::try_from(given).unwrap_or(u32::MAX);
        }
        lease.held += u64::from(lease.granted);
        self.used = used + u64::from(lease.granted) * unit;
        self.leases.push(lease.clone());
        self.reply(How::Granted, Some(&lease))
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the script computes a share in doubles; it is bounded by what is there"
    )]
    fn given(&self, lease: &Lease, used: u64, want: u32) -> u64 {
        let [_, unit, capacity, _] = self.rule.parts();
        let spare = capacity.saturating_sub(used);
        let rounds_up = self.flaw == Some(Flaw::RoundsUp);
        let can = if rounds_up { spare.div_ceil(unit) } else { spare / unit };
        let want = u64::from(want);
        let others = self.leases.iter().filter(|other| other.held > 0);
        let others: u64 = others.map(|other| other.demand).sum();
        if used < capacity && others > 0 && can < want + capacity / unit / 4 {
            let share = can as f64 * lease.demand as f64 / (lease.demand + others) as f64;
            return want.min(can).min((share as u64).max(1));
        }
        want.min(can)
    }

    fn reply(&self, how: How, own: Option<&Lease>) -> Reply {
        let counted = |lease: &&Lease| lease.held > 0 || own.is_some_and(|o| o.node == lease.node);
        let demand = self.leases.iter().filter(counted).map(|lease| lease.demand).sum();
        Reply {
            how,
            fresh: own.is_none_or(|lease| lease.fresh),
            granted: own.map_or(0, |lease| lease.granted),
            used: self.used,
            nodes: u16::try_from(self.leases.iter().filter(counted).count()).unwrap_or(u16::MAX),
            demand,
        }
    }
}

/// Longest lease, in microseconds.
const LONGEST: u64 = 2_000_000;
