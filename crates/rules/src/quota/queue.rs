//! Whose turn it is: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996).
//!
//! A call's tag is the later of the virtual time and the tag behind its flow's last call; the
//! lowest tag goes next, and is the virtual time from then on. A flow that was away begins at the
//! virtual time: nobody saves up a share.
//!
//! Tags belong to a flow's places and not to its calls: when a call leaves, those behind it move
//! up, and the last place goes. What left leaves nothing behind.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::Class;

/// Whose calls take turns with whose: an agent's of one class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    pub class: Class,
    pub agent: Arc<str>,
}

/// A call that wants to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The caller's number for it, never used twice by one node.
    pub seq: u64,
    pub flow: Flow,
    /// The share of its flow: 1 to [`WEIGHT_MAX`].
    pub weight: u64,
    /// The longest wait that is worth it, in milliseconds.
    pub patience: u64,
    pub room: Room,
}

/// Calls that may wait at once, over the whole fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Of an agent, in all its classes.
    pub agent: u64,
    /// Of a class, of all agents.
    pub class: u64,
}

impl Join {
    /// What one call of the flow costs, in virtual time.
    #[must_use]
    pub const fn cost(&self) -> u64 {
        SCALE.div_ceil(if self.weight == 0 { 1 } else { self.weight })
    }
}

/// A call that waits: its node, and the node's number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) node: u64,
    pub(super) seq: u64,
}

/// A place in the queue. The order of places is the order of turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) tag: u64,
    /// Of two with one tag the older goes first.
    ordinal: u64,
    pub(super) flow: Flow,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.tag, self.ordinal, &self.flow).cmp(&(other.tag, other.ordinal, &other.flow))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A flow's calls in their order, and as many places in theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    /// The tag behind the last place.
    finish: u64,
    tickets: VecDeque<Ticket>,
    /// Tags and ordinals.
    places: VecDeque<(u64, u64)>,
}

/// The calls that wait at one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    virtual_time: u64,
    /// The last place's.
    ordinal: u64,
    /// Flows that wait, or whose last place was behind the virtual time.
    rows: BTreeMap<Flow, Row>,
    /// By [`Class`], from the lowest to the highest.
    places: [BTreeSet<Place>; 3],
}

impl Queue {
    pub(super) fn len(&self) -> u64 {
        self.places.iter().map(|places| places.len() as u64).sum()
    }

    /// The tag that a call of a flow would get.
    pub(super) fn tag(&self, flow: &Flow) -> u64 {
        self.rows.get(flow).map_or(0, |row| row.finish).max(self.virtual_time)
    }

    /// Whether one call more may wait.
    pub(super) fn has_room(&self, join: &Join) -> bool {
        let row = |(_, class)| self.rows.get(&Flow { class, agent: Arc::clone(&join.flow.agent) });
        let of_agent: usize =
            Class::ALL.into_iter().filter_map(row).map(|row| row.tickets.len()).sum();
        let of_class = self.places.get(join.flow.class as usize).map_or(0, BTreeSet::len);
        (of_agent as u64) < join.room.agent
            && (of_class as u64) < join.room.class
            && self.len() < WAITING_MAX
    }

    /// How many wait whose turn is not after a tag.
    pub(super) fn ahead(&self, tag: u64) -> u64 {
        let flow = Flow { class: Class::Bulk, agent: Arc::from("") };
        let after = Place { tag: tag + 1, ordinal: 0, flow };
        self.places.iter().map(|places| places.range(..&after).count() as u64).sum()
    }

    /// The tag of a call that waits.
    pub(super) fn waits(&self, flow: &Flow, ticket: Ticket) -> Option<u64> {
        let row = self.rows.get(flow)?;
        let index = row.tickets.iter().position(|other| *other == ticket)?;
        row.places.get(index).map(|(tag, _)| *tag)
    }

    /// Takes a call in, behind its flow's last.
    pub(super) fn enter(&mut self, node: u64, join: &Join) {
        let tag = self.tag(&join.flow);
        self.ordinal += 1;
        let row = self.rows.entry(join.flow.clone()).or_default();
        row.finish = tag + join.cost();
        row.tickets.push_back(Ticket { node, seq: join.seq });
        row.places.push_back((tag, self.ordinal));
        if let Some(places) = self.places.get_mut(join.flow.class as usize) {
            places.insert(Place { tag, ordinal: self.ordinal, flow: join.flow.clone() });
        }
    }

    /// Takes a call out; those of its flow behind it move up.
    pub(super) fn leave(&mut self, flow: &Flow, ticket: Ticket) {
        let Some(row) = self.rows.get_mut(flow) else { return };
        let Some(index) = row.tickets.iter().position(|other| *other == ticket) else { return };
        row.tickets.remove(index);
        let Some((tag, ordinal)) = row.places.pop_back() else { return };
        row.finish = tag;
        if let Some(places) = self.places.get_mut(flow.class as usize) {
            places.remove(&Place { tag, ordinal, flow: flow.clone() });
        }
    }

    /// Takes out all calls of a node.
    pub(super) fn leave_all(&mut self, node: u64) {
        let of_node = |(flow, row): (&Flow, &Row)| {
            let tickets = row.tickets.iter().filter(|ticket| ticket.node == node);
            tickets.map(|ticket| (flow.clone(), *ticket)).collect::<Vec<_>>()
        };
        let gone: Vec<_> = self.rows.iter().flat_map(of_node).collect();
        gone.iter().for_each(|(flow, ticket)| self.leave(flow, *ticket));
    }

    /// The first place of those that may use the reserve, and of the others.
    pub(super) fn heads(&self) -> [Option<&Place>; 2] {
        let [bulk, automation, interactive] = &self.places;
        let low = earlier(bulk.first(), automation.first());
        [interactive.first(), low]
    }

    /// The call that has a place: the first of its flow.
    pub(super) fn holder(&self, place: &Place) -> Option<Ticket> {
        self.rows.get(&place.flow)?.tickets.front().copied()
    }

    /// It is the turn of the flow's first call.
    pub(super) fn serve(&mut self, place: &Place) {
        self.virtual_time = self.virtual_time.max(place.tag);
        if let Some(places) = self.places.get_mut(place.flow.class as usize) {
            places.remove(place);
        }
        if let Some(row) = self.rows.get_mut(&place.flow) {
            row.tickets.pop_front();
            row.places.pop_front();
        }
    }

    /// Forgets the flows that have no claim left. Without calls virtual time begins anew.
    pub(super) fn tidy(&mut self) {
        if self.len() == 0 {
            self.virtual_time = 0;
            self.rows.clear();
        }
        let now = self.virtual_time;
        self.rows.retain(|_, row| !row.tickets.is_empty() || row.finish > now);
    }
}

/// The one whose turn is first.
pub(super) fn earlier<'a>(one: Option<&'a Place>, other: Option<&'a Place>) -> Option<&'a Place> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Virtual time of one call of weight 1.
const SCALE: u64 = 1_000_000;

/// The largest share of a flow, its class included.
pub const WEIGHT_MAX: u64 = 1_600;

/// Calls that wait for one upstream, over the whole fleet. When as many wait, the next is refused.
pub const WAITING_MAX: u64 = 16_384;
