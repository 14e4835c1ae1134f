//! What a node's journals say: read while it does not run, or asked of it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use model::{Amount, ReservationId};
use rules::budget::{Account, RowKey};

use super::journal::read_whole;
use super::record::{Deed, Event};
use super::trace::Cause;
use super::{Name, Trace};
use crate::fleet::{Entry, Kept, Kind, Organisation, Share, kept_of, key};
use crate::storage::Error;

/// What the journals of one node say. One that runs says nothing of calls under way.
#[derive(Debug, Default)]
pub struct Statement {
    /// By the row's name.
    pub rows: HashMap<String, Stated>,
    pub charges: Vec<Charge>,
}

/// What one node has put into a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// `None` where its name is too long to be kept: see [`row_name`].
    pub row: Option<RowKey>,
    pub posted: Amount,
    pub adjusted: Amount,
    /// What of it the fleet's store has not heard of, as far as this node knows.
    pub untold: Amount,
}

/// A charge of which the records may know nothing, or something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub cause: Cause,
    pub id: ReservationId,
    /// The row's name, and its key where that is known.
    pub name: String,
    pub row: Option<RowKey>,
    /// What was charged; of one that is open, what is held.
    pub amount: Amount,
}

impl Statement {
    /// Reads the journals in a ledger's directory, those that are there. A journal that a crash
    /// left as it was is mended first, as the node's own start would do.
    ///
    /// # Errors
    /// When the node runs, or a journal is damaged, of a later version, or cannot be read.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let mut statement = Self::default();
        for name in [OWN, FLEET] {
            let path = directory.join(name);
            if path.exists() {
                statement.add(&path)?;
            }
        }
        Ok(statement)
    }

    fn add(&mut self, path: &Path) -> Result<(), Error> {
        let found = read_whole(path)?;
        found.rows.iter().for_each(|(key, row)| self.row(key, &row.account));
        for (id, holds) in found.open {
            for (row, amount) in holds {
                self.charge(Cause::Open, id, &Name::Own(row), amount);
            }
        }
        // The fleet's purse leaves traces of what it assumes, its events are for operators.
        if path.ends_with(OWN) {
            found.events.iter().for_each(|(_, event)| self.event(event));
        }
        self.traces(&found.traces);
        for (name, value) in found.kept {
            let damaged = || Error::Damaged {
                path: path.to_owned(),
                what: "what the fleet's money kept cannot be read".to_owned(),
            };
            self.keep(kept_of(&name, &value).ok_or_else(damaged)?);
        }
        Ok(())
    }

    /// Adds a row of a node's own accounts.
    pub(crate) fn row(&mut self, key: &RowKey, account: &Account) {
        let stated = self.stated(&Name::Own(key.clone()));
        stated.posted = sum(stated.posted, account.posted);
        stated.adjusted = sum(stated.adjusted, account.adjusted);
    }

    /// Adds what a node has put into a row of the fleet.
    pub(crate) fn share(&mut self, key: &Arc<[u8]>, share: &Share) {
        let stated = self.stated(&Name::Fleet(Arc::clone(key)));
        if let Some(row) = &share.is {
            stated.row = Some((**row).clone());
        }
        stated.posted = sum(stated.posted, share.posted);
        stated.adjusted = sum(stated.adjusted, share.adjusted);
    }

    /// Adds an end that waits for the store.
    pub(crate) fn untold(&mut self, entry: &Entry) {
        for (row, cost) in &entry.parts {
            let stated = self.stated(&Name::Fleet(Arc::clone(&row.key)));
            if matches!(entry.kind, Kind::Settle | Kind::Estimate) {
                stated.untold = sum(stated.untold, *cost);
            }
        }
    }

    /// Adds what is known of single charges.
    pub(crate) fn traces(&mut self, traces: &[(ReservationId, Trace)]) {
        for (id, trace) in traces {
            for (name, amount) in &trace.rows {
                self.charge(trace.cause, *id, name, *amount);
            }
        }
    }

    pub(crate) fn event(&mut self, event: &Event) {
        if let Deed::Assumed { amount, reservation } = event.deed {
            self.charge(Cause::Assumed, reservation, &Name::Own(event.row.clone()), amount);
        }
    }

    fn keep(&mut self, kept: Kept) {
        match kept {
            Kept::Share(key, share) => self.share(&key, &share),
            Kept::Open(wanted) => {
                for piece in wanted.holds {
                    let name = Name::Fleet(piece.row.key);
                    self.charge(Cause::Open, ReservationId(wanted.id), &name, piece.amount);
                }
            }
            Kept::End(entry) => self.untold(&entry),
            Kept::Intent(..) => {}
        }
    }

    fn stated(&mut self, name: &Name) -> &mut Stated {
        let (name, row) = named(name);
        self.rows.entry(name).or_insert_with(|| Stated { row, ..Stated::default() })
    }

    fn charge(&mut self, cause: Cause, id: ReservationId, name: &Name, amount: Amount) {
        let (name, row) = named(name);
        self.charges.push(Charge { cause, id, name, row, amount });
    }
}

/// The name of a row, the same in every ledger: what the fleet's store calls it within its
/// organisation. One that is long is a digest.
#[must_use]
pub fn row_name(row: &RowKey) -> String {
    without_organisation(&Organisation::default().row(row))
}

/// The row that has this name; `None` where that is a digest.
#[must_use]
pub fn row_named(name: &str) -> Option<RowKey> {
    key::row_of(name)
}

fn named(name: &Name) -> (String, Option<RowKey>) {
    match name {
        Name::Own(row) => (row_name(row), Some(row.clone())),
        Name::Fleet(key) => (without_organisation(key), key::name_of(key).and_then(key::row_of)),
    }
}

fn without_organisation(key: &[u8]) -> String {
    let text = String::from_utf8_lossy(key);
    text.split_once("}:").map_or_else(|| text.to_string(), |(_, name)| name.to_owned())
}

/// As the ledgers add: what leaves the range of amounts stays at its end.
fn sum(one: Amount, other: Amount) -> Amount {
    one.plus(other).unwrap_or(Amount::LARGEST)
}

/// The journals of a node's own accounts, and of its part in a fleet.
const OWN: &str = "budgets.redb";
const FLEET: &str = "fleet.redb";
