//! What is known of one credential at its upstream, and who goes next.
//!
//! A state machine without a clock: a node brings its news, [`Principal::step`] answers. The
//! fleet's store runs the same steps as a script; both answer alike.

use super::Class;
use super::news::{Grant, Leave, NEVER, News, Probe, Report, Step};
use super::nodes::Nodes;
use super::pace::Pace;
use super::queue::{Join, Queue, Ticket, earlier};
use super::ring::Ring;
use super::rule::{Edition, Rule};

/// The state of one credential. Its size is bounded by [`Rule::span`] and
/// [`super::queue::WAITING_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    edition: Option<Edition>,
    /// When a node last brought the edition.
    brought: u64,
    ring: Ring,
    pace: Pace,
    queue: Queue,
    nodes: Nodes,
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

/// What a stop leaves of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The rule by which the calls were counted.
    pub rule: Rule,
    /// Calls, by how long ago they were counted in milliseconds.
    pub calls: Vec<(u64, u64)>,
    /// Calls that were counted before those.
    pub before: u64,
    /// For how long the upstream is left alone, in milliseconds.
    pub blocked: u64,
}

/// What becomes of a call that wants to wait.
enum Joined {
    Waits,
    /// It was given its turn already, and nobody heard of it.
    Granted(Grant),
    /// It would wait for so long.
    Refused(u64),
}

impl Principal {
    /// One whose calls before `since` are not known: as if a whole quota had gone then.
    #[must_use]
    pub fn lost(rule: &Rule, since: u64) -> Self {
        let mut lost = Self::default();
        lost.ring.count(rule, since, rule.quota);
        lost
    }

    /// One that has this past at `now`. Whichever document comes is newer.
    #[must_use]
    pub fn known(past: &Past, now: u64) -> Self {
        let Past { rule, calls, before, blocked } = past;
        let mut known =
            Self { edition: Some(Edition { revision: 0, rule: *rule }), ..Self::default() };
        for (age, calls) in calls {
            known.ring.count(rule, now.saturating_sub(*age), *calls);
        }
        known.ring.forgotten = *before;
        known.blocked_until = if *blocked > 0 { now + blocked } else { 0 };
        known
    }

    /// What is to be known of it after a stop; `None` for one that was never used.
    #[must_use]
    pub fn past(&self, now: u64) -> Option<Past> {
        let rule = self.edition?.rule;
        Some(Past {
            rule,
            calls: self.ring.ages(&rule, now),
            before: self.ring.forgotten,
            blocked: self.blocked_until.saturating_sub(now),
        })
    }

    /// Whether nothing needs to be known of it.
    #[must_use]
    pub fn is_idle(&self, now: u64) -> bool {
        let is_past = |edition: Edition| {
            let mut ring = self.ring.clone();
            ring.turn(&edition.rule, now);
            ring.used() == 0
        };
        self.queue.len() == 0 && now >= self.blocked_until && self.edition.is_none_or(is_past)
    }

    /// Takes a node's news, and gives it the turns that are its calls'.
    pub fn step(&mut self, edition: &Edition, now: u64, node: u64, news: &News) -> Step {
        let met = self.nodes.meet(now, node, news);
        met.silent.iter().for_each(|silent| self.queue.leave_all(*silent));
        let (rule, in_force) = self.agree(edition, now);
        self.turn(&rule, now);
        let mut step = Step { forgotten: met.was_out, in_force, next: NEVER, ..Step::default() };
        if !met.is_late {
            self.take(&rule, now, (node, news), &mut step);
            step.next = self.give(&rule, now, node, &mut step.granted);
        }
        self.queue.tidy();
        step.blocked = self.blocked_until.saturating_sub(now);
        (step.used, step.headroom) = (self.ring.used(), self.headroom.div_ceil(1_000));
        step.waiting = self.queue.len();
        step
    }

    /// The rule to go by, and whether it is another than the node's: the newest of those that
    /// nodes bring. One that nobody has brought for a long time gives way to any.
    fn agree(&mut self, edition: &Edition, now: u64) -> (Rule, Option<Rule>) {
        let Some(held) = self.edition else {
            (self.edition, self.brought) = (Some(*edition), now);
            return (edition.rule, None);
        };
        if held.rule == edition.rule {
            let revision = held.revision.max(edition.revision);
            (self.edition, self.brought) = (Some(Edition { revision, ..held }), now);
            return (held.rule, None);
        }
        if !edition.precedes(&held) && now.saturating_sub(self.brought) <= EDITION_LASTS {
            return (held.rule, Some(held.rule));
        }
        (self.edition, self.brought) = (Some(*edition), now);
        self.change(&held.rule, &edition.rule, now);
        (edition.rule, None)
    }

    /// Goes by another rule from now on. What was counted in other units is counted at its worst.
    fn change(&mut self, before: &Rule, rule: &Rule, now: u64) {
        // Of calls that only the longer window reaches it is known that they kept to the shorter.
        let missing = rule.reach().saturating_sub(before.reach());
        let unknown = before.quota * missing.div_ceil(before.window);
        let unknown = unknown.min(self.ring.forgotten);
        if before.slot != rule.slot {
            self.ring.gather(rule, now);
        }
        if unknown > 0 {
            self.ring.count(rule, now, unknown);
        }
        if before.window != rule.window {
            self.pace.empty(rule, now);
        }
    }

