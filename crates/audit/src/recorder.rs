//! The recorder: seats, and the owner's end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::Clock;
use prometheus_client::metrics::counter::Counter;
use tokio::runtime;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use crate::Metrics;
use crate::entry::Entry;
use crate::file::{OpenError, Segments};
use crate::file_logger::RouteFiles;
use crate::syslog::Targets;
use crate::writer::{Drain, Left, Writer};

#[cfg(test)]
mod tests;

/// How a node records.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where `audit.jsonl` and its closed segments stand; made with mode 0700 if missing.
    pub directory: PathBuf,
    pub rotation: Rotation,
    /// Requests that may be on their way at once, from their seat to the write of their record,
    /// and 512 more that are being written. When full there is no seat, and the gate refuses.
    pub queue: usize,
    /// The longest a written record waits to be forced to the disk.
    pub sync: Duration,
    /// The gate's own name in syslog messages.
    pub hostname: Arc<str>,
    /// Whom syslog servers over TLS must be vouched for by.
    pub roots: Arc<rustls::RootCertStore>,
}

impl Options {
    /// The usual bounds.
    #[must_use]
    pub fn new(directory: PathBuf, hostname: &str, roots: Arc<rustls::RootCertStore>) -> Self {
        Self {
            directory,
            rotation: Rotation::default(),
            queue: QUEUE,
            sync: SYNC,
            hostname: Arc::from(hostname),
            roots,
        }
    }
}

/// When the audit file is closed and another begun: before it exceeds a size, and at midnight UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes a segment holds at most, one batch of records larger than that excepted.
    pub bytes_max: u64,
    /// Closed segments kept; beyond it the oldest is deleted.
    pub segments_max: usize,
    /// Closed segments older than this are deleted at the next rotation; `None` keeps them.
    pub age_max: Option<Duration>,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { bytes_max: 100 << 20, segments_max: 10, age_max: None }
    }
}

/// Why the recorder cannot start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open the audit file")]
    Open(#[source] OpenError),
    #[error("cannot record without a tokio runtime for the connections to syslog servers")]
    NoRuntime,
    #[error("cannot start a thread of the recorder")]
    Thread(#[source] io::Error),
    #[error(
        "the recorder ended with {seats} requests not recorded, {records} records not written \
         and {messages} not sent"
    )]
    Unfinished { seats: u64, records: u64, messages: u64 },
    #[error("the recorder's thread has ended")]
    Gone,
}

/// Gives out seats. Cheap to clone: one for each core.
#[derive(Clone, Debug)]
pub struct Recorder {
    entries: mpsc::Sender<Box<Entry>>,
    reopen: Arc<Notify>,
    refused: Counter,
}

/// A place in the record, taken before the request's trip begins. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "a request without a record must not be served"]
pub struct Seat(mpsc::OwnedPermit<Box<Entry>>);

/// The owner's end of the recorder. Without [`Handle::drain`] the recorder ends when the last
/// [`Recorder`] and [`Seat`] are gone.
#[derive(Debug)]
pub struct Handle {
    drain: oneshot::Sender<Drain>,
}

impl Recorder {
    /// Opens the audit file and starts the writer. Call it on the runtime that carries control
    /// work; the connections to syslog servers live there.
    ///
    /// # Errors
    /// When the directory or the file cannot be opened, another process records there, or there
    /// is no runtime.
    pub fn start(
        options: Options,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Result<(Self, Handle), Error> {
        let handle = runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let Options { directory, rotation, queue, sync, hostname, roots } = options;
        let segments = Segments::open(&directory, rotation, clock.now()).map_err(Error::Open)?;
        let files = RouteFiles::start(metrics.clone()).map_err(Error::Thread)?;
        let syslog = Targets::new(handle, roots, &hostname, metrics.clone());
        let (entries, waiting) = mpsc::channel(queue.max(1));
        let (drain, asked) = oneshot::channel();
        let reopen = Arc::new(Notify::new());
        let recorder =
            Self { entries, reopen: Arc::clone(&reopen), refused: metrics.refused.clone() };
        let writer = Writer::new(segments, files, syslog, clock, metrics);
        writer.start((waiting, reopen, asked), sync).map_err(Error::Thread)?;
        Ok((recorder, Handle { drain }))
    }

    /// A place in the record; `None` when all are taken or the recorder has ended.
    #[must_use]
    pub fn seat(&self) -> Option<Seat> {
        match self.entries.clone().try_reserve_owned() {
            Ok(permit) => Some(Seat(permit)),
            Err(_) => {
                self.refused.inc();
                None
            }
        }
    }

    /// Opens every file anew, as after a log rotator moved them away (SIGHUP). Nothing recorded
    /// is lost by it.
    pub fn reopen(&self) {
        self.reopen.notify_one();
    }
}

impl Seat {
    /// Hands the entry over. Never fails and never blocks.
    pub fn record(self, entry: Box<Entry>) {
        drop(self.0.send(entry));
    }
}

impl Handle {
    /// Ends the recorder: gives out no more seats, waits for those that are taken (for half of
    /// the deadline), and returns when everything is written, forced to the disk and sent, or the
    /// deadline has passed.
    ///
    /// # Errors
    /// When the deadline passed first; the text says how much is left.
    pub async fn drain(self, deadline: Duration) -> Result<(), Error> {
        let (done, wait) = oneshot::channel();
        self.drain.send(Drain { deadline, done }).map_err(|_| Error::Gone)?;
        // The thread keeps the deadline itself; this one is for a disk that hangs in a write.
        let left = timeout(deadline.saturating_add(HANG_MAX), wait).await;
        let Ok(Ok(left)) = left else { return Err(Error::Gone) };
        match left {
            Left { seats: 0, records: 0, messages: 0 } => Ok(()),
            Left { seats, records, messages } => {
                Err(Error::Unfinished { seats, records, messages })
            }
        }
    }
}

/// Seats, unless set otherwise: some 60 MB when every one of them holds a record.
const QUEUE: usize = 65_536;
/// How long a record waits to be forced to the disk, unless set otherwise.
const SYNC: Duration = Duration::from_secs(1);
/// How much longer than its deadline a drain waits for the writer's thread.
const HANG_MAX: Duration = Duration::from_secs(2);
