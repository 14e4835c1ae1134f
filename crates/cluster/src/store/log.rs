//! The log and the vote: what must be on disk before anybody is told.

use std::ops::RangeBounds;

use redb::{Durability, ReadableDatabase as _, ReadableTable as _, WriteTransaction};

use super::{LOG, Store, meta};
use crate::Error;
use crate::record;
use crate::types::{Entry, LogId, Vote};

impl Store {
    /// Adds entries to the end of the log; durable when this returns.
    pub(crate) fn append(&self, entries: &[Entry]) -> Result<(), Error> {
        let records: Vec<(u64, Vec<u8>)> =
            entries.iter().map(|entry| (entry.log_id.index, record::pack(entry))).collect();
        self.write_durably(|transaction| {
            let mut table = transaction.open_table(LOG)?;
            for (index, record) in &records {
                table.insert(*index, &**record)?;
            }
            drop(table);
            self.put_pending(transaction)
        })
    }

    /// Removes the entries from this index on; durable when this returns.
    pub(crate) fn truncate(&self, from: u64) -> Result<(), Error> {
        self.write_durably(|transaction| {
            transaction.open_table(LOG)?.retain_in(from.., |_, _| false)?;
            Ok(())
        })
    }

    /// Removes the entries up to this one, and writes what they did if it was not before.
    pub(crate) fn purge(&self, upto: LogId) -> Result<(), Error> {
        self.write_durably(|transaction| {
            self.put_pending(transaction)?;
            transaction.open_table(LOG)?.retain_in(..=upto.index, |_, _| false)?;
            meta::put(transaction, "purged", &upto)
        })
    }

    /// The entries of a range that are there, up to so many bytes but at least one.
    pub(crate) fn entries(
        &self,
        range: impl RangeBounds<u64>,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, Error> {
        let read = || -> Result<Vec<(u64, Vec<u8>)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(LOG)?;
            let mut found = Vec::new();
            let mut bytes = 0;
            for row in table.range((range.start_bound().cloned(), range.end_bound().cloned()))? {
                let (index, record) = row?;
                bytes += record.value().len();
                if bytes > bytes_max && !found.is_empty() {
                    break;
                }
                found.push((index.value(), record.value().to_vec()));
            }
            Ok(found)
        };
        let records = read().map_err(self.failed("read"))?.into_iter();
        let parsed = records.map(|(index, bytes)| {
            let entry = record::unpack(&bytes);
            entry.map_err(|cause| self.unreadable(format_args!("log entry {index}"), cause))
        });
        parsed.collect()
    }

    /// The last entry's id, if there is any entry.
    pub(crate) fn last(&self) -> Result<Option<LogId>, Error> {
        let read = || -> Result<Option<(u64, Vec<u8>)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(LOG)?;
            Ok(table.last()?.map(|(index, record)| (index.value(), record.value().to_vec())))
        };
        let Some((index, bytes)) = read().map_err(self.failed("read"))? else { return Ok(None) };
        let entry: Result<Entry, _> = record::unpack(&bytes);
        let what = format_args!("log entry {index}");
        Ok(Some(entry.map_err(|cause| self.unreadable(what, cause))?.log_id))
    }

    /// The last entry that was purged.
    pub(crate) fn purged(&self) -> Result<Option<LogId>, Error> {
        self.meta_record("purged")
    }

    /// Writes the vote; durable when this returns.
    pub(crate) fn save_vote(&self, vote: &Vote) -> Result<(), Error> {
        self.write_durably(|transaction| meta::put(transaction, "vote", vote))
    }

    pub(crate) fn vote(&self) -> Result<Option<Vote>, Error> {
        self.meta_record("vote")
    }

    /// Writes what was noted; on disk when this returns.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.write_durably(|transaction| self.put_pending(transaction))
    }

    /// Looks at every entry once, so that one that this release cannot read is found at the start
    /// and not when its turn comes.
    pub(super) fn check_log(&self) -> Result<(), Error> {
        let mut next = 0;
        loop {
            let entries = self.entries(next.., CHECK_BYTES)?;
            let Some(last) = entries.last() else { return Ok(()) };
            next = last.log_id.index + 1;
            for entry in &entries {
                if let crate::types::EntryPayload::Normal(payload) = &entry.payload {
                    let index = entry.log_id.index;
                    let what = format_args!("log entry {index}");
                    payload.check().map_err(|cause| self.unreadable(what, cause))?;
                }
            }
        }
    }

    fn write_durably(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), Error> {
        let run = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            write(&transaction)?;
            Ok(transaction.commit()?)
        };
        run().map_err(self.failed("write"))
    }
}

/// Entries read at a time when the log is looked at.
const CHECK_BYTES: usize = 4 << 20;
