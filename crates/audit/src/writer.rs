//! The recorder's thread: takes entries, writes them in batches, hands them on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use model::Clock;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::Metrics;
use crate::entry::{Due, Entry};
use crate::file::Segments;
use crate::file_logger::{Lines, RouteFiles};
use crate::format;
use crate::json::Object;
use crate::metrics::Sink;
use crate::record;
use crate::syslog::Targets;

/// What the thread is told by: entries, the wish to reopen, the wish to end.
pub(crate) type Inputs = (mpsc::Receiver<Box<Entry>>, Arc<Notify>, oneshot::Receiver<Drain>);

/// The wish to end.
#[derive(Debug)]
pub(crate) struct Drain {
    pub(crate) deadline: Duration,
    pub(crate) done: oneshot::Sender<Left>,
}

/// What was not done by the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// Seats whose request has not ended.
    pub(crate) seats: u64,
    /// Records not written to the audit file or not forced to the disk.
    pub(crate) records: u64,
    /// Messages not sent to syslog servers.
    pub(crate) messages: u64,
}

/// The sinks, and what is owed to them.
pub(crate) struct Writer {
    segments: Segments,
    files: RouteFiles,
    syslog: Targets,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// Lines the audit file has not taken yet. While there are any, no entry is taken, so the
    /// queue fills and the gate refuses: that is the back-pressure of a full disk.
    lines: Vec<u8>,
    records: u64,
    /// What waits until there are none, one for each at most.
    dues: Vec<Due>,
    message: Vec<u8>,
    /// What has been logged as failing, so that it is logged once.
    is_failing: bool,
    is_unsynced: bool,
    is_stuck: bool,
}

impl Writer {
    pub(crate) fn new(
        segments: Segments,
        files: RouteFiles,
        syslog: Targets,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self {
            segments,
            files,
            syslog,
            clock,
            metrics,
            lines: Vec::new(),
            records: 0,
            dues: Vec::new(),
            message: Vec::new(),
            is_failing: false,
            is_unsynced: false,
            is_stuck: false,
        }
    }

