//! What happened to accounts besides calls, for operators.

use std::collections::VecDeque;

use model::{Amount, BudgetId};
use rules::budget::RowKey;

use super::journal::Draft;
use super::record::{Deed, Event};

/// The newest events, numbered from the first.
#[derive(Debug, Default)]
pub(crate) struct History {
    events: VecDeque<(u64, Event)>,
}

impl History {
    /// As the journal has it, oldest first.
    pub(crate) const fn of(events: VecDeque<(u64, Event)>) -> Self {
        Self { events }
    }

    /// Adds an event, and forgets the oldest at the bound; both in the journal too.
    pub(crate) fn note(&mut self, event: Event, draft: &mut Draft) {
        let number = self.events.back().map_or(0, |(number, _)| number + 1);
        draft.event(number, Some(event.clone()));
        self.events.push_back((number, event));
        if self.events.len() > EVENTS_MAX
            && let Some((oldest, _)) = self.events.pop_front()
        {
            draft.event(oldest, None);
        }
    }

    /// What was adjusted under an id: whose row, and by how much.
    pub(crate) fn adjustment(&self, wanted: &str) -> Option<(&RowKey, Amount)> {
        let mut known = self.adjustments();
        known.find(|(_, _, id)| *id == wanted).map(|(row, by, _)| (row, by))
    }

    /// All adjustments with their ids, the newest first.
    pub(crate) fn adjustments(&self) -> impl Iterator<Item = (&RowKey, Amount, &str)> {
        self.events.iter().rev().filter_map(|(_, event)| match &event.deed {
            Deed::Adjusted { by, id, .. } => Some((&event.row, *by, &**id)),
            Deed::Assumed { .. } | Deed::Returned { .. } | Deed::Crossed { .. } => None,
        })
    }

    /// All events, oldest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().map(|(_, event)| event)
    }

    /// Some of the events from this number on, oldest first.
    pub(crate) fn from(&self, number: u64) -> impl Iterator<Item = &(u64, Event)> {
        let first = self.events.partition_point(|(known, _)| *known < number);
        self.events.range(first..)
    }

    /// The events of a budget, oldest first.
    pub(crate) fn of_budget(&self, budget: &BudgetId) -> Vec<Event> {
        let events = self.events.iter().filter(|(_, event)| event.row.budget == *budget);
        events.map(|(_, event)| event.clone()).collect()
    }
}

/// Events that are kept, some 4 MB. When as many are there, the oldest is forgotten; an adjustment
/// that is repeated after that counts again.
const EVENTS_MAX: usize = 16_384;
