//! What the log has made: the document, the facts, and which proposals had their effect.

use std::collections::BTreeMap;

use config::{Key, Kind, State, Stored};
use model::Revision;
use redb::{Durability, ReadableDatabase as _, ReadableTable as _, WriteTransaction};

use super::{FACTS, META, Made, RECENT, ROWS, Recovered, Store, corrupt, meta};
use crate::Error;
use crate::fact::{Changed, FactKey, Facts};
use crate::machine::{Machine, Rows, Step};
use crate::recent::{DoneBatch, Recent};
use crate::record;
use crate::types::{LogId, StoredMembership};

/// What entries changed since the machine was written last, to be written together.
#[derive(Default)]
pub(crate) struct Write {
    rows: Rows,
    facts: Changed,
    done: BTreeMap<u64, DoneBatch>,
    forgotten: Vec<u64>,
    membership: Option<StoredMembership>,
    /// Where the machine stands; `None` when nothing was applied.
    position: Option<Position>,
}

#[derive(Clone, Copy)]
struct Position {
    applied: Option<LogId>,
    revision: Revision,
    forgotten: u64,
}

impl Position {
    fn of(machine: &Machine, applied: Option<LogId>) -> Self {
        let (revision, forgotten) = (machine.state.revision(), machine.recent.forgotten());
        Self { applied, revision, forgotten }
    }
}

impl Write {
    /// Adds what an entry did; later ones go over earlier ones.
    pub(crate) fn step(&mut self, at: LogId, step: Step) {
        let Step { verdict: _, rows, facts, done, forgotten } = step;
        self.rows.extend(rows);
        self.facts.extend(facts);
        self.done.extend(done.map(|done| (at.index, done)));
        self.forgotten.extend(forgotten);
    }

    /// Adds where the machine stands after it.
    pub(crate) fn applied(&mut self, at: LogId, machine: &Machine) {
        self.position = Some(Position::of(machine, Some(at)));
    }

    pub(crate) fn membership(&mut self, membership: StoredMembership) {
        self.membership = Some(membership);
    }

    fn put(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let Some(position) = self.position else { return Ok(()) };
        if !self.rows.is_empty() {
            let mut table = transaction.open_table(ROWS)?;
            for (key, stored) in &self.rows {
                let name = row_name(key);
                match stored {
                    Some(stored) => table.insert(&*name, &*row(stored))?,
                    None => table.remove(&*name)?,
                };
            }
        }
        if !self.facts.is_empty() {
            let mut table = transaction.open_table(FACTS)?;
            for (key, fact) in &self.facts {
                match fact {
                    Some(fact) => table.insert(&*key.row(), &*record::pack(fact))?,
                    None => table.remove(&*key.row())?,
                };
            }
        }
        if !self.done.is_empty() {
            let mut table = transaction.open_table(RECENT)?;
            for (index, done) in &self.done {
                table.insert(*index, &*record::pack(done))?;
            }
            for index in &self.forgotten {
                table.remove(*index)?;
            }
        }
        put_position(transaction, position, self.membership.as_ref())
    }
}

