//! The journal: what must survive the process, on its disk.
//!
//! One redb file. A thread of its own writes all that has changed since its last write in one
//! transaction, so that calls which leave at the same time share one `fsync`. Rows stand in it as
//! they are: a file is as large as its rows, and needs no replay.
//!
//! ```text
//! meta    "format"    u32, little endian
//! rows    a row       posted, adjusted, fired, the period's end; see `record`
//! open    u128        the rows and amounts of a call that may have left and is not settled
//! events  u64         adjustments and the like, numbered
//! kept    bytes       what the fleet's purse knows; see `fleet::money::purse`
//! traces  u128        charges without a record, and those that were assumed; see `trace`
//! ```

mod file;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use model::{Amount, ReservationId, Timestamp};
use parking_lot::{Condvar, Mutex};
use redb::Database;
use rules::budget::{Hold, RowKey};
use tokio::sync::watch;

use super::DispatchError;
use super::book::Row;
use super::record::Event;
use super::trace::{self, Cause, Name, Trace};
use crate::storage::Error;

/// The way to the writer.
#[derive(Debug)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What a start finds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) rows: Vec<(RowKey, Row)>,
    pub(crate) open: Vec<(ReservationId, Vec<(RowKey, Amount)>)>,
    /// Oldest first, with their numbers.
    pub(crate) events: VecDeque<(u64, Event)>,
    /// What the fleet's purse keeps, in its own words.
    pub(crate) kept: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) traces: Vec<(ReservationId, Trace)>,
}

/// What has changed and is not written. The latest of each row and reservation counts, so that it
/// never holds more than there are.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// `None` for a row that is forgotten.
    rows: HashMap<RowKey, Option<Row>>,
    /// `None` for a reservation that has ended.
    open: HashMap<ReservationId, Option<Arc<[Hold]>>>,
    /// `None` for an event that is forgotten.
    events: Vec<(u64, Option<Event>)>,
    /// `None` for what the fleet's purse keeps no more.
    kept: HashMap<Vec<u8>, Option<Vec<u8>>>,
    /// `None` for a charge whose record is written.
    traces: HashMap<ReservationId, Option<Trace>>,
    /// Grows with each change.
    change: u64,
    is_urgent: bool,
    is_closing: bool,
}

#[derive(Debug)]
struct Shared {
    draft: Mutex<Draft>,
    woken: Condvar,
    /// The last change that is on the disk.
    written: watch::Sender<u64>,
    is_broken: AtomicBool,
}

impl Draft {
    pub(crate) fn row(&mut self, key: &RowKey, row: Option<Row>) {
        self.rows.insert(key.clone(), row);
    }

    /// A call may leave.
    pub(crate) fn opens(&mut self, id: ReservationId, holds: &Arc<[Hold]>) {
        self.open.insert(id, Some(Arc::clone(holds)));
    }

    /// A call that may have left is settled, or had no effect.
    pub(crate) fn ends(&mut self, id: ReservationId) {
        // What nobody has written yet need not be taken out again.
        if !matches!(self.open.remove(&id), Some(Some(_))) {
            self.open.insert(id, None);
        }
    }

    pub(crate) fn event(&mut self, number: u64, event: Option<Event>) {
        self.events.push((number, event));
    }

    /// What the fleet's purse keeps under a name.
    pub(crate) fn keep(&mut self, name: Vec<u8>, value: Option<Vec<u8>>) {
        self.kept.insert(name, value);
    }

    /// A call was charged, and its record is not written yet.
    pub(crate) fn charged(&mut self, id: ReservationId, rows: Vec<(Name, Amount)>) {
        self.traces.insert(id, Some(Trace { cause: Cause::Unrecorded, since: None, rows }));
    }

    /// Its record is written.
    pub(crate) fn recorded(&mut self, id: ReservationId) {
        // What nobody has written yet need not be taken out again.
        if !matches!(self.traces.remove(&id), Some(Some(_))) {
            self.traces.insert(id, None);
        }
    }

    /// A charge that was just made is what was held: nobody knows what the call did.
    pub(crate) fn assumed(&mut self, id: ReservationId) {
        if let Some(Some(trace)) = self.traces.get_mut(&id) {
            trace.cause = Cause::Assumed;
        }
    }

    /// Dates what earlier lives left, and forgets the oldest of too many. Answers what is kept, with
    /// what this start has just assumed.
    pub(crate) fn keep_traces(
        &mut self,
        found: Vec<(ReservationId, Trace)>,
        now: Timestamp,
    ) -> Vec<(ReservationId, Trace)> {
        let mut kept: HashMap<ReservationId, Trace> = found.iter().cloned().collect();
        for (id, trace) in trace::bounded(found, now) {
            self.traces.entry(id).or_insert(trace);
        }
        for (id, trace) in &self.traces {
            match trace {
                Some(trace) => drop(kept.insert(*id, trace.clone())),
                None => drop(kept.remove(id)),
            }
        }
        kept.into_iter().collect()
    }

    /// Puts back what could not be written, under what has come since.
    fn put_back(&mut self, older: Self) {
        for (id, trace) in older.traces {
            self.traces.entry(id).or_insert(trace);
        }
        for (key, row) in older.rows {
            self.rows.entry(key).or_insert(row);
        }
        for (id, holds) in older.open {
            self.open.entry(id).or_insert(holds);
        }
        for (name, value) in older.kept {
            self.kept.entry(name).or_insert(value);
        }
        self.events.splice(0..0, older.events);
    }
}

