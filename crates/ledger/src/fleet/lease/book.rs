//! What a node knows of one lease, and the arithmetic of how much to hold.
//!
//! A node holds what it will need for one period, which is a quarter to a half of the time an
//! empty bucket takes to fill: what all nodes hold together then stays below half a bucket, so
//! that the clamp seldom stops the refill.

use model::Bucket;

use super::holding::Step;
use super::wire::{Ask, Reply};

/// The measures of a bucket's leases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// For so many microseconds a node takes tokens ahead.
    period: u32,
    /// Microseconds of a lease.
    length: u32,
    /// Tokens of the whole bucket.
    burst: u32,
    /// Microseconds in which one token comes back.
    per_token: f32,
}

impl Span {
    #[expect(clippy::cast_precision_loss, reason = "these are estimates")]
    pub(crate) fn of(bucket: Bucket) -> Self {
        let full = bucket.time_to_full().map_or(u128::MAX, |full| full.as_micros());
        let full = u64::try_from(full).unwrap_or(u64::MAX);
        let period = PERIOD.clamp(full / 4, (full / 2).max(1)).min(PERIOD_MAX);
        let length = (4 * period).clamp(LENGTH_MIN, LENGTH_MAX);
        Self {
            period: saturated(period),
            length: saturated(length),
            burst: saturated(bucket.burst().0),
            per_token: bucket.unit() as f32 / bucket.refill().max(1) as f32,
        }
    }
}

/// An ask that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    ask: Ask,
    /// When it was sent first: the lease it brings is counted from there.
    began: u64,
    sent: u64,
}

impl Flight {
    /// When its lease ends by the node's clock: before the store thinks so, whatever the trip
    /// took and however the two clocks run, as long as they differ by less than one in 128.
    pub(crate) fn until(&self) -> u64 {
        let length = u64::from(self.ask.length);
        self.began + (length - length / 128).saturating_sub(MARGIN)
    }
}

/// How much a node wants to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim {
    /// What it holds above goes back.
    pub(crate) most: u32,
    want: u32,
}

/// The book of one lease. Times are microseconds of the node's monotonic clock.
#[derive(Debug)]
pub(crate) struct Book {
    span: Span,
    /// Apart, since mostly there is none.
    flight: Option<Box<Flight>>,
    /// Tokens a second, as far as known; and what all nodes want.
    demand: f32,
    total: f32,
    looked: u64,
    /// Tokens held at the last look, and those that were wanted since and not counted yet.
    seen: u32,
    pending: u32,
    /// When somebody last drew on it.
    active: u64,
    /// Before that it makes no sense to ask for more.
    not_before: u64,
    /// Left of a lease that ended: it was not spent.
    lapsed: u32,
    always: bool,
    is_retired: bool,
}

impl Book {
    pub(crate) const fn new(span: Span, always: bool, now: u64) -> Self {
        Self {
            span,
            flight: None,
            demand: 0.0,
            total: 0.0,
            looked: now,
            seen: 0,
            pending: 0,
            active: now,
            not_before: 0,
            lapsed: 0,
            always,
            is_retired: false,
        }
    }

    /// What to do while an ask is under way: send it again, or wait. One whose lease would be
    /// over is given up.
    pub(crate) fn waits(&mut self, now: u64, trip: u64) -> Option<Step> {
        let flight = self.flight.as_mut()?;
        if now >= flight.until() {
            self.flight = None;
            return None;
        }
        let ask = (now >= flight.sent + patience(trip)).then_some(flight.ask);
        if ask.is_some() {
            flight.sent = now;
        }
        Some(Step { ask, again: self.resend_at(trip), ..Step::default() })
    }

    pub(crate) fn resend_at(&self, trip: u64) -> u64 {
        self.flight.as_ref().map_or(0, |flight| (flight.sent + patience(trip)).min(flight.until()))
    }

