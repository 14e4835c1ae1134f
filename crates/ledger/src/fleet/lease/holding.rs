//! One bucket's lease on one node: how much to hold, when to ask for more, what to give back.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use model::Bucket;
use parking_lot::Mutex;

use super::book::{Book, Span};
use super::purse::{Purse, Spent};
use super::wire::{Ask, How, Reply};

/// What a node holds of a bucket. Times are microseconds of the node's monotonic clock.
#[derive(Debug)]
pub(crate) struct Holding {
    purse: Purse,
    /// Tokens that were wanted and not there, since the last look.
    missed: AtomicU32,
    /// Until then there is nothing for this node, says the store.
    refused_until: AtomicU64,
    /// Whether it waits to be looked at.
    is_due: AtomicBool,
    book: Mutex<Book>,
}

/// What a request finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drawn {
    Taken(Spent),
    /// The store has to be asked.
    Short,
    /// There is nothing until then.
    Refused(u64),
}

/// What is to be done for a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// To be sent to the store.
    pub(crate) ask: Option<Ask>,
    /// When to look again.
    pub(crate) again: u64,
    /// Nobody draws on it any more, and nothing is held.
    pub(crate) is_over: bool,
    /// Tokens that requests spent since the last look, and those that a lease's end took.
    pub(crate) spent: u32,
    pub(crate) lapsed: u32,
}

impl Holding {
    /// Holds nothing. `always`: leased whatever the number of nodes.
    pub(crate) fn new(bucket: Bucket, always: bool, now: u64) -> Self {
        Self {
            purse: Purse::default(),
            missed: AtomicU32::new(0),
            refused_until: AtomicU64::new(0),
            is_due: AtomicBool::new(false),
            book: Mutex::new(Book::new(Span::of(bucket), always, now)),
        }
    }

    /// Holds so many for ever.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn filled(bucket: Bucket, tokens: u32) -> Self {
        let holding = Self::new(bucket, true, 0);
        holding.purse.fill(tokens, u64::MAX);
        holding
    }

    /// Spends tokens without a lock and without the store.
    pub(crate) fn take(&self, now: u64, cost: u32) -> Drawn {
        if let Some(spent) = self.purse.take(now, cost) {
            return Drawn::Taken(spent);
        }
        self.misses(now, cost)
    }

    /// What a request that goes to the store anyway would find here, for the estimate of demand.
    pub(crate) fn lacks(&self, now: u64, cost: u32) -> Drawn {
        match self.purse.peek(now, cost) {
            Some(spent) => Drawn::Taken(spent),
            None => self.misses(now, cost),
        }
    }

    fn misses(&self, now: u64, cost: u32) -> Drawn {
        self.missed.fetch_add(cost, Ordering::Relaxed);
        match self.refused_until.load(Ordering::Relaxed) {
            until if now < until => Drawn::Refused(until),
            _ => Drawn::Short,
        }
    }

    pub(crate) fn undo(&self, spent: Spent, cost: u32) {
        self.purse.undo(spent, cost);
    }

    pub(crate) fn holds(&self, spent: Spent, now: u64) -> bool {
        self.purse.holds(spent, now)
    }

    /// Whether whoever calls has to see that it is looked at.
    pub(crate) fn becomes_due(&self) -> bool {
        !self.is_due.load(Ordering::Relaxed) && !self.is_due.swap(true, Ordering::Relaxed)
    }

    /// It could not be told that it is to be looked at.
    pub(crate) fn not_due(&self) {
        self.is_due.store(false, Ordering::Relaxed);
    }

    /// Nobody spends it any more; what is held is still to be given back.
    pub(crate) fn close(&self) {
        self.purse.close();
    }

    /// Looks at what is held and what is wanted. `trip` is a round trip to the store, `seq` the
    /// last number the node gave to an ask.
    pub(crate) fn check(&self, now: u64, trip: u64, seq: &mut u64) -> Step {
        self.is_due.store(false, Ordering::Relaxed);
        let mut book = self.book.lock();
        if book.is_retired() {
            return Step { is_over: true, ..Step::default() };
        }
        if let Some(step) = book.waits(now, trip) {
            return step;
        }
        let missed = self.missed.swap(0, Ordering::Relaxed);
        let spent = book.look(now, self.purse.tokens(), missed);
        let mut lapsed = 0;
        if now >= self.purse.until() {
            // What is left of a lease that is over was not spent. If it lives at the store, it
            // takes it back.
            lapsed = self.purse.cut(0).1;
            book.lapse(lapsed);
        }
        let until = self.purse.until();
        let Some(aim) = book.decide(now, trip, (self.purse.tokens(), until)) else {
            return Step { spent, lapsed, ..book.rest(now, self.purse.tokens(), until) };
        };
        let (keep, back) = self.purse.cut(aim.most);
        *seq += 1;
        let ask = book.send(now, *seq, aim, (keep, back));
        Step { ask: Some(ask), again: book.resend_at(trip), is_over: false, spent, lapsed }
    }

    /// Takes the answer to an ask, and how many tokens it says are left in the store: when to look
    /// again. One that nobody waits for changes nothing.
    pub(crate) fn answered(
        &self,
        (now, trip): (u64, u64),
        seq: u64,
        reply: &Reply,
        left: u64,
    ) -> Option<u64> {
        let mut book = self.book.lock();
        let flight = book.land(seq)?;
        if reply.how == How::Stale || reply.fresh {
            self.purse.cut(0);
        }
        if reply.how == How::Stale {
            return Some(now);
        }
        self.purse.fill(reply.granted, flight.until());
        let refused = book.learn((now, trip), &flight, (reply, left), self.purse.tokens());
        self.refused_until.store(refused, Ordering::Relaxed);
        self.purse.ask_at(book.low(trip));
        Some(book.next_look(now, self.purse.tokens(), self.purse.until()))
    }

    /// Gives everything back, for good: the node stops, or the limit has changed. `None` where
    /// nothing is held.
    pub(crate) fn surrender(&self, seq: &mut u64) -> Option<Ask> {
        let mut book = self.book.lock();
        let (_, back) = self.purse.cut(0);
        self.purse.fill(0, 0);
        let was_asked = book.retire();
        *seq += 1;
        (back > 0 || was_asked).then_some(Ask { seq: *seq, back, ..Ask::default() })
    }

    /// Drops everything: the store has forgotten what was leased.
    pub(crate) fn forget(&self) {
        let mut book = self.book.lock();
        self.purse.cut(0);
        self.purse.fill(0, 0);
        book.give_up();
        self.refused_until.store(0, Ordering::Relaxed);
    }
}