impl Store {
    /// Takes note of what entries changed. It is written together with the next entries: until
    /// then these are in the log.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Write)) {
        let mut pending = self.pending.lock();
        change(&mut pending);
        if let Some(Position { applied: Some(at), .. }) = pending.position {
            self.made.send_modify(|made| match made {
                Made::UpTo(made) | Made::AwaitsSnapshot(made) => *made = at.index,
                Made::NoMore => {}
            });
        }
    }

    /// Writes what was noted.
    pub(super) fn put_pending(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let pending = std::mem::take(&mut *self.pending.lock());
        pending.put(transaction)
    }

    /// Puts a machine in the place of the one that is there; durable when this returns.
    pub(crate) fn install(
        &self,
        machine: &Machine,
        applied: Option<LogId>,
        membership: &StoredMembership,
    ) -> Result<(), Error> {
        let run = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            *self.pending.lock() = Write::default();
            transaction.delete_table(ROWS)?;
            transaction.delete_table(FACTS)?;
            transaction.delete_table(RECENT)?;
            {
                let mut table = transaction.open_table(ROWS)?;
                let kinds = Kind::ALL.iter();
                for (key, stored) in kinds.flat_map(|kind| machine.state.list(*kind)) {
                    table.insert(&*row_name(key), &*row(stored))?;
                }
                let mut table = transaction.open_table(FACTS)?;
                for (key, fact) in machine.facts.iter() {
                    table.insert(&*key.row(), &*record::pack(fact))?;
                }
                let mut table = transaction.open_table(RECENT)?;
                for (index, done) in machine.recent.batches() {
                    table.insert(*index, &*record::pack(done))?;
                }
            }
            put_position(&transaction, Position::of(machine, applied), Some(membership))?;
            Ok(transaction.commit()?)
        };
        run().map_err(self.failed("write"))?;
        self.made.send_replace(Made::UpTo(applied.map_or(0, |at| at.index)));
        Ok(())
    }

    /// Reads what the log had made when the store was written last.
    pub(super) fn recover(&self) -> Result<Recovered, Error> {
        let revision = Revision::new(self.meta_number("revision")?);
        let (facts, recent) = (self.read_facts()?, self.read_recent()?);
        let machine = Machine::restore(self.read_state(revision)?, facts, recent);
        let membership = self.meta_record("membership")?.unwrap_or_default();
        Ok(Recovered { machine, applied: self.meta_record("applied")?, membership })
    }

    fn read_state(&self, revision: Revision) -> Result<State, Error> {
        let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(ROWS)?;
            let rows = table.iter()?.map(|row| {
                let (name, bytes) = row?;
                Ok((name.value().to_owned(), bytes.value().to_vec()))
            });
            rows.collect()
        };
        let rows = read().map_err(self.failed("read"))?;
        let parsed = config::in_parallel(&rows, |(name, bytes)| self.parse_row(name, bytes));
        let parsed: Vec<(Key, Stored)> = parsed.into_iter().collect::<Result<_, Error>>()?;
        if let Some((key, _)) = parsed.iter().find(|(_, stored)| stored.modified > revision) {
            let what = format!("row {} is newer than the store", key.path());
            return Err(corrupt(&self.path, what));
        }
        Ok(State::restore(revision, parsed.into_iter()))
    }

    fn parse_row(&self, name: &str, bytes: &[u8]) -> Result<(Key, Stored), Error> {
        let (kind, id) = name.split_once('/').unwrap_or((name, ""));
        let kind = Kind::from_name(kind)
            .ok_or_else(|| corrupt(&self.path, format!("row {name} has no kind of ours")))?;
        // serde's own text could quote the row.
        let stored = serde_json::from_slice(bytes)
            .map_err(|_| corrupt(&self.path, format!("row {name} cannot be read")))?;
        Ok((Key::new(kind, id), stored))
    }

    fn read_facts(&self) -> Result<Facts, Error> {
        let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(FACTS)?;
            let rows = table.iter()?.map(|row| {
                let (name, bytes) = row?;
                Ok((name.value().to_owned(), bytes.value().to_vec()))
            });
            rows.collect()
        };
        let mut facts = BTreeMap::new();
        for (name, bytes) in read().map_err(self.failed("read"))? {
            let key = FactKey::from_row(&name)
                .ok_or_else(|| corrupt(&self.path, format!("fact {name} has no kind of ours")))?;
            let fact = record::unpack(&bytes);
            let fact = fact.map_err(|it| self.unreadable(format_args!("fact {name}"), it))?;
            facts.insert(key, fact);
        }
        Ok(Facts::restore(facts))
    }

    fn read_recent(&self) -> Result<Recent, Error> {
        let read = || -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(RECENT)?;
            let rows = table.iter()?.map(|row| {
                let (index, bytes) = row?;
                Ok((index.value(), bytes.value().to_vec()))
            });
            rows.collect()
        };
        let mut batches: Vec<(u64, DoneBatch)> = Vec::new();
        for (index, bytes) in read().map_err(self.failed("read"))? {
            let what = format_args!("what entry {index} did");
            batches.push((index, record::unpack(&bytes).map_err(|it| self.unreadable(what, it))?));
        }
        Ok(Recent::restore(self.meta_number("forgotten")?, batches))
    }
}

/// Writes where the machine stands.
fn put_position(
    transaction: &WriteTransaction,
    position: Position,
    membership: Option<&StoredMembership>,
) -> Result<(), redb::Error> {
    {
        let mut table = transaction.open_table(META)?;
        table.insert("revision", &position.revision.number().to_le_bytes()[..])?;
        table.insert("forgotten", &position.forgotten.to_le_bytes()[..])?;
    }
    if let Some(applied) = position.applied {
        meta::put(transaction, "applied", &applied)?;
    }
    if let Some(membership) = membership {
        meta::put(transaction, "membership", membership)?;
    }
    Ok(())
}

/// `routes/1`: the kind's plural name, and the id (which may hold a slash).
pub(crate) fn row_name(key: &Key) -> String {
    format!("{}/{}", key.kind.plural(), key.id)
}

fn row(stored: &Stored) -> Vec<u8> {
    serde_json::to_vec(stored)
        .expect("a stored resource is JSON values and numbers, which always serialise")
}