    /// Learns what was wanted since the last look: the tokens that were spent.
    #[expect(clippy::cast_precision_loss, reason = "these are estimates")]
    pub(crate) fn look(&mut self, now: u64, tokens: u32, missed: u32) -> u32 {
        let spent = self.seen.saturating_sub(tokens);
        let wanted = spent.saturating_add(missed);
        (self.seen, self.pending) = (tokens, self.pending.saturating_add(wanted));
        if wanted > 0 {
            self.active = now;
        }
        let elapsed = now.saturating_sub(self.looked);
        if elapsed < LOOK_MIN {
            return spent;
        }
        let seconds = elapsed as f32 / 1e6;
        let rate = self.pending as f32 / seconds;
        let tau = if rate > self.demand { RISE } else { FALL };
        self.demand += (rate - self.demand) * (1.0 - (-seconds / tau).exp());
        (self.looked, self.pending) = (now, 0);
        spent
    }

    pub(crate) const fn lapse(&mut self, tokens: u32) {
        self.lapsed = self.lapsed.saturating_add(tokens);
        self.seen = 0;
    }

    /// What to hold for one period.
    #[expect(clippy::cast_precision_loss, reason = "these are estimates")]
    fn target(&self) -> u32 {
        let wanted = self.demand * self.span.period as f32 / 1e6;
        let share = self.demand / self.total.max(self.demand).max(1e-3);
        ceiled(wanted.min(self.span.burst as f32 / 2.0 * share))
    }

    /// Below so many tokens more is asked for: enough for the way to the store and back.
    #[expect(clippy::cast_precision_loss, reason = "these are estimates")]
    pub(crate) fn low(&self, trip: u64) -> u32 {
        let way = self.demand * (trip as f32 * 1.2 + 1_000.0) / 1e6;
        (self.target() / 5).max(ceiled(way))
    }

    fn is_idle(&self, now: u64) -> bool {
        now.saturating_sub(self.active) >= u64::from(self.span.period) / 2
    }

    /// What to ask for now; `None`: nothing.
    pub(crate) fn decide(&mut self, now: u64, trip: u64, held: (u32, u64)) -> Option<Aim> {
        let (tokens, until) = held;
        if self.is_exact() && now >= self.not_before {
            // Fewer nodes may draw on it by now: the next answer says.
            self.total = 0.0;
        }
        let target = self.target();
        if self.is_idle(now) || (self.is_exact() && now < self.not_before) {
            return (tokens > 0).then_some(Aim { most: 0, want: 0 });
        }
        if now < self.not_before || target < CHUNK_MIN {
            return None;
        }
        if tokens > target.saturating_mul(2) {
            return Some(Aim { most: target, want: 0 });
        }
        let ends_soon = now + u64::from(self.span.length) / 4 >= until;
        let want = target.saturating_sub(tokens).max(u32::from(ends_soon));
        let is_low = tokens <= self.low(trip);
        ((is_low && want > 0) || ends_soon).then_some(Aim { most: u32::MAX, want })
    }

    pub(crate) fn send(&mut self, now: u64, seq: u64, aim: Aim, counted: (u32, u32)) -> Ask {
        let (keep, back) = counted;
        let back = back.saturating_add(std::mem::take(&mut self.lapsed));
        let (demand, length) = (ceiled(self.demand), self.span.length);
        let ask = Ask { seq, keep, back, want: aim.want, demand, length };
        self.seen = keep;
        self.flight = Some(Box::new(Flight { ask, began: now, sent: now }));
        ask
    }

    /// The ask of this number, if it is the one that is waited for.
    pub(crate) fn land(&mut self, seq: u64) -> Option<Flight> {
        self.flight.take_if(|flight| flight.ask.seq == seq).map(|flight| *flight)
    }