impl Journal {
    /// Opens the journal, makes one on the first start, and starts its writer.
    ///
    /// # Errors
    /// When the file cannot be used, is damaged, or was written by a later version. It is left as
    /// it is: money is never forgotten silently.
    pub(crate) fn open(path: &Path) -> Result<(Self, Found), Error> {
        file::make(path)?;
        Self::over(file::open(path)?, path)
    }

    pub(crate) fn over(database: Database, path: &Path) -> Result<(Self, Found), Error> {
        let found = file::read(&database, path)?;
        let shared = Arc::new(Shared {
            draft: Mutex::default(),
            woken: Condvar::new(),
            written: watch::Sender::new(0),
            is_broken: AtomicBool::new(false),
        });
        let writer = Writer { shared: Arc::clone(&shared), path: path.to_owned() };
        let thread = std::thread::Builder::new().name("budgets".to_owned());
        let thread = thread.spawn(move || writer.run(database)).map_err(|cause| Error::Io {
            what: "start the writer of",
            path: path.to_owned(),
            cause,
        })?;
        Ok((Self { shared, writer: Mutex::new(Some(thread)) }, found))
    }

    /// Whether what is said to it does not reach the disk now.
    pub(crate) fn is_broken(&self) -> bool {
        self.shared.is_broken.load(Ordering::Relaxed)
    }

    /// Notes changes; they reach the disk soon. Answers the number to wait for.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Draft)) -> u64 {
        let mut draft = self.shared.draft.lock();
        change(&mut draft);
        draft.change += 1;
        if draft.change == self.written() + 1 {
            self.shared.woken.notify_one();
        }
        draft.change
    }

    /// Waits until a change is on the disk.
    pub(crate) async fn wait(&self, change: u64) -> Result<(), DispatchError> {
        let mut written = self.shared.written.subscribe();
        if *written.borrow() >= change {
            return Ok(());
        }
        {
            let mut draft = self.shared.draft.lock();
            draft.is_urgent = true;
            self.shared.woken.notify_one();
        }
        let written = written.wait_for(|written| *written >= change);
        match tokio::time::timeout(WRITE_MAX, written).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(DispatchError::Late),
        }
    }

    /// Writes what is left and ends the writer. `false` when something could not be written.
    pub(crate) fn close(&self) -> bool {
        self.shared.draft.lock().is_closing = true;
        self.shared.woken.notify_one();
        let thread = self.writer.lock().take();
        let ended = thread.is_none_or(|thread| thread.join().is_ok());
        ended && !self.is_broken()
    }

    /// The last change that is on the disk.
    pub(crate) fn written(&self) -> u64 {
        *self.shared.written.borrow()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads all that a journal says whose node does not run, and lets go of it.
///
/// # Errors
/// When the node runs, or the journal is damaged, of a later version, or cannot be read.
pub(super) fn read_whole(path: &Path) -> Result<Found, Error> {
    file::read(&file::open(path)?, path)
}

/// The thread that writes.
struct Writer {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Writer {
    fn run(self, database: Database) {
        let mut database = Some(database);
        while let Some(batch) = self.next() {
            let up_to = batch.change;
            let written = database
                .take()
                .map_or_else(|| file::open(&self.path), Ok)
                .and_then(|open| file::write(&open, &batch, &self.path).map(|()| open));
            match written {
                Ok(open) => {
                    database = Some(open);
                    if self.shared.is_broken.swap(false, Ordering::Relaxed) {
                        tracing::info!("the journal of the budgets is written again");
                    }
                    self.shared.written.send_replace(up_to);
                }
                // After an error redb wants the file to be opened again.
                Err(error) => self.fail(batch, &error),
            }
        }
    }

    /// What is to be written next: at once if somebody waits for it. `None` when all is written
    /// and nothing more comes.
    fn next(&self) -> Option<Draft> {
        let mut draft = self.shared.draft.lock();
        while draft.change == *self.shared.written.borrow() {
            if draft.is_closing {
                return None;
            }
            self.shared.woken.wait(&mut draft);
        }
        if !draft.is_urgent && !draft.is_closing {
            self.shared.woken.wait_while_for(
                &mut draft,
                |draft| !draft.is_urgent && !draft.is_closing,
                LINGER,
            );
        }
        let fresh =
            Draft { change: draft.change, is_closing: draft.is_closing, ..Draft::default() };
        Some(std::mem::replace(&mut *draft, fresh))
    }

    fn fail(&self, batch: Draft, error: &Error) {
        if !self.shared.is_broken.swap(true, Ordering::Relaxed) {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(
                %error,
                cause,
                "the journal of the budgets cannot be written: calls that need it are refused"
            );
        }
        let mut draft = self.shared.draft.lock();
        draft.put_back(batch);
        if draft.is_closing {
            // Nobody is left to try again for.
            self.shared.written.send_replace(draft.change);
            return;
        }
        self.shared.woken.wait_while_for(&mut draft, |draft| !draft.is_closing, RETRY);
    }
}

/// Longest wait of a call for the disk: then it is refused.
const WRITE_MAX: Duration = Duration::from_secs(2);

/// How long a change waits for others when nobody waits for it.
const LINGER: Duration = Duration::from_millis(50);

/// After a write that failed, the next is tried so much later.
const RETRY: Duration = Duration::from_secs(1);
