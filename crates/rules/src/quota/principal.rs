//! What is known of one credential at its upstream, and who goes next.
//!
//! A state machine without a clock: a node brings its news, [`Principal::step`] answers. The
//! fleet's store runs the same steps as a script; both answer alike.

use std::collections::BTreeMap;

use super::pace::Pace;
use super::queue::{Join, LANES, Queue, Ticket};
use super::ring::Ring;
use super::rule::Rule;

/// What a node brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// What became of earlier grants.
    pub reports: Vec<Report>,
    /// Calls that wait no longer.
    pub drops: Vec<u64>,
    pub joins: Vec<Join>,
}

/// What became of a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The grant's number.
    pub number: u64,
    pub probe: Probe,
    /// What the upstream's answer said; nothing where there was none.
    pub said: Said,
}

/// What a report says of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probe {
    /// Nothing: the call was none that finds out.
    #[default]
    None,
    /// The call that finds out was answered.
    Answered,
    /// The call that finds out had no answer: another has to.
    Lost,
}

/// What the upstream says of its quota. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Calls that are left, and for how long that holds.
    pub left: Option<(u64, u64)>,
    /// Calls it has counted in a window like ours, by whomever.
    pub used: Option<u64>,
    /// It refused (429), for so long; zero where it does not say.
    pub blocked: Option<u64>,
}

/// What a step answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The node was away for so long that its calls were taken out: they have to join again.
    pub forgotten: bool,
    /// Calls that would wait for too long, and how long.
    pub refused: Vec<(u64, u64)>,
    /// Calls whose turn it is; each has a number.
    pub granted: Vec<Grant>,
    /// When a call that waits may have its turn; [`NEVER`] when none waits.
    pub next: u64,
    /// For how long the upstream is left alone.
    pub blocked: u64,
    /// Calls that count now.
    pub used: u64,
    /// Calls of others that use the same credential, as far as they are known.
    pub headroom: u64,
    /// Calls that wait.
    pub waiting: u64,
}

/// A call's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub seq: u64,
    pub number: u64,
    /// It finds out whether the upstream takes calls again.
    pub is_probe: bool,
}

/// The state of one credential. Its size is bounded by [`Rule::span`] and
/// [`super::queue::WAITING_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    rule: Option<Rule>,
    ring: Ring,
    pace: Pace,
    queue: Queue,
    /// When each node was last heard of.
    nodes: BTreeMap<u64, u64>,
    /// Grants so far.
    granted: u64,
    /// Until then the upstream is left alone; then one call finds out. Zero: it takes calls.
    blocked_until: u64,
    probe_until: u64,
    /// What the upstream says is left, and until when that holds.
    left: Option<(u64, u64)>,
    /// Thousandths of calls that others make in a window, smoothed.
    headroom: u64,
}

impl Principal {
    /// One whose calls before `since` are not known: as if a whole quota had gone then.
    #[must_use]
    pub fn lost(rule: &Rule, since: u64) -> Self {
        let mut lost = Self::default();
        lost.ring.count(rule, since, rule.quota);
        lost
    }

    /// One that made these calls, each by its age at `now`.
    #[must_use]
    pub fn known(rule: &Rule, now: u64, ages: &[(u64, u64)], blocked: u64) -> Self {
        let mut known = Self::default();
        for (age, calls) in ages {
            known.ring.count(rule, now.saturating_sub(*age), *calls);
        }
        known.blocked_until = if blocked > 0 { now + blocked } else { 0 };
        known
    }

    /// Its calls by their ages, and for how long it is blocked.
    #[must_use]
    pub fn history(&self, now: u64) -> (Vec<(u64, u64)>, u64) {
        let ages = self.rule.map(|rule| self.ring.ages(&rule, now));
        (ages.unwrap_or_default(), self.blocked_until.saturating_sub(now))
    }

    /// Whether nothing needs to be known of it.
    #[must_use]
    pub fn is_idle(&self, now: u64) -> bool {
        let is_past = |rule: Rule| {
            let mut ring = self.ring.clone();
            ring.turn(&rule, now);
            ring.used() == 0
        };
        self.queue.len() == 0 && now >= self.blocked_until && self.rule.is_none_or(is_past)
    }

    /// Takes a node's news, and gives it the turns that are its calls'.
    pub fn step(&mut self, rule: &Rule, now: u64, node: u64, news: &News) -> Step {
        let mut step = Step { forgotten: self.meet(now, node), ..Step::default() };
        self.turn(rule, now);
        for report in &news.reports {
            self.hear(rule, now, *report);
        }
        for seq in &news.drops {
            self.queue.drop(node, *seq);
        }
        for join in &news.joins {
            step.refused.extend(self.join(rule, now, node, join).map(|wait| (join.seq, wait)));
        }
        step.next = loop {
            match self.next(rule, now, node) {
                Ok(grant) => step.granted.push(grant),
                Err(wait) => break wait,
            }
            if step.granted.len() >= GRANTS_MAX {
                break 0;
            }
        };
        self.queue.tidy();
        step.blocked = self.blocked_until.saturating_sub(now);
        (step.used, step.headroom) = (self.ring.used(), self.headroom.div_ceil(1_000));
        step.waiting = self.queue.len();
        step
    }

    /// Notes that a node is there; whether it was away for too long.
    fn meet(&mut self, now: u64, node: u64) -> bool {
        let before = self.nodes.insert(node, now);
        self.nodes.retain(|_, seen| now.saturating_sub(*seen) <= GONE);
        before.is_some_and(|before| now.saturating_sub(before) > AWAY)
    }