    fn turn(&mut self, rule: &Rule, now: u64) {
        self.ring.turn(rule, now);
        self.pace.turn(rule, now);
        self.left = self.left.filter(|(_, until)| now < *until);
    }

    fn take(&mut self, rule: &Rule, now: u64, (node, news): (u64, &News), step: &mut Step) {
        for report in &news.reports {
            self.hear(rule, now, *report);
        }
        for leave in &news.leaves {
            let wait = self.leave(rule, now, node, leave);
            step.refused.extend(wait.map(|wait| (leave.seq, wait)));
        }
        for join in &news.joins {
            match self.join(rule, now, node, join) {
                Joined::Waits => {}
                Joined::Granted(grant) => step.granted.push(grant),
                Joined::Refused(wait) => step.refused.push((join.seq, wait)),
            }
        }
    }

    fn hear(&mut self, rule: &Rule, now: u64, report: Report) {
        if let Some(blocked) = report.said.blocked {
            let until = now + blocked.millis(rule);
            self.blocked_until = self.blocked_until.max(until).max(1);
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

    /// Takes a call out; for how long it would have had to wait still, if it asks.
    fn leave(&mut self, rule: &Rule, now: u64, node: u64, leave: &Leave) -> Option<u64> {
        let Leave { seq, flow, asks } = leave;
        let ticket = Ticket { node, seq: *seq };
        let tag = self.queue.waits(flow, ticket).filter(|_| *asks);
        let wait = tag.map(|tag| {
            let is_high = flow.class == Class::Interactive;
            self.wait(rule, now, self.queue.ahead(tag), is_high).max(1)
        });
        self.queue.leave(flow, ticket);
        self.nodes.forget(node, *seq);
        wait
    }

    /// Lets a call wait, if its turn can come in its time.
    fn join(&mut self, rule: &Rule, now: u64, node: u64, join: &Join) -> Joined {
        if let Some(grant) = self.nodes.kept(now, node, join.seq) {
            return Joined::Granted(grant);
        }
        if self.queue.waits(&join.flow, Ticket { node, seq: join.seq }).is_some() {
            return Joined::Waits;
        }
        let ahead = self.queue.ahead(self.queue.tag(&join.flow));
        let is_high = join.flow.class == Class::Interactive;
        let wait = self.wait(rule, now, ahead + 1, is_high);
        if wait > join.patience || !self.queue.has_room(join) {
            return Joined::Refused(wait.max(1));
        }
        self.queue.enter(node, join);
        Joined::Waits
    }

    /// How long until so many calls have gone, where nothing else happens.
    fn wait(&self, rule: &Rule, now: u64, calls: u64, is_high: bool) -> u64 {
        // More than the ring holds takes whole turns of it, which are slower than the pace.
        let (limit, before) = (self.limit(rule, is_high), calls.max(1) - 1);
        let (turns, rest) = (before / limit, before % limit + 1);
        let ring = self.ring.wait(rule, now, rest, limit);
        let pace = self.pace.wait(rule, now, rest);
        let counted = turns * (rule.span + 1) * rule.slot + ring.max(pace);
        let left = match self.left {
            Some((left, until)) if left < calls => until - now,
            _ => 0,
        };
        let blocked = self.blocked_until.saturating_sub(now);
        // One call finds out, and the others follow it slowly.
        let after = if self.blocked_until > 0 { Pace::after_block(rule, before) } else { 0 };
        counted.max(left).max(blocked + after)
    }

    /// Gives a node its turns; answers when to look again.
    fn give(&mut self, rule: &Rule, now: u64, node: u64, granted: &mut Vec<Grant>) -> u64 {
        for _ in 0..GRANTS_MAX {
            match self.next(rule, now, node) {
                Ok(grant) => {
                    self.nodes.keep(now, node, grant);
                    granted.push(grant);
                }
                Err(wait) => return wait,
            }
        }
        0
    }

    /// The next turn, if it is one of this node's; otherwise when to look again.
    fn next(&mut self, rule: &Rule, now: u64, node: u64) -> Result<Grant, u64> {
        let [high, low] = self.queue.heads();
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
        let Some(place) = (if has_room { Some(first) } else { high }).cloned() else {
            return Err(self.ring.wait(rule, now, 1, limit));
        };
        let Some(ticket) = self.queue.holder(&place).filter(|ticket| ticket.node == node) else {
            return Err(0);
        };
        self.queue.serve(&place);
        self.ring.count(rule, now, 1);
        self.pace.count(rule);
        self.left = self.left.map(|(left, until)| (left.saturating_sub(1), until));
        self.granted += 1;
        self.probe_until = if is_probe { now + PROBE } else { 0 };
        Ok(Grant { seq: ticket.seq, number: self.granted, is_probe, age: 0 })
    }
}

/// An edition that no node has brought for so long gives way to an older one: a fleet may have
/// been set up anew.
const EDITION_LASTS: u64 = 600_000;

/// Turns of one step: more would hold the store up.
const GRANTS_MAX: usize = 256;

/// The one call that finds out whether a block is over may take so long; then another does, since
/// its node may be gone.
const PROBE: u64 = 30_000;