    /// Starts the thread. It ends with a drain, or with the last sender of entries.
    pub(crate) fn start(self, inputs: Inputs, sync: Duration) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("recorder".to_owned()).spawn(move || {
            runtime.block_on(self.run(inputs, sync));
        })?;
        Ok(())
    }

    async fn run(mut self, inputs: Inputs, sync: Duration) {
        let (mut entries, reopen, mut drain) = inputs;
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut is_owned = true;
        let mut sync_at = None;
        let asked = loop {
            let is_owing = !self.lines.is_empty();
            tokio::select! {
                biased;
                () = reopen.notified() => self.reopen(),
                asked = &mut drain, if is_owned => match asked {
                    Ok(asked) => break Some(asked),
                    Err(_) => is_owned = false,
                },
                () = sleep(RETRY), if is_owing => self.write(),
                () = sleep_until(sync_at.unwrap_or_else(Instant::now)), if sync_at.is_some() => {
                    self.sync();
                    sync_at = None;
                }
                count = entries.recv_many(&mut batch, BATCH_MAX), if !is_owing => {
                    if count == 0 {
                        break None;
                    }
                    self.note_seats(&entries);
                    self.take(&mut batch);
                    self.write();
                    // While the writer naps, whoever records finds nobody to wake.
                    if count < BATCH_MAX {
                        sleep(NAP).await;
                    }
                }
            }
            if self.segments.is_dirty() && sync_at.is_none() {
                sync_at = Some(Instant::now() + sync);
            }
        };
        self.finish(entries, asked).await;
    }

    /// Writes, forces and sends what is left, then answers.
    async fn finish(mut self, mut entries: mpsc::Receiver<Box<Entry>>, asked: Option<Drain>) {
        let deadline = asked.as_ref().map_or(UNASKED, |asked| asked.deadline);
        let start = Instant::now();
        let (half, end) = (start + deadline / 2, start + deadline);
        entries.close();
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let count = timeout_at(half, entries.recv_many(&mut batch, BATCH_MAX)).await;
            if matches!(count, Ok(0) | Err(_)) {
                break;
            }
            self.take(&mut batch);
            self.write();
        }
        while !self.lines.is_empty() && Instant::now() < end {
            sleep(RETRY).await;
            self.write();
        }
        self.sync();
        self.note_seats(&entries);
        let left = self.syslog.drain(end.saturating_duration_since(Instant::now())).await;
        if let Some(flushed) = self.files.flush() {
            // A route's file that hangs must not hold up the end; its records were best effort.
            let _late = timeout_at(end, flushed).await;
        }
        let owed = if self.segments.is_dirty() { self.records.max(1) } else { self.records };
        let seats = (entries.max_capacity() - entries.capacity()) as u64;
        let left = Left { seats, records: owed, messages: left };
        // The audit file is closed before anybody is told.
        drop(self);
        if let Some(asked) = asked {
            let _nobody_waits = asked.done.send(left);
        }
    }

    /// Turns entries into lines and messages.
    #[expect(clippy::vec_box, reason = "the queue's own items, which are moved by their pointers")]
    fn take(&mut self, batch: &mut Vec<Box<Entry>>) {
        let mut routes: Vec<Lines> = Vec::new();
        for mut entry in batch.drain(..) {
            self.dues.extend(entry.due.take());
            let mut object = Object::begin(&mut self.lines);
            record::write(&mut object, &entry.outcome);
            object.end();
            self.lines.push(b'\n');
            self.records += 1;
            if let Some(logger) = &entry.loggers.file
                && let Some(wanted) = logger.decide(&entry.outcome, &entry.captures)
            {
                let rule = &logger.plugin.rule;
                let lines = lines_for(&mut routes, &rule.path);
                format::write(&mut lines.bytes, &entry, &rule.record, wanted);
                lines.bytes.push(b'\n');
                lines.records += 1;
            }
            if let Some(logger) = &entry.loggers.syslog
                && let Some(wanted) = logger.decide(&entry.outcome, &entry.captures)
            {
                let rule = &logger.plugin.rule;
                self.message.clear();
                format::write(&mut self.message, &entry, &rule.record, wanted);
                let at = entry.outcome.started;
                self.syslog.send(&rule.target, rule.batch, at, &self.message);
            }
        }
        routes.into_iter().for_each(|lines| self.files.write(lines));
    }

    /// Writes what the audit file is owed; what it does not take stays owed.
    fn write(&mut self) {
        let (written, result) = self.segments.append(&self.lines, self.clock.now());
        let is_all = written == self.lines.len();
        let done = self.lines.drain(..written);
        let records = if is_all {
            self.records
        } else {
            done.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64
        };
        drop(done);
        if self.lines.capacity() > BUFFER_BYTES_MAX && self.lines.is_empty() {
            self.lines = Vec::new();
        }
        self.records -= records;
        if self.lines.is_empty() {
            self.dues.clear();
        }
        self.metrics.wrote(Sink::audit, records, written);
        self.note(result.err());
        self.note_stuck();
    }

    fn sync(&mut self) {
        let result = self.segments.sync();
        self.note_sync(result.err());
    }

    fn reopen(&mut self) {
        let result = self.segments.reopen(self.clock.now());
        self.note_sync(result.err());
        self.files.reopen();
    }

    fn note_sync(&mut self, error: Option<io::Error>) {
        let Some(error) = error else {
            self.is_unsynced = false;
            return;
        };
        self.metrics.failed(Sink::audit);
        if !std::mem::replace(&mut self.is_unsynced, true) {
            tracing::error!(%error, "cannot force the audit file to the disk");
        }
    }

    /// Counts a failure, and logs once when the audit file fails and once when it works again.
    fn note(&mut self, error: Option<io::Error>) {
        let Some(error) = error else {
            let is_paid = self.lines.is_empty();
            if is_paid && std::mem::take(&mut self.is_failing) {
                tracing::info!("the audit file is written again");
            }
            return;
        };
        self.metrics.failed(Sink::audit);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(
                %error,
                "cannot write the audit file; records wait, and without seats requests are refused"
            );
        }
    }

    fn note_stuck(&mut self) {
        let Some(error) = self.segments.take_stuck() else {
            self.is_stuck = false;
            return;
        };
        self.metrics.failed(Sink::audit);
        if !std::mem::replace(&mut self.is_stuck, true) {
            tracing::error!(%error, "cannot rotate the audit file; it grows on");
        }
    }

    fn note_seats(&self, entries: &mpsc::Receiver<Box<Entry>>) {
        let taken = entries.max_capacity() - entries.capacity();
        self.metrics.seats.set(i64::try_from(taken).unwrap_or(i64::MAX));
    }
}

/// The lines of one file; few files are written in one batch, so a search is cheapest.
fn lines_for<'a>(routes: &'a mut Vec<Lines>, path: &Arc<str>) -> &'a mut Lines {
    let index = routes.iter().position(|lines| lines.path == *path).unwrap_or_else(|| {
        routes.push(Lines { path: Arc::clone(path), bytes: Vec::new(), records: 0 });
        routes.len() - 1
    });
    routes.get_mut(index).expect("the index was found or made above")
}

/// Entries of one write.
const BATCH_MAX: usize = 512;
/// How long entries gather while there is traffic.
const NAP: Duration = Duration::from_millis(2);
/// How long after a failed write the next is tried.
const RETRY: Duration = Duration::from_millis(250);
/// What the end may take when nobody asked for it.
const UNASKED: Duration = Duration::from_secs(5);
/// A buffer that grew beyond this is given back.
const BUFFER_BYTES_MAX: usize = 4 << 20;