    fn turn(&mut self, rule: &Rule, now: u64) {
        // What was counted in other units is counted at its worst.
        if self.rule.is_some_and(|before| before.slot != rule.slot) {
            self.ring.gather(rule, now);
        }
        if self.rule.is_some_and(|before| before.window != rule.window) {
            self.pace.empty(rule, now);
        }
        self.rule = Some(*rule);
        self.ring.turn(rule, now);
        self.pace.turn(rule, now);
        self.left = self.left.filter(|(_, until)| now < *until);
    }

    fn hear(&mut self, rule: &Rule, now: u64, report: Report) {
        if let Some(blocked) = report.said.blocked {
            let blocked = if blocked == 0 { rule.block } else { blocked.min(BLOCKED_MAX) };
            self.blocked_until = self.blocked_until.max(now + blocked).max(1);
            self.probe_until = 0;
            return;
        }
        if report.probe == Probe::Lost && self.blocked_until > 0 {
            self.probe_until = 0;
        }
        if report.probe == Probe::Lost || (self.blocked_until > 0 && report.probe == Probe::None) {
            return;
        }
        if self.blocked_until > 0 && now >= self.blocked_until {
            (self.blocked_until, self.probe_until) = (0, 0);
            self.pace.ramp(rule, now);
        }
        if let Some((left, until)) = report.said.left {
            // What was granted since may not be counted there yet.
            let left = left.saturating_sub(self.granted.saturating_sub(report.number));
            // Within a window it only ever tightens.
            self.left = match self.left {
                Some((before, until)) => Some((before.min(left), until)),
                None => (until > 0).then_some((left, now + until.min(rule.window))),
            };
        }
        if let Some(used) = report.said.used {
            let others = used.saturating_sub(self.ring.used()).min(rule.quota);
            self.headroom = (self.headroom * 7 + others * 1_000) / 8;
        }
    }

    /// Calls that may count at once, for those with the reserve or those without.
    fn limit(&self, rule: &Rule, is_high: bool) -> u64 {
        let reserve = if is_high { 0 } else { rule.reserve };
        // One call is always let through: its answer says what others use by now.
        rule.quota.saturating_sub(self.headroom.div_ceil(1_000)).saturating_sub(reserve).max(1)
    }

    /// Lets a call wait, or says for how long it would.
    fn join(&mut self, rule: &Rule, now: u64, node: u64, join: &Join) -> Option<u64> {
        let Some(tag) = self.queue.tag(join) else {
            return Some(self.wait(rule, now, self.queue.len() + 1, join.is_high).max(1));
        };
        let wait = self.wait(rule, now, self.queue.ahead(tag) + 1, join.is_high);
        if wait > join.patience {
            return Some(wait);
        }
        self.queue.enter(node, join, tag);
        None
    }

    /// How long until so many calls have gone, where nothing else happens.
    fn wait(&self, rule: &Rule, now: u64, calls: u64, is_high: bool) -> u64 {
        // More than the ring holds takes whole turns of it, which are slower than the pace.
        let (limit, before) = (self.limit(rule, is_high), calls.max(1) - 1);
        let (turns, rest) = (before / limit, before % limit + 1);
        let ring = self.ring.wait(rule, now, rest, limit);
        let counted = turns * (rule.span + 1) * rule.slot + ring.max(self.pace.wait(rule, rest));
        let left = match self.left {
            Some((left, until)) if left < calls => until - now,
            _ => 0,
        };
        counted.max(left).max(self.blocked_until.saturating_sub(now))
    }

    /// The next turn, if it is one of this node's; otherwise when to look again.
    fn next(&mut self, rule: &Rule, now: u64, node: u64) -> Result<Grant, u64> {
        let nodes = &self.nodes;
        let is_there =
            |node| nodes.get(&node).is_some_and(|seen| now.saturating_sub(*seen) <= AWAY);
        let [high, low] = LANES.map(|lane| self.queue.head(lane, is_there));
        let Some(first) = earlier(high, low) else { return Err(NEVER) };
        let is_probe = self.blocked_until > 0;
        let held = self.blocked_until.max(self.probe_until);
        if held > now {
            return Err(held - now);
        }
        let wait = self.wait(rule, now, 1, true);
        if wait > 0 {
            return Err(wait);
        }
        let limit = self.limit(rule, false);
        let has_room = self.ring.used() < limit;
        let Some(ticket) = (if has_room { Some(first) } else { high }) else {
            return Err(self.ring.wait(rule, now, 1, limit));
        };
        if ticket.node != node {
            return Err(0);
        }
        self.queue.serve(ticket);
        self.ring.count(rule, now, 1);
        self.pace.count(rule);
        self.left = self.left.map(|(left, until)| (left.saturating_sub(1), until));
        self.granted += 1;
        self.probe_until = if is_probe { now + PROBE } else { 0 };
        Ok(Grant { seq: ticket.seq, number: self.granted, is_probe })
    }
}

fn earlier(one: Option<Ticket>, other: Option<Ticket>) -> Option<Ticket> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// No call waits.
pub const NEVER: u64 = u64::MAX;

/// A node that was not heard of for so long does not hold others up.
pub const AWAY: u64 = 1_000;

/// A node is forgotten after this.
const GONE: u64 = 60_000;

/// Turns of one step: more would hold the store up.
const GRANTS_MAX: usize = 256;

/// The one call that finds out whether a block is over may take so long; then another does, since
/// its node may be gone.
const PROBE: u64 = 30_000;

/// No upstream keeps us away for longer than a day.
const BLOCKED_MAX: u64 = 86_400_000;
