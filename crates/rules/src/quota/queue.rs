//! Whose turn it is: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996).
//!
//! A call's tag is the later of the virtual time and the tag behind its flow's last call; the
//! lowest tag goes next, and is the virtual time from then on. A flow that was away begins at the
//! virtual time: nobody saves up a share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A flow: an agent's calls of one class.
pub type Flow = Arc<str>;

/// A call that wants to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The caller's number for it, never used twice by one node.
    pub seq: u64,
    pub flow: Flow,
    /// The share of its flow: 1 to [`WEIGHT_MAX`].
    pub weight: u64,
    /// It may use the reserve.
    pub is_high: bool,
    /// The longest wait that is worth it, in milliseconds.
    pub patience: u64,
    /// Calls of the flow that may wait at once.
    pub queue_max: u64,
}

impl Join {
    /// What one call of the flow costs, in virtual time.
    #[must_use]
    pub const fn cost(&self) -> u64 {
        SCALE.div_ceil(if self.weight == 0 { 1 } else { self.weight })
    }
}

/// A call that waits. The order of tickets is the order of their turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    pub(super) tag: u64,
    pub(super) node: u64,
    pub(super) seq: u64,
}

/// The calls that wait at one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    virtual_time: u64,
    /// The tag behind the last call of a flow, where that is after the virtual time.
    finish: BTreeMap<Flow, u64>,
    /// Those that may use the reserve, and the others.
    waiting: [BTreeSet<Ticket>; 2],
    tags: BTreeMap<(u64, u64), (usize, u64)>,
}

impl Queue {
    pub(super) fn len(&self) -> u64 {
        self.tags.len() as u64
    }

    /// The tag a call would get; `None` when as many of its flow wait as may, or too many of all.
    pub(super) fn tag(&self, join: &Join) -> Option<u64> {
        let finish = self.finish.get(&join.flow).copied().unwrap_or_default();
        let tag = finish.max(self.virtual_time);
        let has_room = tag - self.virtual_time < join.queue_max * join.cost();
        (has_room && self.len() < WAITING_MAX).then_some(tag)
    }

    /// How many wait whose turn is not after a tag.
    pub(super) fn ahead(&self, tag: u64) -> u64 {
        let last = Ticket { tag, node: u64::MAX, seq: u64::MAX };
        self.waiting.iter().map(|waiting| waiting.range(..=last).count() as u64).sum()
    }

    /// Takes a call in, at the tag it was given. One that waits already moves.
    pub(super) fn enter(&mut self, node: u64, join: &Join, tag: u64) {
        self.drop(node, join.seq);
        self.finish.insert(Arc::clone(&join.flow), tag + join.cost());
        let lane = usize::from(!join.is_high);
        if let Some(waiting) = self.waiting.get_mut(lane) {
            waiting.insert(Ticket { tag, node, seq: join.seq });
            self.tags.insert((node, join.seq), (lane, tag));
        }
    }

    /// Takes a call out, wherever it stands.
    pub(super) fn drop(&mut self, node: u64, seq: u64) {
        if let Some((lane, tag)) = self.tags.remove(&(node, seq))
            && let Some(waiting) = self.waiting.get_mut(lane)
        {
            waiting.remove(&Ticket { tag, node, seq });
        }
    }

    /// The first of a lane whose node is there; those before it are taken out.
    pub(super) fn head(&mut self, lane: usize, is_there: impl Fn(u64) -> bool) -> Option<Ticket> {
        loop {
            let first = self.waiting.get(lane)?.first().copied()?;
            if is_there(first.node) {
                return Some(first);
            }
            self.drop(first.node, first.seq);
        }
    }

    /// It is this call's turn.
    pub(super) fn serve(&mut self, ticket: Ticket) {
        self.drop(ticket.node, ticket.seq);
        self.virtual_time = self.virtual_time.max(ticket.tag);
    }

    /// Forgets the flows that have no claim left. Without calls virtual time begins anew.
    pub(super) fn tidy(&mut self) {
        if self.tags.is_empty() {
            self.virtual_time = 0;
            self.finish.clear();
        }
        let now = self.virtual_time;
        self.finish.retain(|_, finish| *finish > now);
    }
}

/// Lanes of a queue: with the reserve, and without.
pub(super) const LANES: [usize; 2] = [0, 1];

/// Virtual time of one call of weight 1.
const SCALE: u64 = 1_000_000;

/// The largest share of a flow, its class included.
pub const WEIGHT_MAX: u64 = 1_600;

/// Calls that wait for one upstream, over the whole fleet. When as many wait, the next is refused.
pub const WAITING_MAX: u64 = 16_384;
