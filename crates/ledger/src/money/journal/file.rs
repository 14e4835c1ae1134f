//! The journal's file: made, opened, read whole, written in transactions.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use model::ReservationId;
use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{Draft, Found};
use crate::money::Trace;
use crate::money::record::{
    event_bytes, event_of, holds_bytes, holds_of, key_of, key_text, row_bytes, row_of,
};
use crate::storage::{self, Error};

pub(super) fn write(database: &Database, batch: &Draft, path: &Path) -> Result<(), Error> {
    let write = || -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        {
            let mut rows = transaction.open_table(ROWS)?;
            for (key, row) in &batch.rows {
                let key = key_text(key);
                match row {
                    Some(row) => rows.insert(key.as_str(), row_bytes(row).as_slice())?,
                    None => rows.remove(key.as_str())?,
                };
            }
            let mut open = transaction.open_table(OPEN)?;
            for (id, holds) in &batch.open {
                match holds {
                    Some(holds) => open.insert(id.0, holds_bytes(holds).as_slice())?,
                    None => open.remove(id.0)?,
                };
            }
            let mut events = transaction.open_table(EVENTS)?;
            for (number, event) in &batch.events {
                match event {
                    Some(event) => events.insert(number, event_bytes(event).as_slice())?,
                    None => events.remove(number)?,
                };
            }
            let mut traces = transaction.open_table(TRACES)?;
            for (id, trace) in &batch.traces {
                match trace {
                    Some(trace) => traces.insert(id.0, trace.bytes().as_slice())?,
                    None => traces.remove(id.0)?,
                };
            }
            let mut kept = transaction.open_table(KEPT)?;
            for (name, value) in &batch.kept {
                match value {
                    Some(value) => kept.insert(name.as_slice(), value.as_slice())?,
                    None => kept.remove(name.as_slice())?,
                };
            }
        }
        Ok(transaction.commit()?)
    };
    write().map_err(|cause| failed("write", path, cause))
}

/// Makes the file of a first start under another name: what has the right name is always whole.
pub(super) fn make(path: &Path) -> Result<(), Error> {
    if path.exists() {
        return Ok(());
    }
    let io = |what| move |cause| Error::Io { what, path: path.to_owned(), cause };
    let draft = path.with_extension("draft");
    let mut ours = OpenOptions::new();
    ours.create(true).truncate(true).write(true).mode(0o600).open(&draft).map_err(io("make"))?;
    drop(Database::create(&draft).map_err(|cause| failed("make", path, cause))?);
    std::fs::rename(&draft, path).map_err(io("name"))?;
    path.parent().map_or(Ok(()), storage::sync_directory)
}

/// Never makes the file: one that has gone while the node runs held what was spent.
pub(super) fn open(path: &Path) -> Result<Database, Error> {
    let mut builder = Builder::new();
    // The file is small: reading it whole at a start finds rot that a plain open would trust.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder.open(path).map_err(|cause| failed("open", path, cause))
}

/// Reads all that stands in the file; makes the tables of a new one.
pub(super) fn read(database: &Database, path: &Path) -> Result<Found, Error> {
    let begin = || -> Result<u32, redb::Error> {
        let transaction = database.begin_write()?;
        let format = {
            let mut meta = transaction.open_table(META)?;
            let format = meta.get("format")?.map(|format| format.value());
            // A file of an earlier version is read as it is, and from now on belongs to this one.
            if format.is_none_or(|format| format < FORMAT) {
                meta.insert("format", FORMAT)?;
            }
            transaction.open_table(ROWS)?;
            transaction.open_table(OPEN)?;
            transaction.open_table(EVENTS)?;
            transaction.open_table(KEPT)?;
            transaction.open_table(TRACES)?;
            format.unwrap_or(FORMAT)
        };
        transaction.commit()?;
        Ok(format)
    };
    let found = begin().map_err(|cause| failed("open", path, cause))?;
    if found > FORMAT {
        return Err(Error::Version { path: path.to_owned(), found });
    }
    read_tables(database).map_err(|cause| failed("read", path, cause))?.map_err(|what| {
        Error::Damaged { path: path.to_owned(), what: format!("{what} cannot be read") }
    })
}

fn read_tables(database: &Database) -> Result<Result<Found, String>, redb::Error> {
    let transaction = database.begin_read()?;
    let mut found = Found::default();
    for entry in transaction.open_table(ROWS)?.iter()? {
        let (key, row) = entry?;
        let Some(read) = key_of(key.value()).zip(row_of(row.value())) else {
            return Ok(Err(format!("the row {}", key.value())));
        };
        found.rows.push(read);
    }
    for entry in transaction.open_table(OPEN)?.iter()? {
        let (id, holds) = entry?;
        let id = ReservationId(id.value());
        let Some(holds) = holds_of(holds.value()) else {
            return Ok(Err(format!("the reservation {id}")));
        };
        found.open.push((id, holds));
    }
    for entry in transaction.open_table(EVENTS)?.iter()? {
        let (number, event) = entry?;
        let Some(event) = event_of(event.value()) else {
            return Ok(Err(format!("the event {}", number.value())));
        };
        found.events.push_back((number.value(), event));
    }
    for entry in transaction.open_table(KEPT)?.iter()? {
        let (name, value) = entry?;
        found.kept.push((name.value().to_vec(), value.value().to_vec()));
    }
    for entry in transaction.open_table(TRACES)?.iter()? {
        let (id, trace) = entry?;
        let id = ReservationId(id.value());
        let Some(trace) = Trace::of(trace.value()) else {
            return Ok(Err(format!("what is known of the charge {id}")));
        };
        found.traces.push((id, trace));
    }
    Ok(Ok(found))
}

/// Sorts redb's errors into ours: damage has a name of its own.
fn failed(what: &'static str, path: &Path, cause: impl Into<redb::Error>) -> Error {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    let path = path.to_owned();
    match cause.into() {
        redb::Error::Corrupted(what) => Error::Damaged { path, what },
        // What redb says of a file that is too short or does not begin like one of its own.
        redb::Error::Io(cause) if matches!(cause.kind(), InvalidData | UnexpectedEof) => {
            Error::Damaged { path, what: cause.to_string() }
        }
        cause => Error::Journal { what, path, cause: Box::new(cause) },
    }
}

const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");
const OPEN: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("open");
const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const KEPT: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("kept");
const TRACES: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("traces");

/// The format this version writes, and the newest it reads. The first one knew thresholds by their
/// place in the budget's list.
const FORMAT: u32 = 2;

/// Rows are in memory whole; the file's own cache only serves its writes.
const CACHE_BYTES: usize = 8 << 20;