    /// Learns from an answer: until when there is nothing for this node.
    #[expect(clippy::cast_precision_loss, reason = "these are estimates")]
    pub(crate) fn learn(
        &mut self,
        (now, trip): (u64, u64),
        flight: &Flight,
        (reply, left): (&Reply, u64),
        tokens: u32,
    ) -> u64 {
        self.seen = if reply.fresh { tokens } else { self.seen.saturating_add(reply.granted) };
        self.total = reply.demand as f32;
        if !self.always && u64::from(self.span.burst) < NODE_TOKENS * u64::from(reply.nodes) {
            // Too little for so many nodes: this one goes to the store for each request.
            self.total = f32::INFINITY;
            self.not_before = now + EXACT_FOR;
            return 0;
        }
        let short = flight.ask.want.saturating_sub(reply.granted);
        self.not_before = 0;
        if short == 0 {
            return 0;
        }
        if left > 0 && reply.granted == 0 {
            // Another level of the request has nothing.
            self.not_before = now + SCARCE_MIN;
            return 0;
        }
        let share = self.demand / self.total.max(self.demand).max(1e-3);
        let wait = u64::from(ceiled(short as f32 * self.span.per_token / share.max(1e-3)));
        // No longer than a period: what comes back meanwhile has to find room.
        let longest = SCARCE_MAX.min(self.span.period.into());
        self.not_before = now + wait.min(longest).max(SCARCE_MIN).max(2 * trip);
        // And until the answer to the next ask may be there.
        self.not_before + 2 * trip
    }

    const fn is_exact(&self) -> bool {
        self.total.is_infinite()
    }

    /// When to look again, while nothing is under way.
    pub(crate) fn next_look(&self, now: u64, tokens: u32, until: u64) -> u64 {
        let mut next = now + LOOK_MAX;
        if self.not_before > now {
            next = next.min(self.not_before);
        }
        if tokens > 0 {
            let idle = self.active + u64::from(self.span.period) / 2;
            let ends = until.saturating_sub(u64::from(self.span.length) / 4);
            next = next.min(idle).min(ends);
        }
        if self.demand <= 0.0 {
            next = now + FIRST_LOOK;
        }
        next.max(now + LOOK_MIN)
    }

    pub(crate) fn rest(&self, now: u64, tokens: u32, until: u64) -> Step {
        let is_over = tokens == 0 && now.saturating_sub(self.active) >= FORGET_AFTER;
        Step { again: self.next_look(now, tokens, until), is_over, ..Step::default() }
    }

    /// Forgets what is under way: whether anything was.
    pub(crate) fn retire(&mut self) -> bool {
        self.is_retired = true;
        self.give_up()
    }

    /// Whether it asks for nothing any more.
    pub(crate) const fn is_retired(&self) -> bool {
        self.is_retired
    }

    /// Gives up what is under way; answers whether there was something.
    pub(crate) fn give_up(&mut self) -> bool {
        (self.seen, self.lapsed) = (0, 0);
        self.flight.take().is_some()
    }
}

/// After so many microseconds without an answer an ask is sent again.
fn patience(trip: u64) -> u64 {
    (3 * trip).max(RESEND_MIN)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a conversion of floats stops at the bounds of the integer"
)]
fn ceiled(number: f32) -> u32 {
    number.ceil() as u32
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Microseconds for which tokens are taken ahead, where the bucket allows it, and at most.
const PERIOD: u64 = 250_000;
const PERIOD_MAX: u64 = 500_000;

/// Microseconds of a lease: a crashed node's tokens are stranded for so long. The store allows no
/// longer ones (`lease.lua`), and waits as long after a loss (`attach.lua`).
const LENGTH_MIN: u64 = 200_000;
const LENGTH_MAX: u64 = 2_000_000;

/// Taken off the end of a lease, for what a thread does between its look at the clock and the
/// admission.
const MARGIN: u64 = 2_000;

/// Seconds in which the estimate of the demand follows upwards and downwards.
const RISE: f32 = 0.1;
const FALL: f32 = 0.5;

/// Leases of fewer tokens cost more calls than they spare.
const CHUNK_MIN: u32 = 4;

/// `auto` leases where the bucket holds at least so many tokens for each node; and how long it
/// does not otherwise.
pub(crate) const NODE_TOKENS: u64 = 64;
const EXACT_FOR: u64 = 10_000_000;

/// How long a node refuses by what the store said, and asks for nothing, where tokens are scarce.
const SCARCE_MIN: u64 = 5_000;
const SCARCE_MAX: u64 = 200_000;

const LOOK_MIN: u64 = 1_000;
const FIRST_LOOK: u64 = 5_000;
const LOOK_MAX: u64 = 500_000;
const RESEND_MIN: u64 = 20_000;
const FORGET_AFTER: u64 = 1_000_000;
