//! The ids that ended last.

use std::collections::{HashMap, VecDeque};

use crate::fleet::money::{Entry, Kind};

/// The ids that ended last, so that a store that forgot them is told again.
#[derive(Debug, Default)]
pub(super) struct Over {
    order: VecDeque<u128>,
    pub(super) how: HashMap<u128, ([u8; 8], u8)>,
}

impl Over {
    pub(super) fn note(&mut self, entry: &Entry) {
        // As `resolve.lua` names the states.
        let state = match entry.kind {
            Kind::Settle | Kind::Estimate => 2,
            Kind::Void => 3,
            // The history knows adjustments.
            Kind::Adjust | Kind::Look => return,
        };
        if self.how.insert(entry.id, (entry.check, state)).is_some() {
            return;
        }
        self.order.push_back(entry.id);
        if self.order.len() > OVER_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.how.remove(&oldest);
        }
    }
}

/// Ended ids that a store which forgot is told of; older ones it does not know afterwards.
const OVER_MAX: usize = 65_536;
